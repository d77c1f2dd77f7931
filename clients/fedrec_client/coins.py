"""Secret coins on a node: each user's own coin decides between its contribution and zeros, for the same work.

A coin is drawn for one charge, from the operating system's CSPRNG, and is forgotten with the answer: it is written
nowhere, logged nowhere, and sent nowhere. The same question asked again gets the answer that was given, or is charged
again and gets new coins and new noise.

Every user's contribution is computed, clipped and encoded, whatever the coin: it goes into the sum that leaves, or into
one that is dropped. Work, size, receipt and device ledger are the same. No proof covers the time of an instruction.
"""

from typing import TYPE_CHECKING

import numpy as np

from fedrec.errors import PrivacyError
from fedrec.privacy.discrete.stream import WordStream

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fedrec.privacy.integers import Integers
    from fedrec.privacy.queries import Contribution, SumQuery

_PRECISION = 53  # bits of a float64: `sampling * 2^53` is exact


def draw(users: int, sampling: float, words: WordStream) -> np.ndarray:
    """Draw a coin for each of `users`, (users,) bool: True with a probability of `sampling`, rounded down."""
    return (words.words(users) >> np.uint64(64 - _PRECISION)) < np.uint64(int(sampling * 2.0**_PRECISION))


class CoinedIntegers:
    """Integers of the users who count, with the same work for the others.

    Args:
        inner: encodes the contributions.
        counted: (C,) bool: who of the cohort counts, in the order in which the cohort is computed.
    """

    def __init__(self, inner: "Integers", counted: np.ndarray) -> None:
        import torch

        self._inner, self._counted = inner, torch.from_numpy(counted)
        self._done: dict[str, int] = {}
        self._dropped: dict[str, Tensor] = {}

    def zeros(self, query: "SumQuery", round_index: int, device: "torch.device") -> "Tensor":
        self._done[query.name] = 0
        self._dropped[query.name] = self._inner.zeros(query, round_index, device)
        return self._inner.zeros(query, round_index, device)

    def add(
        self,
        total: "Tensor",
        query: "SumQuery",
        round_index: int,
        contribution: "Contribution",
        weights: "Tensor",
        keys: "Tensor",
    ) -> None:
        start = self._done[query.name]
        self._done[query.name] = end = start + len(keys)
        if end > len(self._counted):
            raise PrivacyError(f"round {round_index}, query '{query.name}': more users than coins")
        counted = self._counted[start:end].to(weights.device)
        for into, who in ((total, counted), (self._dropped[query.name], ~counted)):
            self._inner.add(into, query, round_index, contribution, weights.masked_fill(~who, 0.0), keys)
