"""Device form of kernel models: kernel-rank and content. See `fedrec.kernels.model` for what is computed.

Every event decays the profiles and adds a feature row to them, so an event costs the same whatever the history.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice.attribution import POPULARITY, Attribution, mean_slope, popular, spaced
from fedrec.ondevice.base import ROUNDING, Block, DeviceModel
from fedrec.ondevice.exact import quantile
from fedrec.ondevice.feature_maps import DeviceMap, NeighbourRows, device_map
from fedrec.ondevice.history import History, State
from fedrec.ondevice.source import Source

SHAPED, POPULARITY_FEATURES = 3.0, 8  # as in `fedrec.kernels.space`
STEPS, MOST = 10, 3.0  # as in `fedrec.kernels.gates`


def gated_columns(decays: tuple[float, ...]) -> list[int]:
    """The decays whose features are gated, as `fedrec.kernels.gates.gated_columns`."""
    return [] if all(decay == 1 for decay in decays) else sorted({len(decays) // 2, len(decays) - 1})


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
        """tensors: weights, log_popularity, numbers and popularity, and sizes where the kernels have gates."""
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
        self.sizes = tensors["sizes"].astype(np.float64) if "sizes" in tensors else None
        self.gated = [] if self.sizes is None else gated_columns(decays)
        self.each = len(decays) + len(self.gated)  # features of a kernel
        tops = [quantile(column.astype(np.float64), 0.9) for column in self.numbers.T]
        self._tops = np.array(tops, np.float64).astype(np.float32)

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "KernelForm":
        names = list(settings["kernels"])
        file, gates = source.file, ("sizes",) if settings.get("gates") else ()
        return cls(
            {name: device_map(file.read_below(f"map/{name}/")) for name in names},
            {name: file.read(f"mean/{name}") for name in names},
            tuple(settings["decays"]),
            {name: file.read(name) for name in ("weights", "log_popularity", "numbers", "popularity", *gates)},
            file.read_below("network/"),
        )

    # ---- the private state

    def start(self, history: History) -> dict[str, np.ndarray]:
        rates = self.decays if history.ordered else np.ones(1)
        many = len(rates)
        sums = {"rates": rates.copy(), "mass": np.zeros(many), "habit": np.zeros(many)}
        sums["beyond"] = np.full(self.numbers.shape[1], -np.inf)
        if self.gated:
            sums |= {"count": np.zeros(1), "newest": np.full(1, -1), "steps": np.zeros((STEPS, len(self.maps)))}
        return sums | {f"profile {name}": np.zeros((many, map_.width)) for name, map_ in self.maps.items()}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        rates = sums["rates"]
        sums["mass"] *= rates
        sums["mass"] += 1
        sums["habit"] *= rates
        sums["habit"] += self.log_popularity[item]
        np.maximum(sums["beyond"], self.numbers[item], out=sums["beyond"])
        if self.gated:
            self._add_step(sums, item)
        for name, map_ in self.maps.items():
            profile = sums[f"profile {name}"]
            profile *= rates[:, None]
            map_.add_row(profile, item)

    def _add_step(self, sums: dict[str, np.ndarray], item: int) -> None:
        """Add the kernels' values of the step from the newest event to `item`, and forget the oldest step."""
        newest, steps = int(sums["newest"][0]), sums["steps"]
        sums["newest"][0] = item
        sums["count"] += 1
        if newest < 0 or not self._moves(sums):
            return
        steps[:-1] = steps[1:]
        steps[-1] = [map_.between(newest, item, self.means[name]) for name, map_ in self.maps.items()]

    @staticmethod
    def _moves(sums: Mapping[str, np.ndarray]) -> bool:
        """Whether the order of the events is known: if not, every decay is 1."""
        return bool((sums["rates"] != 1).any())

    def gates(self, sums: Mapping[str, np.ndarray]) -> np.ndarray:
        """The gate of each kernel, (kernels,), see `fedrec.kernels.gates`; zeros where the model has none."""
        if self.sizes is None or not self.gated:
            return np.zeros(len(self.maps))
        steps = min(float(sums["count"][0]) - 1, STEPS)
        if steps <= 0 or not self._moves(sums):
            return np.zeros(len(self.maps))
        found: np.ndarray = np.clip(2 * sums["steps"].sum(0) / steps / self.sizes - 1, -MOST, MOST)
        return found

    def _mixed(self, columns: np.ndarray, gate: float) -> np.ndarray:
        """The weights (each, n) of the features of a kernel, the gated ones added to theirs: (decays, n)."""
        mix = columns[: len(self.decays)].copy()
        mix[self.gated] += gate * columns[len(self.decays) :]
        return mix

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        """How the history differs from the average one under each kernel, mixed over the decays for each column of
        `columns`, (width, 1 + H); signs included."""
        if not len(history):
            return {}
        found, start, many = {}, self.own, len(self.decays)
        for name, gate in zip(self.maps, self.gates(sums), strict=True):
            mix = self._mixed(self.columns[start : start + self.each], gate).T  # (1 + H, decays)
            if len(sums["rates"]) < many:  # one profile serves all decays
                mix = mix.sum(1, keepdims=True)
            found[f"mixed {name}"] = (mix @ self._profiles(sums, name)).T
            start += self.each
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

    def item_rows(self, items: np.ndarray) -> np.ndarray | None:
        """The rows of all kernels, each scaled by the weights of its features, side by side; None without kernels."""
        if not self.maps:
            return None
        heavy = np.abs(self.weights[self.own :].reshape(-1, self.each)[:, : len(self.decays)].sum(1))
        heavy = heavy if heavy.any() else np.ones_like(heavy)
        maps = zip(heavy, self.maps.values(), strict=True)
        rows = [np.sqrt(weight) * map_.rows(items) for weight, map_ in maps if not isinstance(map_, NeighbourRows)]
        return np.concatenate(rows, 1) if rows else None

    def groups(self) -> dict[str, slice]:
        """The columns of each group of features: popularity, the numbers of the catalogue, and each kernel."""
        many = self.each
        own = {POPULARITY: slice(0, POPULARITY_FEATURES), "numbers": slice(POPULARITY_FEATURES, self.own)}
        starts = range(self.own, len(self.weights), many)
        return own | {name: slice(at, at + many) for name, at in zip(self.maps, starts, strict=True)}

    def explain(self, state: State, items: np.ndarray) -> dict[str, np.ndarray]:
        """How much the scores fall when a group's features become those of the average item for this user."""
        if not len(state.history):
            return {}
        usual, features = self.features(state, spaced(self.n_items)).mean(0), self.features(state, items)
        whole, found = self._bend(features @ self.columns), {}
        for name, columns in self.groups().items():
            changed = features.copy()
            changed[:, columns] = usual[columns]
            found[name] = whole - self._bend(changed @ self.columns)
        return found

    def shares(self, state: State, item: int) -> Attribution:
        """A kernel feature is a weighted mean over events, so each event has its part of it. See `attribution`."""
        if not len(state.history):
            return popular(self.popularity, item)
        one, average = np.array([item]), spaced(self.n_items)
        usual, features = self.features(state, average).mean(0), self.features(state, one)[0]
        weights, hidden = self.columns[:, 0], np.zeros(len(usual))
        if self.network:
            into = self.columns[:, 1:]
            slope = mean_slope(usual @ into + self.network["bias"], features @ into + self.network["bias"])
            hidden = into @ (self.network["output"] * slope)
        moved, weights = features - usual, weights + hidden
        lags = np.arange(len(state.history))[::-1]
        recency = state.sums["rates"][:, None] ** lags / state.sums["mass"][:, None]  # (R, n)
        events, groups = {}, self.groups()
        for (name, map_), gate in zip(self.maps.items(), self.gates(state.sums), strict=True):
            met = map_.shares(state.history.items, one, average, self.means[name])
            mix = self._mixed(weights[groups[name]], gate)
            mixed = mix @ recency if len(recency) == len(mix) else mix.sum() * recency[0]
            events[name] = mixed * met
        own = (POPULARITY, "numbers") if self.numbers.shape[1] else (POPULARITY,)
        return Attribution(
            score=float(self.exact(state, one)[0]),
            baseline=float(self._bend(usual[None] @ self.columns)[0]),
            events=events,
            rest={name: float(moved[groups[name]] @ weights[groups[name]]) for name in own},
            attributed=float(moved @ hidden),
        )

    def features(self, state: State, items: np.ndarray) -> np.ndarray:
        """All features of `items` (n,), (n, K) float64."""
        parts, many = [self._own(state, items)], len(self.decays)
        for (name, map_), gate in zip(self.maps.items(), self.gates(state.sums), strict=True):
            met = map_.against(self._profiles(state.sums, name).T, items)  # (n, R)
            parts.append(np.broadcast_to(met, (len(items), many)))
            parts.append(gate * parts[-1][:, self.gated])
        return np.concatenate(parts, 1)
