"""Device forms of the models whose score is a product of a user's vector with an item's: als and fcf, tower-sgd,
spectral; and of popularity, which ranks alike for everybody.

Each computes in float64 from the released float32 numbers what the torch form computes; see the modules of
`fedrec.algorithms` for the objectives.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.attributes import AttributeNetwork
from fedrec.ondevice.attribution import ATTRIBUTES, POPULARITY, TASTE, Attribution, popular, spaced
from fedrec.ondevice.base import Block, DeviceModel
from fedrec.ondevice.exact import products
from fedrec.ondevice.history import History, State
from fedrec.ondevice.item_table import ItemTable
from fedrec.ondevice.source import Source


class FactorModel(DeviceModel):
    """score = <vector, item>; a user whose vector is zero gets the popularity where the model has one."""

    table: ItemTable
    popularity: np.ndarray | None = None
    bias: np.ndarray | None = None
    """(items,) float32, added to the products; None for none."""

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
            yield from self.table.scan(self.vector(state), self.bias)

    def scan_many(self, states: Sequence[State]) -> Iterator[tuple[int, Block]]:
        silent = [self._silent(state) for state in states]
        for place in (place for place, each in enumerate(silent) if each):
            for block in self.scan(states[place]):
                yield place, block
        others = [place for place, each in enumerate(silent) if not each]
        if others:
            vectors = np.stack([self.vector(states[place]) for place in others])
            for slot, block in self.table.scan_many(vectors, self.bias):
                yield others[slot], block

    def item_rows(self, items: np.ndarray) -> np.ndarray | None:
        return self.table.rows(items)

    # ---- reasons

    def shares(self, state: State, item: int) -> Attribution:
        """The vector is a linear function of a sum over events, so a product with it has a part for each event."""
        if self._silent(state):
            assert self.popularity is not None
            return popular(self.popularity, item)
        one, average = np.array([item]), spaced(self.n_items)
        row, usual = self.table.rows(one)[0].astype(np.float64), self.table.rows(average).astype(np.float64).mean(0)
        mine, other = self._offsets(one), self._offsets(average)
        said = self._of_attributes(state, row - usual)
        rest = {POPULARITY: float(mine[0] - other.mean())} if mine.any() or other.any() else {}
        return Attribution(
            score=float(self.exact(state, one)[0]),
            baseline=float(self.vector(state) @ usual + other.mean()),
            events={TASTE: self._pulls(state, row - usual)} if len(state.history) else {},
            rest=rest | ({ATTRIBUTES: said} if said else {}),
        )

    def _offsets(self, items: np.ndarray) -> np.ndarray:
        """What is added to the products of `items` (n,), (n,) float64."""
        return np.zeros(len(items)) if self.bias is None else self.bias[items].astype(np.float64)

    def _pulls(self, state: State, way: np.ndarray) -> np.ndarray:
        """What each event adds to the product of the user's vector with `way` (d,), (n,) float64."""
        raise NotImplementedError

    def _of_attributes(self, state: State, way: np.ndarray) -> float:
        """What the person's attributes add to the product of the user's vector with `way` (d,)."""
        return 0.0

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

    def add_all(self, sums: dict[str, np.ndarray], history: History) -> None:
        rows = self.table.rows(history.items).astype(np.float64)
        outer, total, product = sums["outer"], sums["total"], np.empty_like(sums["outer"])
        for row in rows:
            np.multiply(row[:, None], row, out=product)
            outer += product
            total += row

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        if not len(history):
            return {"vector": np.zeros(self.table.dim)}
        normal, ridge = self._equations(sums, history)
        return {"vector": ridge_solve(normal, ridge, sums["total"])}

    def _equations(self, sums: Mapping[str, np.ndarray], history: History) -> tuple[np.ndarray, float]:
        return sums["outer"] + self._all, self.reg * (len(history) + self.alpha0 * self.n_items) ** self.nu

    def _pulls(self, state: State, way: np.ndarray) -> np.ndarray:
        """<way, inverse x row> = <transposed inverse x way, row>; a gram of float32 is not quite symmetric."""
        normal, ridge = self._equations(state.sums, state.history)
        return products(self.table.rows(state.history.items), ridge_solve(normal.T, ridge, way))


