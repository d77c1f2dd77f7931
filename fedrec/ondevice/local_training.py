"""Device forms of the models that a device fits by gradient steps: fedrecon, pfedrec and fedncf.

The steps are those of `fedrec.algorithms.local_training`, on the same examples: the same events and negatives, drawn by
`fedrec.ondevice.draws`. A new event changes the draw, so the private vector is rebuilt from the whole history.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice import draws
from fedrec.ondevice.attribution import (
    NOT_CHOSEN,
    OWN_COPY,
    POPULARITY,
    TASTE,
    Attribution,
    mean_slope,
    popular,
    spaced,
)
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
    def rebuild(self, rows: np.ndarray, examples: Examples, parts: np.ndarray | None = None) -> np.ndarray:
        """The private vector after gradient steps from zero on the items' rows (m, w) float64.

        parts: (m, size of the vector) float64, to which the part of each example is added; or None.
        """

    def start(self, history: History) -> dict[str, np.ndarray]:
        return {}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        pass

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        if not len(history):
            return {}
        examples = self.drawn(history)
        rows = self.table.rows(examples.items).astype(np.float64)
        return {"private": self.rebuild(rows, examples)}

    def drawn(self, history: History) -> Examples:
        """What the device trains on."""
        return draw_examples(history, self.n_items, self.settings["events"], self.settings["negatives"])

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

    # ---- reasons

    def shares(self, state: State, item: int) -> Attribution:
        """The private vector is a sum over examples: own events, and items that stand for those not chosen."""
        history = state.history
        if not len(history):
            return popular(self.popularity, item)
        examples, one, average = self.drawn(history), np.array([item]), spaced(self.n_items)
        rows = self.table.rows(examples.items).astype(np.float64)
        parts = np.zeros((len(rows), len(state.sums["private"])))
        self.rebuild(rows, examples, parts)
        usual = self.table.rows(average).astype(np.float64).mean(0, keepdims=True)
        row = self.table.rows(one).astype(np.float64)
        pulls, rest, attributed = self.pulls(state.sums["private"], parts, row, usual)
        place = np.searchsorted(examples.items, history.items).clip(max=len(examples.items) - 1)
        known = examples.items[place] == history.items
        often = np.bincount(place[known], minlength=len(pulls))
        score, plain = float(self.exact(state, one)[0]), float(self.plain(state.sums["private"], row)[0])
        copy = {OWN_COPY: score - plain} if "own_items" in state.sums and item in state.sums["own_items"] else {}
        return Attribution(
            score=score,
            baseline=float(self.plain(state.sums["private"], usual)[0]),
            events={TASTE: np.where(known, pulls[place] / np.maximum(often[place], 1), 0.0)},
            rest={NOT_CHOSEN: float(pulls[often == 0].sum())} | rest | copy,
            attributed=attributed,
        )

    @abstractmethod
    def plain(self, private: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (n,) of items' rows (n, w) under a private vector."""

    @abstractmethod
    def pulls(
        self, private: np.ndarray, parts: np.ndarray, row: np.ndarray, usual: np.ndarray
    ) -> tuple[np.ndarray, dict[str, float], float]:
        """What each example adds to the score of an item against the average one.

        Args:
            private: the private vector (p,), the sum of `parts`.
            parts: of the examples, (m, p).
            row: of the item, (1, w).
            usual: of the average item, (1, w).

        Returns:
            (m,) of the examples, what belongs to no example, and the part that passes hidden units.
        """


class PFedRecForm(LocalForm):
    """A linear layer of the user's own on the item vectors: private (w + 1,), the last entry its bias."""

    kind: ClassVar[str] = "pfedrec"

    def rebuild(self, rows: np.ndarray, examples: Examples, parts: np.ndarray | None = None) -> np.ndarray:
        private = np.zeros(self.table.dim + 1)
        for _ in range(self.settings["steps"]):
            slope = self.settings["rate"] * examples.error(rows @ private[:-1] + private[-1])
            private[:-1] -= slope @ rows
            private[-1] -= slope.sum()
            if parts is not None:
                parts[:, :-1] -= slope[:, None] * rows
                parts[:, -1] -= slope
        return private

    def plain(self, private: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return products(rows, private[:-1]) + private[-1]

    def pulls(
        self, private: np.ndarray, parts: np.ndarray, row: np.ndarray, usual: np.ndarray
    ) -> tuple[np.ndarray, dict[str, float], float]:
        return parts[:, :-1] @ (row - usual)[0], {}, 0.0

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        """With a copy of the rows of its own, the scores of the examples are those of the tuned copy."""
        found = super().solve(sums, history)
        if not found or not self.settings["own_steps"]:
            return found
        examples = self.drawn(history)
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
    run: Callable[[np.ndarray], np.ndarray] | None = None
    """Another program for the scores (items,) float64 of a private vector; None for this one."""

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

    def rebuild(self, rows: np.ndarray, examples: Examples, parts: np.ndarray | None = None) -> np.ndarray:
        private = np.zeros(self.table.dim)
        factors, units = self._view(rows)
        for _ in range(self.settings["steps"]):
            before = units + (self.by_user @ private[self._dim :] + self.bias)
            scores = factors @ (self.product * private[: self._dim]) + np.maximum(before, 0) @ self.output
            slope = self.settings["rate"] * examples.error(scores)
            through = (slope @ (before > 0)) * self.output
            private = private - np.concatenate([self.product * (slope @ factors), through @ self.by_user])
            if parts is not None:
                parts[:, : self._dim] -= self.product * (slope[:, None] * factors)
                parts[:, self._dim :] -= (slope[:, None] * (before > 0) * self.output) @ self.by_user
        return private

    def plain(self, private: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return self._scores(private, rows)

    def pulls(
        self, private: np.ndarray, parts: np.ndarray, row: np.ndarray, usual: np.ndarray
    ) -> tuple[np.ndarray, dict[str, float], float]:
        """The product is linear in the private vector. Units go the way from no events to all of them."""
        (factor,), (unit,) = self._view(row)
        (other_factor,), (other_unit,) = self._view(usual)
        way = self.by_user @ private[self._dim :]
        start, other = unit + self.bias, other_unit + self.bias
        slope = mean_slope(start, start + way) - mean_slope(other, other + way)
        through = parts[:, self._dim :] @ (self.by_user.T @ (self.output * slope))
        alike = parts[:, : self._dim] @ (self.product * (factor - other_factor))
        alone = float((np.maximum(start, 0) - np.maximum(other, 0)) @ self.output)
        return alike + through, {POPULARITY: alone}, float(through.sum()) + alone

    def personal(self, state: State, items: np.ndarray) -> np.ndarray:
        return self._scores(state.sums["private"], self.table.rows(items).astype(np.float64))

    def scan_personal(self, state: State) -> Iterator[Block]:
        """The network bends the scores, so every item is scored in full; the error is that of the rounding."""
        if self.run is not None:
            scores = self.run(state.sums["private"])
            size = np.abs(scores)
            yield Block(0, scores, 4 * ROUNDING * size + 1e-12 * size.max(initial=0.0))  # another order of the sums
            return
        for start, rows in self.table.blocks():
            scores = self._scores(state.sums["private"], rows.astype(np.float64))
            yield Block(start, scores, 4 * ROUNDING * np.abs(scores))

    def _scores(self, private: np.ndarray, rows: np.ndarray) -> np.ndarray:
        factors, units = self._view(rows)
        units = np.maximum(units + (self.by_user @ private[self._dim :] + self.bias), 0)
        found: np.ndarray = factors @ (self.product * private[: self._dim]) + units @ self.output
        return found
