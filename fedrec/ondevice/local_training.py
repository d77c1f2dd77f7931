"""Device forms of the models that a device fits by gradient steps: fedrecon, pfedrec and fedncf.

The steps are those of `fedrec.algorithms.local_training`, on the same examples: the same events and negatives, drawn by
`fedrec.ondevice.draws`. A new event changes the draw, so the private vector is rebuilt from the whole history.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice import draws
from fedrec.ondevice.base import ROUNDING, Block, DeviceModel
from fedrec.ondevice.exact import distinct_of, products
from fedrec.ondevice.history import History, State
from fedrec.ondevice.item_table import ItemTable
from fedrec.ondevice.source import Source

_EVENT, _NEGATIVE = 0x80, 0x81  # streams of `fedrec.algorithms.local_examples`


@dataclass(frozen=True)
class Examples:
    """What a device trains on: each item once, and how often it is there as an event, and in all; (m,) each."""

    items: np.ndarray
    events: np.ndarray
    examples: np.ndarray

    def error(self, scores: np.ndarray) -> np.ndarray:
        """Slope (m,) of the mean binary cross-entropy in the scores (m,)."""
        count = max(float(self.examples.sum()), 1.0)
        return (self.examples / (1 + np.exp(-scores)) - self.events) / count


def draw_examples(history: History, n_items: int, events: int, negatives: int) -> Examples:
    """Up to `events` events of the history, each with `negatives` uniform draws from outside of it."""
    key = np.array([history.key], np.uint64)
    place = np.arange(len(history), dtype=np.uint64)
    value = draws.uniform(draws.mix(draws.mix(key) + place), _EVENT, 1)[:, 0]
    chosen = history.items[np.argsort(value, kind="stable")][:events]
    drawn = uniform_negatives(history, n_items, len(chosen) * negatives, _NEGATIVE)
    items = np.concatenate([chosen, drawn])
    label = np.concatenate([np.ones(len(chosen)), np.zeros(len(drawn))])
    distinct, where, count = np.unique(items, return_inverse=True, return_counts=True)
    return Examples(distinct, np.bincount(where, label, len(distinct)), count.astype(np.float64))


def uniform_negatives(history: History, n_items: int, count: int, stream: int) -> np.ndarray:
    """Draw uniformly from outside a history, (count,) int64, as `fedrec.data.users.UserBatch.negatives`."""
    key = np.array([history.key], np.uint64)
    known = distinct_of(history.items)
    outside = n_items - len(known)
    high = outside if outside > 0 else n_items
    drawn = np.minimum((draws.uniform(key, stream, count)[0] * high).astype(np.int64), high - 1)
    if outside > 0:
        drawn = drawn + np.searchsorted(known - np.arange(len(known)), drawn, side="right")
    many = len(history.disliked)
    if many:
        u = draws.uniform(draws.mix(key), stream, count // 2)[0]
        drawn[1::2] = history.disliked[np.minimum((u * many).astype(np.int64), many - 1)]
    return drawn


class LocalForm(DeviceModel):
    """table (items, w), network (K,) and popularity (items,), for a user without a history."""

    tables = {"table": False}

    def __init__(
        self, table: ItemTable, network: np.ndarray, popularity: np.ndarray, settings: Mapping[str, Any]
    ) -> None:
        self.table, self.network, self.popularity = table, network.astype(np.float64), popularity
        self.settings, self.n_items = dict(settings), table.items

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "LocalForm":
        return cls(source.table("table"), source.read("network"), source.read("popularity"), settings)

    @abstractmethod
    def rebuild(self, rows: np.ndarray, examples: Examples) -> np.ndarray:
        """The private vector after gradient steps from zero on the items' rows (m, w) float64."""

    def start(self, history: History) -> dict[str, np.ndarray]:
        return {}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        pass

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        if not len(history):
            return {}
        examples = draw_examples(history, self.n_items, self.settings["events"], self.settings["negatives"])
        rows = self.table.rows(examples.items).astype(np.float64)
        return {"private": self.rebuild(rows, examples)}

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        if not len(state.history):
            return self.popularity[items].astype(np.float64)
        return self.personal(state, items)

    def scan(self, state: State) -> Iterator[Block]:
        if not len(state.history):
            yield Block(0, self.popularity, 0.0)
        else:
            yield from self.scan_personal(state)

    @abstractmethod
    def personal(self, state: State, items: np.ndarray) -> np.ndarray:
        """`exact` for a user with a history."""

    @abstractmethod
    def scan_personal(self, state: State) -> Iterator[Block]:
        """`scan` for a user with a history."""

    def item_rows(self, items: np.ndarray) -> np.ndarray | None:
        return self.table.rows(items)


