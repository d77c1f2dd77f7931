"""The users of a measurement: those of a dataset, or any number of generated ones."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig, load
from fedrec.data.histories import Histories
from fedrec.data.synthetic import SyntheticUsers
from fedrec.data.users import UserBatch


@dataclass(frozen=True)
class WithoutNewest:
    """Generated users whose newest event nobody trains on.

    Attributes:
        whole: the users with that event.
    """

    whole: SyntheticUsers

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self.whole.n_items

    def keys(self, users: np.ndarray, seed: int) -> Tensor:
        """Return the keys of the users at positions `users`, (B,) int64."""
        return self.whole.keys(users, seed)

    def batch(self, users: np.ndarray, seed: int, device: torch.device | str = "cpu") -> UserBatch:
        """Return the users at positions `users` without their newest event."""
        batch = self.whole.batch(users, seed, device)
        items = batch.items.view(len(users), -1)[:, :-1].flatten()
        return replace(batch, items=items, lengths=batch.lengths - 1, memory={})


def open_users(job: dict[str, Any]) -> tuple[Histories | SyntheticUsers | WithoutNewest, Catalogue]:
    """The users that the job's "dataset" names; "synthetic" takes "users", "items" and "interactions_per_user".

    With "evaluated" each generated user has one event more, which is withheld from training.
    """
    if job["dataset"] == "synthetic" and job.get("evaluated"):
        whole = SyntheticUsers(job["users"], job["items"], job["interactions_per_user"] + 1, job["seed"])
        return WithoutNewest(whole), Catalogue(tuple(map(str, range(job["items"]))))
    if job["dataset"] == "synthetic":
        source = SyntheticUsers(job["users"], job["items"], job["interactions_per_user"], job["seed"])
        return source, Catalogue(tuple(map(str, range(job["items"]))))
    folder = Path(job["data_dir"]) if job["data_dir"] else None
    dataset = load(DataConfig(name=job["dataset"]), folder, job["seed"])
    return dataset.histories, dataset.catalogue


def histories(job: dict[str, Any]) -> Histories:
    """The same users with all their events in memory."""
    source, _ = open_users(job)
    if isinstance(source, Histories):
        return source
    assert isinstance(source, SyntheticUsers)
    batch = source.batch(np.arange(len(source)), job["seed"])
    return Histories(batch.offsets.numpy(), batch.items.numpy().astype(np.int32), source.n_items)
