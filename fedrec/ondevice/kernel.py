"""Device form of kernel models: kernel-rank and content. See `fedrec.kernels.model` for what is computed.

Every event decays the profiles and adds a feature row to them, so an event costs the same whatever the history.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice.base import ROUNDING, Block, DeviceModel
from fedrec.ondevice.exact import quantile
from fedrec.ondevice.feature_maps import DeviceMap, device_map
from fedrec.ondevice.history import History, State
from fedrec.ondevice.source import Source

SHAPED, POPULARITY_FEATURES, AVERAGED = 3.0, 8, 256  # as in `fedrec.kernels.model`


class KernelForm(DeviceModel):
    """Kernels with weights, and a network where the model has one."""

    kind: ClassVar[str] = "kernel"

    def __init__(
        self,
        maps: Mapping[str, DeviceMap],
        means: Mapping[str, np.ndarray],
        decays: tuple[float, ...],
        tensors: Mapping[str, np.ndarray],
        network: Mapping[str, np.ndarray],
    ) -> None:
        """tensors: weights, log_popularity, numbers and popularity."""
        self.maps, self.decays = dict(maps), np.array(decays, np.float32).astype(np.float64)
        self.means = {name: mean.astype(np.float64) for name, mean in means.items()}
        self.weights = tensors["weights"].astype(np.float64)
        self.log_popularity, self.numbers = tensors["log_popularity"], tensors["numbers"]
        self.popularity, self.n_items = tensors["popularity"], len(tensors["log_popularity"])
        self.network = {name: value.astype(np.float64) for name, value in network.items()}
        columns = [self.weights[:, None]]
        if self.network:
            columns.append(self.network["hidden"] / self.network["scales"][:, None])
        self.columns = np.concatenate(columns, 1)  # (K, 1 + H)
        self.own = POPULARITY_FEATURES + 2 * self.numbers.shape[1]
        tops = [quantile(column.astype(np.float64), 0.9) for column in self.numbers.T]
        self._tops = np.array(tops, np.float64).astype(np.float32)

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "KernelForm":
        names = list(settings["kernels"])
        file = source.file
        return cls(
            {name: device_map(file.read_below(f"map/{name}/")) for name in names},
            {name: file.read(f"mean/{name}") for name in names},
            tuple(settings["decays"]),
            {name: file.read(name) for name in ("weights", "log_popularity", "numbers", "popularity")},
            file.read_below("network/"),
        )

    # ---- the private state

    def start(self, history: History) -> dict[str, np.ndarray]:
        rates = self.decays if history.ordered else np.ones(1)
        many = len(rates)
        sums = {"rates": rates.copy(), "mass": np.zeros(many), "habit": np.zeros(many)}
        sums["beyond"] = np.full(self.numbers.shape[1], -np.inf)
        return sums | {f"profile {name}": np.zeros((many, map_.width)) for name, map_ in self.maps.items()}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        rates = sums["rates"]
        sums["mass"] *= rates
        sums["mass"] += 1
        sums["habit"] *= rates
        sums["habit"] += self.log_popularity[item]
        np.maximum(sums["beyond"], self.numbers[item], out=sums["beyond"])
        for name, map_ in self.maps.items():
            profile = sums[f"profile {name}"]
            profile *= rates[:, None]
            map_.add_row(profile, item)

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        """How the history differs from the average one under each kernel, mixed over the decays for each column of
        `columns`, (width, 1 + H); signs included."""
        if not len(history):
            return {}
        found, start, many = {}, self.own, len(self.decays)
        for name in self.maps:
            mix = self.columns[start : start + many].T  # (1 + H, decays)
            if len(sums["rates"]) < many:  # one profile serves all decays
                mix = mix.sum(1, keepdims=True)
            found[f"mixed {name}"] = (mix @ self._profiles(sums, name)).T
            start += many
        return found

    def _profiles(self, sums: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        """(R, width) float64: how the history differs from the average one under a kernel."""
        profile = sums[f"profile {name}"] / sums["mass"][:, None]
        signs = self.maps[name].signs
        return (profile if signs is None else profile * signs) - self.means[name]

    # ---- scores

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        if not len(state.history):
            return self.popularity[items].astype(np.float64)
        total = self._own(state, items) @ self.columns[: self.own]
        for name, map_ in self.maps.items():
            total += map_.against(state.sums[f"mixed {name}"], items)
        return self._bend(total)

    def scan(self, state: State) -> Iterator[Block]:
        if not len(state.history):
            yield Block(0, self.popularity, 0.0)
            return
        total = self._own(state, None) @ self.columns[: self.own]
        weights = np.concatenate([[1.0], np.abs(self.network["output"])]) if self.network else np.ones(1)
        errors = np.zeros(self.n_items)
        for name, map_ in self.maps.items():
            map_.add_products(state.sums[f"mixed {name}"], weights, total, errors)
        size = np.abs(total) @ weights  # roundings of float64, and of a score to float32
        yield Block(0, self._bend(total), errors + ROUNDING * size)

    def _bend(self, total: np.ndarray) -> np.ndarray:
        """Scores (n,) of the products (n, 1 + H): the first column, and the network on the others."""
        if not self.network:
            return total[:, 0]
        hidden = np.maximum(total[:, 1:] + self.network["bias"], 0)
        found: np.ndarray = total[:, 0] + hidden @ self.network["output"]
        return found

    def _own(self, state: State, items: np.ndarray | None) -> np.ndarray:
        """The features that are not kernels, of `items` or of all, (n, own) float64."""
        plain = (self.log_popularity if items is None else self.log_popularity[items]).astype(np.float64)
        numbers = self.numbers if items is None else self.numbers[items]
        mass = state.sums["mass"]
        habits = state.sums["habit"] / mass
        habit, recent = habits[0], habits[min(2, len(habits) - 1)]
        popularity = np.minimum(plain, SHAPED)
        square = popularity * popularity - 1
        found = np.empty((len(plain), self.own))
        found[:, 0] = plain
        found[:, 1] = square
        found[:, 2] = np.maximum(popularity - 0.5, 0)
        found[:, 3] = popularity * (habit - 1)
        found[:, 4] = popularity * (recent - 1)
        found[:, 5] = popularity * (np.log(len(state.history)) - 4.5)
        found[:, 6] = square * (recent - 1)
        found[:, 7] = np.abs(popularity - recent)
        found[:, POPULARITY_FEATURES::2] = numbers >= self._tops
        found[:, POPULARITY_FEATURES + 1 :: 2] = numbers > state.sums["beyond"]
        return found

    # ---- reasons

    def item_rows(self, items: np.ndarray) -> np.ndarray:
        """The rows of all kernels side by side, each kernel scaled by the weights of its features."""
        heavy = np.abs(self.weights[self.own :].reshape(-1, len(self.decays)).sum(1))
        heavy = heavy if heavy.any() else np.ones_like(heavy)
        rows = [np.sqrt(weight) * map_.rows(items) for weight, map_ in zip(heavy, self.maps.values(), strict=True)]
        return np.concatenate([np.zeros((len(items), 0)), *rows], 1)

    def groups(self) -> dict[str, slice]:
        """The columns of each group of features: popularity, the numbers of the catalogue, and each kernel."""
        many = len(self.decays)
        own = {"popularity": slice(0, POPULARITY_FEATURES), "numbers": slice(POPULARITY_FEATURES, self.own)}
        starts = range(self.own, len(self.weights), many)
        return own | {name: slice(at, at + many) for name, at in zip(self.maps, starts, strict=True)}

    def explain(self, state: State, items: np.ndarray) -> dict[str, np.ndarray]:
        """How much the scores fall when a group's features become those of the average item for this user."""
        if not len(state.history):
            return {}
        average = np.linspace(0, self.n_items - 1, min(self.n_items, AVERAGED)).astype(np.int64)
        usual, features = self.features(state, average).mean(0), self.features(state, items)
        whole, found = self._bend(features @ self.columns), {}
        for name, columns in self.groups().items():
            changed = features.copy()
            changed[:, columns] = usual[columns]
            found[name] = whole - self._bend(changed @ self.columns)
        return found

    def features(self, state: State, items: np.ndarray) -> np.ndarray:
        """All features of `items` (n,), (n, K) float64."""
        parts, many = [self._own(state, items)], len(self.decays)
        for name, map_ in self.maps.items():
            met = map_.against(self._profiles(state.sums, name).T, items)  # (n, R)
            parts.append(np.broadcast_to(met, (len(items), many)))
        return np.concatenate(parts, 1)