class PFedRecForm(LocalForm):
    """A linear layer of the user's own on the item vectors: private (w + 1,), the last entry its bias."""

    kind: ClassVar[str] = "pfedrec"

    def rebuild(self, rows: np.ndarray, examples: Examples) -> np.ndarray:
        private = np.zeros(self.table.dim + 1)
        for _ in range(self.settings["steps"]):
            slope = self.settings["rate"] * examples.error(rows @ private[:-1] + private[-1])
            private[:-1] -= slope @ rows
            private[-1] -= slope.sum()
        return private

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        """With a copy of the rows of its own, the scores of the examples are those of the tuned copy."""
        found = super().solve(sums, history)
        if not found or not self.settings["own_steps"]:
            return found
        examples = draw_examples(history, self.n_items, self.settings["events"], self.settings["negatives"])
        rows, private = self.table.rows(examples.items).astype(np.float64), found["private"]
        for _ in range(self.settings["own_steps"]):
            slope = self.settings["own_rate"] * examples.error(rows @ private[:-1] + private[-1])
            rows -= slope[:, None] * private[:-1]
        return found | {"own_items": examples.items, "own_scores": products(rows, private[:-1]) + private[-1]}

    def personal(self, state: State, items: np.ndarray) -> np.ndarray:
        private = state.sums["private"]
        scores = self.table.products(private[:-1], items) + private[-1]
        if "own_items" in state.sums:
            own = state.sums["own_items"]
            place = np.searchsorted(own, items).clip(max=len(own) - 1)
            scores = np.where(own[place] == items, state.sums["own_scores"][place], scores)
        return scores

    def scan_personal(self, state: State) -> Iterator[Block]:
        private = state.sums["private"]
        own = state.sums.get("own_items", np.zeros(0, np.int64))
        for block in self.table.scan(private[:-1], constant=float(private[-1])):
            first, stop = np.searchsorted(own, (block.start, block.start + len(block.scores)))
            if first < stop:
                scores = state.sums["own_scores"][first:stop].astype(np.float32)
                block.scores[own[first:stop] - block.start] = scores
                assert isinstance(block.errors, np.ndarray)
                block.errors[own[first:stop] - block.start] = np.float32(2 * ROUNDING) * np.abs(scores)
            yield block


class FedReconForm(PFedRecForm):
    """Matrix factorisation with a bias of the user; scored as `pfedrec`."""

    kind: ClassVar[str] = "fedrecon"


class FedNCFForm(LocalForm):
    """A weighted product of two vectors, and a network on another two, added; private (2 d,)."""

    kind: ClassVar[str] = "fedncf"

    def __init__(
        self, table: ItemTable, network: np.ndarray, popularity: np.ndarray, settings: Mapping[str, Any]
    ) -> None:
        super().__init__(table, network, popularity, settings)
        dim = self._dim = table.dim // 2
        hidden = (len(network) - dim) // (2 * dim + 2)
        ends = np.cumsum([dim, 2 * dim * hidden, hidden])
        self.product, wide, self.bias, self.output = np.split(self.network, ends)
        self.by_user, self.by_item = wide.reshape(2, hidden, dim)

    def _view(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rows[:, : self._dim], rows[:, self._dim :] @ self.by_item.T

    def rebuild(self, rows: np.ndarray, examples: Examples) -> np.ndarray:
        private = np.zeros(self.table.dim)
        factors, units = self._view(rows)
        for _ in range(self.settings["steps"]):
            before = units + (self.by_user @ private[self._dim :] + self.bias)
            scores = factors @ (self.product * private[: self._dim]) + np.maximum(before, 0) @ self.output
            slope = self.settings["rate"] * examples.error(scores)
            through = (slope @ (before > 0)) * self.output
            private = private - np.concatenate([self.product * (slope @ factors), through @ self.by_user])
        return private

    def personal(self, state: State, items: np.ndarray) -> np.ndarray:
        return self._scores(state.sums["private"], self.table.rows(items).astype(np.float64))

    def scan_personal(self, state: State) -> Iterator[Block]:
        """The network bends the scores, so every item is scored in full; the error is that of the rounding."""
        for start, rows in self.table.blocks():
            scores = self._scores(state.sums["private"], rows.astype(np.float64))
            yield Block(start, scores, 4 * ROUNDING * np.abs(scores))

    def _scores(self, private: np.ndarray, rows: np.ndarray) -> np.ndarray:
        factors, units = self._view(rows)
        units = np.maximum(units + (self.by_user @ private[self._dim :] + self.bias), 0)
        found: np.ndarray = factors @ (self.product * private[: self._dim]) + units @ self.output
        return found
