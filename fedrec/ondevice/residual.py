"""Device form of `sequence-residual`: a kernel model and a sequence tower, whose scores are added."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice.attribution import Attribution
from fedrec.ondevice.base import ROUNDING, Block, DeviceModel
from fedrec.ondevice.history import History, State
from fedrec.ondevice.kernel import KernelForm
from fedrec.ondevice.sequences import SequenceForm
from fedrec.ondevice.source import Source


class ResidualForm(DeviceModel):
    """score = that of `base` + that of `tower`. The names of their tensors and of their sums differ."""

    kind: ClassVar[str] = "residual"
    tables = SequenceForm.tables

    def __init__(self, base: KernelForm, tower: SequenceForm) -> None:
        if base.n_items != tower.n_items:
            raise ValueError("the two parts have different items")
        self.base, self.tower, self.n_items = base, tower, base.n_items

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "ResidualForm":
        return cls(KernelForm.open(source, settings), SequenceForm.open(source, settings))

    def start(self, history: History) -> dict[str, np.ndarray]:
        return self.base.start(history) | self.tower.start(history)

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        self.base.add(sums, item, rating)
        self.tower.add(sums, item, rating)

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        return self.base.solve(sums, history) | self.tower.solve(sums, history)

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        return self.base.exact(state, items) + self.tower.exact(state, items)

    def scan(self, state: State) -> Iterator[Block]:
        scores = self.exact(state, np.arange(self.n_items))
        yield Block(0, scores, ROUNDING * np.abs(scores))

    def item_rows(self, items: np.ndarray) -> np.ndarray | None:
        return self.base.item_rows(items)

    # ---- reasons

    def explain(self, state: State, items: np.ndarray) -> dict[str, np.ndarray]:
        """Those of the base: the tower has no groups of features."""
        return self.base.explain(state, items)

    def shares(self, state: State, item: int) -> Attribution:
        """The shares of both, which sum to the sum of their scores."""
        base, tower = self.base.shares(state, item), self.tower.shares(state, item)
        rest, events = dict(base.rest), dict(base.events)
        for name, share in tower.rest.items():
            rest[name] = rest.get(name, 0.0) + share
        for name, parts in tower.events.items():  # a group of the catalogue may have the tower's name
            events[name] = events[name] + parts if name in events else parts
        return Attribution(
            score=base.score + tower.score,
            baseline=base.baseline + tower.baseline,
            events=events,
            rest=rest,
            attributed=base.attributed + tower.attributed,
            tolerance=max(base.tolerance, tower.tolerance),
        )
