"""DeviceModel: what a released model is on a device, with numpy alone; and the exact list of its best items.

A score is computed in float64 from the released float32 numbers, and rounded to float32. A list is in the order of
these rounded scores; equal ones follow a hash of the item's position, as in `ReleasedModel.recommend`. A fast scan
gives each item an approximate score with a bound on its error. Every item whose upper bound reaches the k-th largest
lower bound is then scored exactly, so no item is missed. Their number follows from the bounds.

A private state is a sequence of updates, one for each event, oldest first. `fit` and `record` run the same updates, so
a state after `record` equals, bit for bit, the one that `fit` makes of the longer history.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice import draws
from fedrec.ondevice.attribution import Attribution
from fedrec.ondevice.history import History, State

ROUNDING = 2.0**-23
"""Relative error, at most, of a rounding to float32, twice over."""


@dataclass(frozen=True)
class Block:
    """Approximate scores of neighbouring items.

    Attributes:
        start: position of the first item.
        scores: (n,) approximations.
        errors: (n,) or a number: how far a score may be from the exact one, rounding to float32 included.
    """

    start: int
    scores: np.ndarray
    errors: np.ndarray | float


@dataclass(frozen=True)
class Asked:
    """One list to make.

    Attributes:
        state: of `DeviceModel.fit` or `record`.
        k: most items.
        exclude: (n,) int64, items that are left out; None for none.
        allowed: (items,) bool, False for items that are left out; None allows all.
        bonus: (items,) float64, added to each score; None for nothing.
    """

    state: State
    k: int
    exclude: np.ndarray | None = None
    allowed: np.ndarray | None = None
    bonus: np.ndarray | None = None

    def changed(self, block: Block) -> Block:
        """Return a block of scores with the bonus, and its errors with those of the sum's rounding."""
        if self.bonus is None:
            return block
        scores = block.scores + self.bonus[block.start : block.start + len(block.scores)]
        return Block(block.start, scores, block.errors + ROUNDING * np.abs(scores))


