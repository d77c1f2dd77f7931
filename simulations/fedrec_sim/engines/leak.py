"""`evaluation.leaky_negatives`: the leak of published federated recommenders, reproduced on purpose, and nowhere else.

PFedRec, GPFedRec, FedRAP and others draw training negatives from outside the train AND test items of a user. So the
held-out item is never a negative, while the items that it is ranked against are. The leak is part of their figures.
With the switch on, devices here avoid the held-out item too, so that published, leaky and clean figures can be
compared. Every output of such a run has a warning. This module alone fills `UserBatch.avoid`.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.data.users import UserBatch
from fedrec.errors import InputError

STAMP = "LEAKY NEGATIVES"
NOTE = (
    f"{STAMP} (evaluation.leaky_negatives): training negatives avoided each user's held-out item, as in published "
    "code that leaks it; the metrics are inflated and no measure of quality"
)


@dataclass(frozen=True)
class LeakyHistories(Histories):
    """Histories with an item for each user that is never drawn: held_out (users,) int64, -1 for none."""

    held_out: np.ndarray = field(kw_only=True)

    @classmethod
    def of(cls, histories: Histories, held_out: np.ndarray) -> "LeakyHistories":
        """Return `histories` with the leak."""
        return cls(**vars(histories), held_out=held_out)

    def select(self, users: np.ndarray) -> "LeakyHistories":
        return LeakyHistories(**vars(super().select(users)) | {"held_out": self.held_out[users]})

    def batch(self, users: np.ndarray, seed: int, device: torch.device | str = "cpu") -> UserBatch:
        avoid = torch.from_numpy(self.held_out[users].astype(np.int64)).to(device)
        return replace(super().batch(users, seed, device), avoid=avoid)


def leaky(split: Split) -> Split:
    """Return `split` with devices that avoid the held-out item, in training and in the private fit.

    Raises: InputError for a split with several held-out items a user, or held-out users: no published leak is like it.
    """
    if split.many is not None or len(split.train) != len(split.targets):
        raise InputError(
            "evaluation.leaky_negatives: made for one held-out item a user, as in the published figures; use "
            "data.split = 'leave-one-out' or 'ncf', or leave the switch off"
        )
    train, device = (LeakyHistories.of(one, split.targets) for one in (split.train, split.device))
    return replace(split, train=train, device=device, leaky=True)
