"""What `sequence` releases: item vectors, the popularity, and the encoder of a device's own history.

A user's state holds the newest events, and the mean of all vectors for a user whose order is unknown. The prediction is
computed anew after each event, so folding in equals a refit.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedrec.algorithms.sequence_examples import Windows
from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.kernels.new_items import Predictor
from fedrec.model import ReleasedModel
from fedrec.sequences.base import SequenceEncoder
from fedrec.sequences.tower import taste

PREFIX = "encoder."
_USERS_AT_ONCE = 256


class SequenceModel(ReleasedModel):
    """items (I, d), bias (I,) and an encoder; score = scale * <prediction, item> + bias.

    Args:
        items: vectors.
        bias: weighted logarithm of popularity.
        encoder: trained.
        about: JSON-able: `encoder` (its name and settings), `length`, `scale`.
    """

    kind: ClassVar[str] = "sequence"
    in_double = True

    def __init__(self, items: Tensor, bias: Tensor, encoder: SequenceEncoder, about: Mapping[str, Any]) -> None:
        self.items, self.bias, self.encoder, self.about = items, bias, encoder, dict(about)

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """window (B, length) the newest events, then -1; count (B,) of them; ordered (B,); vector (B, d)."""
        window = Windows.of(users, int(self.about["length"]))
        return self._state(window)

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        window, count = state["window"], state["count"]
        full = count == window.shape[1]
        moved = torch.where(full[:, None], window.roll(-1, 1), window)
        place = torch.where(full, count - 1, count)
        moved = moved.scatter(1, place[:, None], items[:, None])
        return self._state(Windows(moved, place + 1, state["ordered"]))

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        vector = float(self.about["scale"]) * state["vector"]
        if candidates is None:
            return torch.addmm(self.bias, vector, self.items.mT)
        return torch.bmm(self.items[candidates], vector[:, :, None])[:, :, 0] + self.bias[candidates]

    def item_rows(self, items: Tensor) -> Tensor:
        return self.items[items]

    def with_new_items(self, items: NewItems) -> "SequenceModel":
        """Predict the vectors of new items from public features; the encoder stays as it is."""
        wider, bias = Predictor(items).widened(self.items), items.at_median(self.bias)
        return SequenceModel(wider, bias, self.encoder, self.about).by(self.made_by)

    def tensors(self) -> dict[str, Tensor]:
        own = {PREFIX + name: value.detach() for name, value in self.encoder.named_parameters()}
        return {"items": self.items, "bias": self.bias} | own

    def manifest(self) -> dict[str, Any]:
        return self.about

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "SequenceModel":
        from fedrec.algorithms.sequence_settings import encoder_config

        items = tensors["items"]
        kind, config = encoder_config(manifest["encoder"])
        encoder = kind(config, items.shape[1], int(manifest["length"]), 0).to(items)
        encoder.load_state_dict({name: tensors[PREFIX + name] for name, _ in encoder.named_parameters()})
        return cls(items, tensors["bias"], encoder, manifest)

    def _state(self, window: Windows) -> dict[str, Tensor]:
        state = {"window": window.items, "count": window.counts, "ordered": window.ordered}
        vectors = self.items.new_zeros(len(window.items), self.items.shape[1])
        known = bool(window.ordered.all())
        with torch.no_grad():
            for some in torch.arange(len(vectors), device=vectors.device).split(_USERS_AT_ONCE):
                longest = max(1, int(window.counts[some].max()))
                items, last = window.items[some, :longest], (window.counts[some] - 1).clamp(min=0)[:, None]
                made = taste(
                    self.encoder,
                    self.items[items.clamp(min=0)],
                    items >= 0,
                    last,
                    None if known else window.ordered[some],
                )
                vectors[some] = made[:, 0] * (window.counts[some] > 0)[:, None]
        return state | {"vector": vectors}