class DeviceModel(ABC):
    """A released model on a device: fit a private state, add an event to it, score, rank. It sends nothing."""

    kind: ClassVar[str]
    tables: ClassVar[Mapping[str, bool]] = {}
    """Tensors (items, d) that a large catalogue needs an index of -> whether the sum of x x^T is needed, too."""
    n_items: int
    made_by: str = ""
    """The algorithm that released the model."""

    # ---- a private state

    def fit(self, history: History) -> State:
        """Make the private state of a history, event by event.

        Raises:
            InputError: for an item outside the catalogue, or a model of ratings and a history without.
        """
        if ((history.items < 0) | (history.items >= self.n_items)).any():
            raise InputError(f"history: an item outside 0..{self.n_items - 1}; the model has no such item")
        self.check(history)
        sums = self.start(history)
        self.add_all(sums, history)
        return State(history, sums | self.solve(sums, history))

    def record(self, state: State, item: int, rating: float | None = None, time: float | None = None) -> State:
        """Return the state after one more event; `state` stays as it is. Equals `fit` on the longer history, bit for
        bit.

        Raises:
            InputError: as `fit`.
        """
        if not 0 <= item < self.n_items:
            raise InputError(f"item {item}: outside 0..{self.n_items - 1}; the model has no such item")
        history = state.history.plus(item, rating, time)
        self.check(history)
        sums = {name: state.sums[name].copy() for name in self.start(state.history)}
        self.add(sums, item, rating)
        return State(history, sums | self.solve(sums, history))

    def about(self, state: State, attributes: Mapping[str, str]) -> State:
        """Return the state of the same events for a person with these private attributes, as text by name."""
        history = replace(state.history, attributes=attributes)
        sums = {name: state.sums[name] for name in self.start(state.history)}
        return State(history, sums | self.solve(sums, history))

    def check(self, history: History) -> None:
        """Refuse a history that the model cannot use; this one can use every history. Raises: InputError."""
        return

    @property
    def needs_ratings(self) -> bool:
        """Whether the model refuses a history without ratings."""
        try:
            self.check(History(np.zeros(1, np.int64)))
        except InputError:
            return True
        return False

    @abstractmethod
    def start(self, history: History) -> dict[str, np.ndarray]:
        """The sums of no events, for a history of this kind (ordered or not)."""

    @abstractmethod
    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        """Add one event to `sums`, in place."""

    def add_all(self, sums: dict[str, np.ndarray], history: History) -> None:
        """Add the events of a history to `sums`, in place, by the very operations of `add`, event by event."""
        ratings: Sequence[float | None] = [None] * len(history) if history.ratings is None else history.ratings.tolist()
        for item, rating in zip(history.items.tolist(), ratings, strict=True):
            self.add(sums, item, rating)

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        """What follows from the sums, e.g. a user's vector."""
        return {}

    # ---- scores

    @abstractmethod
    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        """Scores of `items` (n,), (n,) float64."""

    @abstractmethod
    def scan(self, state: State) -> Iterator[Block]:
        """Approximate scores of all items, some at a time. A block's arrays are valid until the next block."""

    def scores(self, state: State, items: np.ndarray | None = None) -> np.ndarray:
        """Scores of `items` (n,), or of every item, as they are ranked: (n,) float32."""
        chosen = np.arange(self.n_items) if items is None else np.asarray(items, np.int64)
        return self.exact(state, chosen).astype(np.float32)

    def top(
        self, state: State, k: int, exclude: np.ndarray | None = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items, best first.

        Args:
            state: of `fit` or `record`.
            k: most items.
            exclude: (n,) int64, items that are left out.
            allowed: (items,) bool, False for items that are left out; None allows all.

        Returns:
            (m,) int64 positions and (m,) float32 scores, m <= k.
        """
        return self.top_many([Asked(state, k, exclude, allowed)])[0]

    def top_many(self, asked: Sequence[Asked]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Lists of several people, each equal to its `top`, in any company."""
        kept = [_Candidates(min(each.k, self.n_items), each.exclude, each.allowed) for each in asked]
        wanted = [place for place, each in enumerate(kept) if each.k > 0]
        if len(wanted) == 1:
            for block in self.scan(asked[wanted[0]].state):
                kept[wanted[0]].meet(asked[wanted[0]].changed(block))
        elif wanted:
            for place, block in self.scan_many([asked[place].state for place in wanted]):
                kept[wanted[place]].meet(asked[wanted[place]].changed(block))
        found = []
        for one, each in zip(asked, kept, strict=True):
            scores = self.scores(one.state, each.places)
            if one.bonus is not None:
                scores = (self.exact(one.state, each.places) + one.bonus[each.places]).astype(np.float32)
            order = np.lexsort((draws.tie_order(each.places), -scores))[: max(each.k, 0)]
            found.append((each.places[order], scores[order]))
        return found

    def scan_many(self, states: Sequence[State]) -> Iterator[tuple[int, Block]]:
        """`scan` for several states: the place of a state, and a block. The blocks of one state are in their order."""
        for place, state in enumerate(states):
            for block in self.scan(state):
                yield place, block

    # ---- reasons

    def explain(self, state: State, items: np.ndarray) -> dict[str, np.ndarray]:
        """What each group of features adds to the scores of `items` (n,), relative to an average item; (n,) by group.

        Empty for a model without features.
        """
        return {}

    def attribute(self, state: State, item: int) -> Attribution:
        """Return the shares of an item's score by own event and group of features. They sum to the score.

        Args:
            state: of `fit` or `record`.
            item: a position.

        Raises:
            InputError: for an unknown item, a model without shares, and shares that miss the score.
        """
        if not 0 <= item < self.n_items:
            raise InputError(f"explain: item {item} is outside 0..{self.n_items - 1}")
        return self.shares(state, item).checked(self.called)

    def shares(self, state: State, item: int) -> Attribution:
        """The shares for `attribute`, which checks them."""
        raise InputError(f"explain: '{self.called}' has no shares of a score by event; use another model")

    def item_rows(self, items: np.ndarray) -> np.ndarray | None:
        """Rows (n, width) whose cosine is the likeness of two items; None where the model has none."""
        return None

    def by(self, algorithm: str) -> Self:
        """Return this model, marked as released by `algorithm`."""
        self.made_by = algorithm
        return self

    @property
    def called(self) -> str:
        """The name of the model in messages: that of its algorithm."""
        return self.made_by or self.kind

    @classmethod
    @abstractmethod
    def open(cls, source: "Any", settings: Mapping[str, Any]) -> "DeviceModel":
        """Make the model of the released tensors (`fedrec.ondevice.source.Source`) and the manifest's settings."""


class _Candidates:
    """The items that may be among the k best: whose upper bound reaches the k-th largest lower bound.

    Attributes:
        k: places of the list.
        places: (m,) int64, these items so far.
    """

    def __init__(self, k: int, exclude: np.ndarray | None, allowed: np.ndarray | None) -> None:
        self.k, self._allowed = k, allowed
        self._banned = np.sort(exclude) if exclude is not None and len(exclude) else np.zeros(0, np.int64)
        self._least = -np.inf
        self.places = np.zeros(0, np.int64)
        self._lower, self._upper = np.zeros(0), np.zeros(0)

    def meet(self, block: Block) -> None:
        """Take the candidates of the next block, and drop those that it rules out."""
        count = len(block.scores)
        above = block.scores + block.errors
        first, stop = np.searchsorted(self._banned, (block.start, block.start + count))
        if first < stop:
            above[self._banned[first:stop] - block.start] = -np.inf
        if self._allowed is not None:
            above[~self._allowed[block.start : block.start + count]] = -np.inf
        if self._least == -np.inf and count > 4 * self.k:  # a first threshold, so that few items are kept
            self._least = _kth_largest(above - 2 * block.errors, self.k)
        found = np.flatnonzero(above >= self._least if self._least > -np.inf else above > self._least)
        if not len(found):
            return
        errors = block.errors if isinstance(block.errors, float) else block.errors[found]
        some = found + block.start, above[found], block.scores[found] - errors
        before = self.places, self._upper, self._lower
        self.places, self._upper, self._lower = map(np.append, before, some) if len(self.places) else some
        if len(self.places) > self.k:
            self._least = max(self._least, _kth_largest(self._lower, self.k))
            kept = self._upper >= self._least
            self.places, self._lower, self._upper = self.places[kept], self._lower[kept], self._upper[kept]


def _kth_largest(values: np.ndarray, k: int) -> float:
    place = len(values) - k
    return float(np.partition(values, place)[place])
