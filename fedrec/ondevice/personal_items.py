"""Device forms of gpfedrec, cofedrec, fedvlr and fedrap: `pfedrec` with item vectors of groups, views, or one user."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice.exact import products
from fedrec.ondevice.history import History
from fedrec.ondevice.local_training import Examples, PFedRecForm
from fedrec.ondevice.source import Source


class GroupedForm(PFedRecForm):
    """Rows hold the common vector and those of groups; directions (1 + G, d), the first the centre."""

    directions: np.ndarray

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "GroupedForm":
        made = super().open(source, settings)
        assert isinstance(made, GroupedForm)
        made.directions = source.read("directions").astype(np.float64)
        return made

    @classmethod
    @abstractmethod
    def parts(cls, likeness: np.ndarray) -> np.ndarray:
        """How far a user belongs to each group, (G,), from the cosines (G,) with its direction."""

    def belonging(self, rows: np.ndarray, examples: Examples) -> np.ndarray:
        """The weights (1 + G,) of the common vector, which is 1, and of the groups."""
        dim = self.directions.shape[1]
        own = examples.events @ (rows[:, :dim] - self.directions[0])
        own = own / max(float(np.sqrt(np.square(own).sum())), 1e-9)
        some = float(examples.events.sum() > 0)
        return np.concatenate([[1.0], some * self.parts(self.directions[1:] @ own)])

    def rebuild(self, rows: np.ndarray, examples: Examples, parts: np.ndarray | None = None) -> np.ndarray:
        dim = self.directions.shape[1]
        weights = self.belonging(rows, examples)
        own = np.einsum("g,mgd->md", weights, rows.reshape(len(rows), -1, dim))
        layer, bias = np.zeros(dim), 0.0
        for _ in range(self.settings["steps"]):
            slope = self.settings["rate"] * examples.error(own @ layer + bias)
            layer = layer - slope @ own
            bias -= slope.sum()
            if parts is not None:
                parts[:, :-1] -= slope[:, None] * np.tile(own, len(weights)) * np.repeat(weights, dim)
                parts[:, -1] -= slope
        return np.append(np.outer(weights, layer).ravel(), bias)


class GPFedRecForm(GroupedForm):
    """A user belongs to all groups, the nearest ones most."""

    kind: ClassVar[str] = "gpfedrec"

    @classmethod
    def parts(cls, likeness: np.ndarray) -> np.ndarray:
        return softmax(4.0 * likeness)


class CoFedRecForm(GroupedForm):
    """A user is in the group of a category, or not."""

    kind: ClassVar[str] = "cofedrec"

    @classmethod
    def parts(cls, likeness: np.ndarray) -> np.ndarray:
        return (likeness > 0).astype(np.float64)


class FedVLRForm(PFedRecForm):
    """Rows hold the trained vector and those of public views, which the user's own router weighs."""

    kind: ClassVar[str] = "fedvlr"

    def rebuild(self, rows: np.ndarray, examples: Examples, parts: np.ndarray | None = None) -> np.ndarray:
        dim, rate = self.settings["dim"], self.settings["rate"]
        blocks = rows.reshape(len(rows), -1, dim)
        trained, views = blocks[:, 0], blocks[:, 1:]
        layer, bias, logits = np.zeros(dim), 0.0, np.zeros(views.shape[1])
        gate, whole = softmax(logits), np.zeros((len(rows), dim))
        for _ in range(self.settings["steps"]):
            own = trained + np.einsum("v,mvd->md", gate, views)
            slope = rate * examples.error(own @ layer + bias)
            pulls = slope @ (views @ layer)
            logits = logits - gate * (pulls - gate @ pulls)
            layer = layer - slope @ own
            bias -= slope.sum()
            gate = softmax(logits)
            if parts is not None:
                whole -= slope[:, None] * own
                parts[:, -1] -= slope
        weights = np.append(1.0, gate)
        if parts is not None:
            parts[:, :-1] += np.einsum("g,md->mgd", weights, whole).reshape(len(rows), -1)
        return np.append(np.outer(weights, layer).ravel(), bias)


def softmax(logits: np.ndarray) -> np.ndarray:
    """The softmax of logits (n,)."""
    weight = np.exp(logits - logits.max())
    found: np.ndarray = weight / weight.sum()
    return found


class FedRAPForm(PFedRecForm):
    """A common vector plus one of the user's own, which is zero but for the device's examples."""

    kind: ClassVar[str] = "fedrap"

    def rebuild(self, rows: np.ndarray, examples: Examples, parts: np.ndarray | None = None) -> np.ndarray:
        return self._both(rows, examples, parts)[0]

    def _both(
        self, rows: np.ndarray, examples: Examples, parts: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The layer and bias (w + 1,), and the own vectors (m, w)."""
        private, own = np.zeros(rows.shape[1] + 1), np.zeros_like(rows)
        rate, apart = self.settings["own_rate"], 2.0 * self.settings["apart"] / rows.shape[1]
        for _ in range(self.settings["steps"]):
            whole, layer = rows + own, private[:-1].copy()
            slope = examples.error(whole @ layer + private[-1])
            own = own - rate * (slope[:, None] * layer - apart * (own - rows))
            slope = self.settings["rate"] * slope
            private[:-1] -= slope @ whole
            private[-1] -= slope.sum()
            if parts is not None:
                parts[:, :-1] -= slope[:, None] * whole
                parts[:, -1] -= slope
        return private, own

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        if not len(history):
            return {}
        examples = self.drawn(history)
        rows = self.table.rows(examples.items).astype(np.float64)
        private, own = self._both(rows, examples)
        scores = products(rows + own, private[:-1]) + private[-1]
        return {"private": private, "own_items": examples.items, "own_scores": scores}
