"""Device forms of the models whose score is a product of a user's vector with an item's: als and fcf, tower-sgd,
spectral; and of popularity, which ranks alike for everybody.

Each computes in float64 from the released float32 numbers what the torch form computes; see the modules of
`fedrec.algorithms` for the objectives.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.base import Block, DeviceModel
from fedrec.ondevice.history import History, State
from fedrec.ondevice.item_table import ItemTable
from fedrec.ondevice.source import Source


class FactorModel(DeviceModel):
    """score = <vector, item>; a user whose vector is zero gets the popularity where the model has one."""

    table: ItemTable
    popularity: np.ndarray | None = None

    def vector(self, state: State) -> np.ndarray:
        """The user's vector, (d,) float64."""
        return state.sums["vector"]

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        if self._silent(state):
            assert self.popularity is not None
            return self.popularity[items].astype(np.float64)
        return self.table.products(self.vector(state), items)

    def scan(self, state: State) -> Iterator[Block]:
        if self._silent(state):
            assert self.popularity is not None
            yield Block(0, self.popularity, 0.0)
        else:
            yield from self.table.scan(self.vector(state))

    def item_rows(self, items: np.ndarray) -> np.ndarray | None:
        return self.table.rows(items)

    def _silent(self, state: State) -> bool:
        return self.popularity is not None and not self.vector(state).any()


class ALSForm(FactorModel):
    """`als` and `fcf`: the user's vector is the exact solution of a ridge regression on the history."""

    kind: ClassVar[str] = "als"
    tables = {"items": False}

    def __init__(self, table: ItemTable, gram: np.ndarray, popularity: np.ndarray, settings: Mapping[str, Any]) -> None:
        self.table, self.popularity, self.n_items = table, popularity, table.items
        self.alpha0, self.reg, self.nu = (float(settings[name]) for name in ("alpha0", "reg", "nu"))
        self._all = self.alpha0 * gram.astype(np.float64)

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "ALSForm":
        return cls(source.table("items"), source.read("gram"), source.read("popularity"), settings)

    def start(self, history: History) -> dict[str, np.ndarray]:
        dim = self.table.dim
        return {"outer": np.zeros((dim, dim)), "total": np.zeros(dim)}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        row = self.table.rows(np.array([item]))[0].astype(np.float64)
        sums["outer"] += row[:, None] * row
        sums["total"] += row

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        if not len(history):
            return {"vector": np.zeros(self.table.dim)}
        ridge = self.reg * (len(history) + self.alpha0 * self.n_items) ** self.nu
        return {"vector": ridge_solve(sums["outer"] + self._all, ridge, sums["total"])}


class TowerForm(FactorModel):
    """`tower-sgd`: item vectors and biases of a trained tower; the user's vector is solved on the history."""

    kind: ClassVar[str] = "tower"
    tables = {"items": True}

    def __init__(
        self, table: ItemTable, bias: np.ndarray, gram: np.ndarray | None, settings: Mapping[str, Any]
    ) -> None:
        """gram: of all items; None for a model of ratings."""
        self.table, self.bias, self.n_items = table, bias, table.items
        self.alpha0, self.reg, self.scale = (float(settings[name]) for name in ("alpha0", "reg", "scale"))
        self.decay, self.steps = float(np.float32(settings["decay"])), int(settings["steps"])
        self.of_ratings = gram is None
        self.alpha0 = 0.0 if self.of_ratings else self.alpha0
        self._all = np.zeros((table.dim, table.dim)) if gram is None else self.alpha0 * gram

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "TowerForm":
        table = source.table("items")
        gram = None if settings["ratings"] else source.gram(table, "items")
        return cls(table, source.read("bias"), gram, settings)

    def check(self, history: History) -> None:
        if self.of_ratings and len(history) and history.ratings is None:
            raise InputError("this model needs ratings, and the history has none; give each event its rating")

    def start(self, history: History) -> dict[str, np.ndarray]:
        dim, decay = self.table.dim, self.decay if history.ordered else 1.0
        return {
            "outer": np.zeros((dim, dim)),
            "total": np.zeros(dim),
            "weight": np.zeros(1),
            "decay": np.array([decay]),
        }

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        label = 1.0
        if self.of_ratings:
            if rating is None or np.isnan(rating):
                return
            label = rating - float(self.bias[item])
        row, decay = self.table.rows(np.array([item]))[0].astype(np.float64), sums["decay"][0]
        for name, more in (("outer", row[:, None] * row), ("total", row * label), ("weight", np.ones(1))):
            sums[name] *= decay
            sums[name] += more

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        weight = float(sums["weight"][0])
        if not weight:
            return {"vector": np.zeros(self.table.dim)}
        ridge, normal = self.reg * (weight + self.alpha0 * self.n_items), sums["outer"] + self._all
        if not self.steps:
            return {"vector": ridge_solve(normal, ridge, sums["total"])}
        normal.flat[:: len(normal) + 1] += ridge
        step = 1.0 / np.sqrt(np.square(normal).sum())
        vector = step * sums["total"]
        for _ in range(self.steps - 1):
            vector = vector + step * (sums["total"] - normal @ vector)
        return {"vector": vector}

    def vector(self, state: State) -> np.ndarray:
        return self.scale * state.sums["vector"]

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        return self.table.products(self.vector(state), items) + self.bias[items]

    def scan(self, state: State) -> Iterator[Block]:
        yield from self.table.scan(self.vector(state), self.bias)


class RatingTowerForm(TowerForm):
    """The same, trained on ratings: a score is the rating that is expected."""

    kind: ClassVar[str] = "tower-ratings"


class SpectralForm(FactorModel):
    """`spectral`: the profile is the sum of the history's rows of one table, a score its product with another."""

    kind: ClassVar[str] = "spectral"
    tables = {"decode": False}

    def __init__(self, encode: ItemTable, decode: ItemTable, popularity: np.ndarray) -> None:
        self.encode, self.table, self.popularity, self.n_items = encode, decode, popularity, decode.items

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "SpectralForm":
        return cls(source.table("encode"), source.table("decode"), source.read("popularity"))

    def start(self, history: History) -> dict[str, np.ndarray]:
        return {"vector": np.zeros(self.table.dim)}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        sums["vector"] += self.encode.rows(np.array([item]))[0]


class PopularityForm(DeviceModel):
    """The same scores (items,) for everybody."""

    kind: ClassVar[str] = "popularity"

    def __init__(self, popularity: np.ndarray) -> None:
        self.popularity, self.n_items = popularity, len(popularity)

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "PopularityForm":
        return cls(source.read("scores"))

    def start(self, history: History) -> dict[str, np.ndarray]:
        return {}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        pass

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        return self.popularity[items].astype(np.float64)

    def scan(self, state: State) -> Iterator[Block]:
        yield Block(0, self.popularity, 0.0)


def ridge_solve(normal: np.ndarray, ridge: float, total: np.ndarray) -> np.ndarray:
    """x of (normal + ridge I) x = total. Changes `normal`."""
    normal.flat[:: len(normal) + 1] += ridge
    return np.linalg.solve(normal, total)