class TowerForm(FactorModel):
    """`tower-sgd`: item vectors and biases of a trained tower; the user's vector is solved on the history."""

    kind: ClassVar[str] = "tower"
    tables = {"items": True}
    bias: np.ndarray

    def __init__(
        self,
        table: ItemTable,
        bias: np.ndarray,
        gram: np.ndarray | None,
        settings: Mapping[str, Any],
        people: AttributeNetwork | None = None,
    ) -> None:
        """gram: of all items; None for a model of ratings. people: None for a model without attributes."""
        self.people = people
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
        return cls(table, source.read("bias"), gram, settings, AttributeNetwork.open(source, settings))

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

    def add_all(self, sums: dict[str, np.ndarray], history: History) -> None:
        if self.of_ratings:
            super().add_all(sums, history)
            return
        rows = self.table.rows(history.items).astype(np.float64)
        outer, total, weight, decay = sums["outer"], sums["total"], sums["weight"], sums["decay"][0]
        product = np.empty_like(outer)
        for row in rows:
            outer *= decay
            outer += np.multiply(row[:, None], row, out=product)
            total *= decay
            total += row
            weight *= decay
            weight += 1.0

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        vector = np.zeros(self.table.dim)
        if sums["weight"][0]:
            vector = self._solution(sums, sums["outer"] + self._all, sums["total"])
        return {"vector": vector if self.people is None else vector + self._shift(sums, history)}

    def _shift(self, sums: Mapping[str, np.ndarray], history: History) -> np.ndarray:
        """What the person's attributes add to the vector, (d,)."""
        assert self.people is not None
        return self.people.shift(history.attributes, float(sums["weight"][0]))

    def _of_attributes(self, state: State, way: np.ndarray) -> float:
        if self.people is None:
            return 0.0
        return float(self.scale * self._shift(state.sums, state.history) @ way)

    def _solution(self, sums: Mapping[str, np.ndarray], normal: np.ndarray, total: np.ndarray) -> np.ndarray:
        """The solution, or the point after some steps towards it; linear in `total` (d,). Changes `normal` (d, d)."""
        ridge = self.reg * (float(sums["weight"][0]) + self.alpha0 * self.n_items)
        if not self.steps:
            return ridge_solve(normal, ridge, total)
        normal.flat[:: len(normal) + 1] += ridge
        step = 1.0 / np.sqrt(np.square(normal).sum())
        vector = step * total
        for _ in range(self.steps - 1):
            vector = vector + step * (total - normal @ vector)
        return vector

    def _pulls(self, state: State, way: np.ndarray) -> np.ndarray:
        if not state.sums["weight"][0]:
            return np.zeros(len(state.history))
        items, ratings = state.history.items, state.history.ratings
        labels, counted = np.ones(len(items)), np.ones(len(items), bool)
        if self.of_ratings:
            assert ratings is not None
            counted = ~np.isnan(ratings)
            labels = np.where(counted, ratings - self.bias[items].astype(np.float64), 0.0)
        met = products(self.table.rows(items), self._solution(state.sums, (state.sums["outer"] + self._all).T, way))
        return np.asarray(self.scale * recency_of(counted, float(state.sums["decay"][0])) * labels * met)

    def vector(self, state: State) -> np.ndarray:
        return self.scale * state.sums["vector"]

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        return self.table.products(self.vector(state), items) + self.bias[items]


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

    def _pulls(self, state: State, way: np.ndarray) -> np.ndarray:
        return products(self.encode.rows(state.history.items), way)


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

    def shares(self, state: State, item: int) -> Attribution:
        return popular(self.popularity, item)


def recency_of(counted: np.ndarray, decay: float) -> np.ndarray:
    """The weights of events (n,), each `decay` to the power of the later events that count; counted: (n,) bool."""
    return np.asarray(decay ** (counted[::-1].cumsum()[::-1] - counted))


def ridge_solve(normal: np.ndarray, ridge: float, total: np.ndarray) -> np.ndarray:
    """x of (normal + ridge I) x = total. Changes `normal`."""
    normal.flat[:: len(normal) + 1] += ridge
    return np.linalg.solve(normal, total)
