"""Errors of predicted ratings: RMSE, MAE, and the share that rounds to the right one.

Source: Herlocker et al. 2004. Errors are pooled over all held-out ratings of all users, as in RecBole and in LensKit's
global aggregates. One pass over chunks of users keeps three sums. What a model predicts is compared as it is; models
clip to the public scale themselves.

The honest baselines are means of the training ratings, of all of them, of the user, of the item, and of both
(user mean + item mean - global mean), clipped to the range of the training ratings. A user or item without one gets
the global mean. None of them is private.
"""

import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.data.users import UserBatch
from fedrec.errors import FedrecError, InputError

MAX_PREDICTIONS = 1 << 20


@runtime_checkable
class RatingModel(Protocol):
    """A released model that also predicts ratings, as `rating_errors` needs it."""

    @property
    def called(self) -> str:
        """The name in messages."""

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """Compute the users' private states."""

    def predict(self, state: dict[str, Tensor], candidates: Tensor) -> Tensor:
        """Predict the ratings (B, C) of candidates (B, C) int64, on the scale of the log."""


def rating_errors(
    model: RatingModel,
    split: Split,
    users: np.ndarray | None = None,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    order_free: bool = False,
    max_predictions: int = MAX_PREDICTIONS,
) -> dict[str, float]:
    """Compute "rmse", "mae", "accuracy" and the number of held-out "ratings".

    The accuracy is the share of predictions whose nearest rating level, among those of the training events, is the true
    one. It needs rated training events.

    Args:
        model: on `device`.
        split: with rated held-out events.
        users: positions, None for all.
        device: where the predictions are computed.
        seed: of the users' local randomness.
        order_free: True if the model ignores the order of a device's events.
        max_predictions: most predictions in memory at a time.

    Raises:
        InputError: when nothing rated is held out.
        FedrecError: on NaN.
    """
    if split.many is None or split.many.ratings is None:
        raise InputError("ratings: the split holds out no rated events; use 'ratio' or 'k-fold' on a log with ratings")
    rated = split.many.keep(~np.isnan(split.many.ratings))
    chosen = np.arange(len(rated)) if users is None else np.asarray(users, dtype=np.int64)
    chosen = chosen[rated.lengths[chosen] > 0]
    if not len(chosen):
        raise InputError("ratings: none of the users has a held-out item with a rating")
    trained = split.rated_train.ratings
    levels = None if trained is None else torch.from_numpy(np.unique(trained[~np.isnan(trained)])).to(device)
    squares = absolute = right = 0.0
    events = 0
    most = int(rated.lengths[chosen].max())
    for part in np.array_split(chosen, math.ceil(len(chosen) * most / max_predictions)):
        known = split.device.batch(part, seed, device)
        held = rated.batch(part, seed, device)
        assert held.ratings is not None
        place = torch.arange(len(held.items), device=held.device) - held.offsets[:-1][held.owners]
        candidates = held.items.new_zeros(len(part), most)
        candidates[held.owners, place] = held.items
        state = model.fit(known.unordered() if order_free else known)
        predicted = model.predict(state, candidates)[held.owners, place].double()
        if bool(predicted.isnan().any()):
            raise FedrecError(f"model '{model.called}': NaN among its predicted ratings; its training diverged")
        error = predicted - held.ratings.double()
        squares += float(error.square().sum())
        absolute += float(error.abs().sum())
        if levels is not None:
            right += float((_nearest(levels.double(), predicted) == held.ratings.double()).sum())
        events += len(error)
    result = {"rmse": math.sqrt(squares / events), "mae": absolute / events}
    return result | ({} if levels is None else {"accuracy": right / events}) | {"ratings": float(events)}


def mean_errors(split: Split) -> dict[str, dict[str, float]]:
    """Compute "rmse" and "mae" of the four means, by name; see the module.

    Raises:
        InputError: when nothing rated is held out, or nothing rated is known.
    """
    if split.many is None or split.many.ratings is None or split.rated_train.ratings is None:
        raise InputError("ratings: the split holds out no rated events; use 'ratio' or 'k-fold' on a log with ratings")
    held = split.many.keep(~np.isnan(split.many.ratings))
    own = split.device.keep(_known(split.device))
    train = split.rated_train.keep(_known(split.rated_train))
    if not len(train.items) or not len(held.items):
        raise InputError("ratings: no rated event is known, or none is held out")
    assert train.ratings is not None
    assert held.ratings is not None
    whole = float(train.ratings.mean(dtype=np.float64))
    user = _means(own.owners, own.ratings, len(own), whole)[held.owners]
    item = _means(train.items, train.ratings, train.n_items, whole)[held.items]
    low, high = float(train.ratings.min()), float(train.ratings.max())
    found = {}
    for name, predicted in (
        ("global mean", np.full(len(held.items), whole)),
        ("user mean", user),
        ("item mean", item),
        ("user and item means", user + item - whole),
    ):
        error = predicted.clip(low, high) - held.ratings
        found[name] = {"rmse": float(np.sqrt(np.square(error).mean())), "mae": float(np.abs(error).mean())}
    return found


def _known(histories: Histories) -> np.ndarray:
    if histories.ratings is None:
        return np.zeros(len(histories.items), dtype=bool)
    known: np.ndarray = ~np.isnan(histories.ratings)
    return known


def _means(groups: np.ndarray, ratings: np.ndarray | None, count: int, otherwise: float) -> np.ndarray:
    assert ratings is not None
    lengths = np.bincount(groups, minlength=count)
    totals = np.bincount(groups, ratings.astype(np.float64), minlength=count)
    return np.where(lengths > 0, totals / np.maximum(lengths, 1), otherwise)


def _nearest(levels: Tensor, values: Tensor) -> Tensor:
    """Return the level (ascending) nearest to each value; halfway, the higher one."""
    middles = (levels[1:] + levels[:-1]) / 2
    return levels[torch.searchsorted(middles, values, right=True)]
