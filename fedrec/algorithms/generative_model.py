"""What `sequence` with objective `generative` releases: an encoder, and a decoder of the codes of the next item.

The score of an item is the log-probability of its codes. Here all items are scored; a device generates its list, see
`fedrec.ondevice.generative`.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedrec.algorithms.sequence_model import SequenceModel
from fedrec.data.new_items import NewItems
from fedrec.kernels.new_items import Predictor
from fedrec.sequences.base import SequenceEncoder
from fedrec.sequences.codes import coded, distinct, quantised
from fedrec.sequences.trie import CodeTrie, log_sums

TABLES, PREFIXES = "tables.", "prefixes."


class GenerativeModel(SequenceModel):
    """items (I, d), bias (I,), an encoder, codes (I, levels) and a decoder; score = log p(codes of the item).

    Args:
        items: vectors of events.
        bias: weighted logarithm of popularity.
        encoder: trained.
        about: as of `SequenceModel`.
        codes: int32, no two items alike.
        books: (levels - 1, size, d) centroids of the codes, for items that are new.
        decoder: `tables.0`, `prefixes.0`, ...: the parameters of `fedrec.sequences.decoder`.
    """

    kind: ClassVar[str] = "generative"

    def __init__(
        self,
        items: Tensor,
        bias: Tensor,
        encoder: SequenceEncoder,
        about: Mapping[str, Any],
        codes: Tensor,
        books: Tensor,
        decoder: Mapping[str, Tensor],
    ) -> None:
        super().__init__(items, bias, encoder, about)
        self.codes, self.books, self.decoder = codes, books, dict(decoder)

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        vector = float(self.about["scale"]) * state["vector"]
        found = vector.new_zeros(len(vector), 1)
        for level, rows, mass in zip(self._trie.levels, self._rows, self._trie.masses(self.bias), strict=True):
            logits = torch.addmm(mass, vector, rows.mT)  # (B, prefixes)
            sums = log_sums(logits, level.parents, found.shape[1])
            found = found[:, level.parents] + logits - sums[:, level.parents]
        found = found[:, self._trie.levels[-1].of_items]
        return found if candidates is None else found.gather(1, candidates)

    @cached_property
    def _trie(self) -> CodeTrie:
        return CodeTrie(self.codes.long())

    @cached_property
    def _rows(self) -> list[Tensor]:
        """For each level (prefixes, d): the vector of the last code, times the gate of the codes before."""
        found = []
        for place, level in enumerate(self._trie.levels):
            gate = torch.ones_like(self.decoder[f"{TABLES}{place}"][:1])
            for before in range(place):
                gate = gate + self.decoder[f"{PREFIXES}{before}"][level.paths[:, before]]
            found.append(gate * self.decoder[f"{TABLES}{place}"][level.paths[:, place]])
        return found

    def with_new_items(self, items: NewItems) -> "GenerativeModel":
        """Give new items the codes nearest to their public vectors, so that they can be generated.

        Public vectors of new items are predicted from public features, as vectors of events are.
        """
        predictor = Predictor(items)
        trained, new = torch.from_numpy(items.trained), torch.from_numpy(items.new).nonzero()[:, 0]
        public = predictor.widened(quantised(self.codes[:, :-1].long(), self.books))
        order = torch.cat([trained, new])  # a trained item keeps its last code
        codes = torch.cat([self.codes[:, :-1].long(), coded(public[new].to(self.books), self.books)])
        wider = torch.empty(len(order), self.codes.shape[1], dtype=self.codes.dtype)
        wider[order] = distinct(codes).to(self.codes.dtype)
        last = f"{TABLES}{self.codes.shape[1] - 1}"
        more = max(0, int(wider[:, -1].max()) + 1 - len(self.decoder[last]))
        table = torch.nn.functional.pad(self.decoder[last], (0, 0, 0, more))
        decoder = self.decoder | {last: table}
        rows, bias = predictor.widened(self.items), items.at_median(self.bias)
        return GenerativeModel(rows, bias, self.encoder, self.about, wider, self.books, decoder).by(self.made_by)

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {"codes": self.codes, "books": self.books} | self.decoder

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "GenerativeModel":
        base = SequenceModel.restore(tensors, manifest)
        decoder = {name: value for name, value in tensors.items() if name.startswith((TABLES, PREFIXES))}
        return cls(base.items, base.bias, base.encoder, base.about, tensors["codes"], tensors["books"], decoder)
