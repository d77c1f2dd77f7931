"""ReleasedModel: what a device gets of a finished run, with the local solver. It never sends anything."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.errors import InputError


class ReleasedModel(ABC):
    """The model on a device, with the local solver: fit a private state, fold in an event, rank. It sends nothing."""

    kind: ClassVar[str]
    made_by: str = ""
    """The algorithm that released the model, if several release models of this kind."""
    in_double: ClassVar[bool] = False
    """True if the model computes in float64 once its tensors are float64; its lists are then ranked in float64."""

    @property
    def called(self) -> str:
        """The name of the model in messages: that of its algorithm."""
        return self.made_by or self.kind

    def by(self, algorithm: str) -> Self:
        """Return this model, marked as released by `algorithm`."""
        self.made_by = algorithm
        return self

    @abstractmethod
    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """The users' private states, every tensor with leading dimension B. They stay on the device."""

    @abstractmethod
    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        """Scores (B, items), or (B, C) for candidates (B, C) int64. Higher is better."""

    @abstractmethod
    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        """The states after one more event each; items (B,) int64. Equals `fit` on the longer history."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that `restore` needs, as named tensors (safetensors holds them; nothing is pickled)."""

    def manifest(self) -> dict[str, Any]:
        """JSON-able settings that `restore` needs beside the tensors."""
        return {}

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "ReleasedModel":
        """The inverse of `tensors` and `manifest`."""

    def item_rows(self, items: Tensor) -> Tensor | None:
        """Rows (n, width) of items (n,), whose cosine is the likeness of two items; None where the model has none."""
        return None

    def explain(self, state: dict[str, Tensor], candidates: Tensor) -> dict[str, Tensor]:
        """Compute what each group of features adds to the scores of candidates (B, C), relative to an average item.

        Returns:
            (B, C) by group; empty for a model without features.
        """
        return {}

    def with_new_items(self, items: NewItems) -> "ReleasedModel":
        """Return the model over a larger catalogue, whose new items are placed by their public features alone.

        Scores of popularity are the same for all new items.

        Raises:
            InputError: for a model that has no place for an item without events.
        """
        raise InputError(
            f"'{self.called}' has no place for items that training never had; use kernel-rank, content, "
            "tower-sgd, sequence, als or spectral, with public features of the items"
        )

    @cached_property
    def precise(self) -> "ReleasedModel":
        """This model with its numbers in float64, where the model can compute in it; else this model."""
        if not self.in_double:
            return self
        wide = {
            name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in self.tensors().items()
        }
        return self.restore(wide, self.manifest())

    def to(self, device: torch.device | str) -> "ReleasedModel":
        """Return the same model with its tensors on `device`."""
        return self.restore({name: tensor.to(device) for name, tensor in self.tensors().items()}, self.manifest())

    def recommend(self, users: UserBatch, k: int, *, seen: bool = False) -> tuple[Tensor, Tensor]:
        """Return each user's k best items and their scores, (B, k) each.

        Items of the history are left out unless `seen`, and dislikes always. If fewer than k items remain, the other
        places have item -1 and score -inf. Equal scores are in a hashed order of the items, the same for all users and
        devices, and never in that of the catalogue. Scores are computed in float64 where the model can (`in_double`)
        and rounded to float32 before they are ranked, so that a list does not depend on how a library sums.
        """
        scores = self.precise.score(self.precise.fit(users)).float()
        if not seen:
            scores[users.owners, users.items] = -math.inf
        if users.disliked is not None:
            rows, places = (users.disliked >= 0).nonzero(as_tuple=True)
            scores[rows, users.disliked[rows, places]] = -math.inf
        values, items = _largest(scores, min(k, scores.shape[1]))
        return items.masked_fill(values == -math.inf, -1), values


def or_popular(scores: Tensor, silent: Tensor, popularity: Tensor, candidates: Tensor | None) -> Tensor:
    """Scores (B, C) in which `silent` users (B,) bool, of whose taste nothing is known, get the popularity instead.

    Args:
        scores: of candidates (B, C), or of every item.
        silent: (B,) bool, a function of each user's own state.
        popularity: (items,), released or public.
        candidates: (B, C) int64 item positions; None for every item.
    """
    if not bool(silent.any()):
        return scores
    fallback = popularity[None] if candidates is None else popularity[candidates]
    return torch.where(silent[:, None], fallback.to(scores.dtype), scores)


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row (B, items), descending, and where they are, (B, k) each; ties by a hash."""
    values, places = scores.topk(k, dim=1)
    if not k:
        return values, places
    edge = values[:, -1:]
    tied = (values[:, 1:] == values[:, :-1]).any(1) | ((scores == edge).sum(1) > (values == edge).sum(1))
    rows = tied.nonzero()[:, 0]
    if len(rows):
        order = draws.keys(0, torch.arange(scores.shape[1], device=scores.device)).argsort()
        turned = scores[rows][:, order].sort(dim=1, descending=True, stable=True)
        places[rows] = order[turned.indices[:, :k]]
    return values, places
