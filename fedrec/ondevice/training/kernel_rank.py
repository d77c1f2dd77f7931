"""The device's side of `kernel-rank`; see `fedrec.algorithms.kernel_rank` for the stages."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from fedrec.algorithms.kernel_rank_plan import (
    AGAIN,
    ALL,
    DECIDED,
    GRADIENT_CLIP,
    NOT_OFFERED,
    OR_POPULARITY,
    PAIRS,
    SENT_BITS,
    KernelRankPlan,
    fault_of_choice,
    parameter_count,
)
from fedrec.kernels.stars_plan import NAME, QUERY
from fedrec.ondevice.feature_maps import DenseRows, DeviceMap, HeadRows
from fedrec.ondevice.history import History
from fedrec.ondevice.kernel import POPULARITY_FEATURES, KernelForm, gated_columns
from fedrec.ondevice.kernel_items import NUMBERS, KernelItems
from fedrec.ondevice.training.base import DeviceQuery, Part, RunFacts, Shared, Training
from fedrec.ondevice.training.lagged_pairs import PairsPart
from fedrec.ondevice.training.popularity import UNIT, popularity_part
from fedrec.ondevice.training.public_kernels import kernel_count, number_scores, public_kernels
from fedrec.ondevice.training.ranking import DensePart, Weights, feature_space, gradient_part, weighs
from fedrec.ondevice.training.stars import rated_part, stars_map
from fedrec.privacy.fixed_point import MOST_BITS


class KernelRankTraining(Training):
    """Popularity; the co-occurrence, in one sum or two; then a gradient in each round."""

    algorithm: ClassVar[str] = "kernel-rank"

    def __init__(self, settings: Mapping[str, Any], facts: RunFacts) -> None:
        super().__init__(settings, facts)
        if facts.features is None:
            raise ValueError("no features of the items")
        self.features: KernelItems = facts.features
        self.decays = tuple(float(rate) for rate in settings["decays"])
        self.targets, self.negatives = int(settings["targets"]), int(settings["negatives"])
        scale = settings.get("stars")
        self.scale = None if scale is None else (float(scale[0]), float(scale[1]))
        self.rank, self.gates = int(settings["kernel_rank"]), bool(settings["gates"])
        numbers = sum(block.kind == NUMBERS for block in self.features.blocks)
        self.plan = KernelRankPlan.of(
            SimpleNamespace(**settings),
            items=self.items,
            users=facts.users,
            mu=facts.mu,
            kernels=kernel_count(self.features) + (self.scale is not None),
            own=POPULARITY_FEATURES + 2 * numbers,
            decays=len(self.decays),
            gated=len(gated_columns(self.decays)) if self.gates else 0,
        )
        self._public: tuple[dict[str, DeviceMap], np.ndarray] | None = None
        self._space: tuple[Shared, KernelForm] | None = None

    @property
    def rounds(self) -> int:
        return 1 + self._pairs + self.plan.rounds

    @property
    def _pairs(self) -> int:
        """Rounds of the co-occurrence."""
        return 0 if not self.plan.cooccurrence else 2 if self.plan.again else 1

    def queries(self, round_index: int) -> tuple[DeviceQuery, ...]:
        if round_index == 0 and self.scale is not None:
            return (DeviceQuery(QUERY, (2 * self.items,), UNIT),)
        if round_index == 0:
            return (DeviceQuery("popularity", (self.items,), UNIT),)
        if round_index <= self._pairs:
            return (self._query("cooccurrence", self.plan.pair_numbers, UNIT, round_index, SENT_BITS),)
        return (self._query("weights", self.plan.parameters, GRADIENT_CLIP, round_index, SENT_BITS),)

    def _query(self, name: str, size: int, clip: float, round_index: int, bits: int = MOST_BITS) -> DeviceQuery:
        if self.plan.again and round_index >= DECIDED:
            return DeviceQuery(name + OR_POPULARITY, (max(self.items, size),), clip, bits=bits)
        return DeviceQuery(name, (size,), clip, bits=bits)

    def fault(self, shared: Shared, round_index: int) -> str:
        if not self.plan.again:
            return NOT_OFFERED if AGAIN in shared else ""
        choice = shared.get(AGAIN)
        one = None if choice is None or choice.size != 1 else float(choice.reshape(-1)[0])
        return fault_of_choice(one, round_index, DECIDED)

    def parts(self, shared: Shared, history: History, round_index: int) -> dict[str, Part]:
        (query,) = self.queries(round_index)
        return {query.name: self._part(shared, history, round_index)}

    def _part(self, shared: Shared, history: History, round_index: int) -> Part:
        if round_index == 0:
            return popularity_part(history) if self.scale is None else rated_part(history, self.scale, self.items)
        if fault := self.fault(shared, round_index):
            raise ValueError(fault)
        if "head" in shared:
            self._head(shared)
        weights = round_index > self._pairs
        if self.plan.again and round_index >= DECIDED and float(shared[AGAIN]) >= (ALL if weights else PAIRS):
            return popularity_part(history)
        if not weights:
            location = np.full(self.items, -1, np.int64)
            location[self._head(shared)] = np.arange(self.plan.head_items)
            sketch = self.plan.pair_numbers if self.plan.pair_numbers < self.plan.pairs else None
            ordered, skip = history.ordered, self.targets
            return PairsPart(history.items, location, self.plan.head_items, skip, sketch, ordered=ordered)
        if not weighs(history.key, self.plan.weighing):
            return DensePart(np.zeros(self.plan.parameters))
        state, popularity = self._weights(shared), self._vector(shared, "popularity", self.items)
        if self._space is None or self._space[0] is not shared:
            self._space = shared, self._made(shared, popularity)
        return gradient_part(self._space[1], state, popularity, history, self.targets, self.negatives)

    def end(self) -> None:
        self._space = None

    def _weights(self, shared: Shared) -> Weights:
        many, hidden = self.plan.features(cooccurrence="lift" in shared), self.plan.hidden
        parameters = self._vector(shared, "parameters", parameter_count(many, hidden)).astype(np.float64)
        scales = self._vector(shared, "scales", many).astype(np.float64)
        typical = _sent(shared, "gradient norm")
        if typical.size != 1:
            raise ValueError(f"'gradient norm' of shape {typical.shape}; the run has one number")
        return Weights(parameters, scales, hidden, float(typical.reshape(-1)[0]))

    def _made(self, shared: Shared, popularity: np.ndarray) -> KernelForm:
        """The feature space of the state."""
        if self._public is None:
            made = public_kernels(self.features, self.rank, self.facts.seed)
            self._public = made, number_scores(self.features)
        maps, numbers = dict(self._public[0]), self._public[1]
        if self.scale is not None:
            maps[NAME] = stars_map(self._vector(shared, "stars", self.items))
        if "lift" in shared:
            maps["co-occurrence"] = DenseRows(*self._rows(shared, "lift", self.items))
            head = self._head(shared)
            for name in ("pairs", "cosine"):
                rows = self._rows(shared, name, self.plan.head_items)
                maps[f"co-occurrence {name}"] = HeadRows(head, self.items, *rows)
        sizes = self._vector(shared, "sizes", len(maps)) if self.gates else None
        return feature_space(maps, popularity, numbers, self.decays, sizes)

    def _head(self, shared: Shared) -> np.ndarray:
        head = self._vector(shared, "head", self.plan.head_items, "i")
        if len(head) and not 0 <= int(head.min()) <= int(head.max()) < self.items:
            raise ValueError(f"a head item outside of 0..{self.items - 1}, which are those that the run has")
        return head

    def _rows(self, shared: Shared, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = _sent(shared, name)
        if rows.ndim != 2 or len(rows) != count:
            raise ValueError(f"'{name}' of shape {rows.shape}; the run has {count} rows")
        return rows, self._vector(shared, f"{name} signs", rows.shape[1])

    def _vector(self, shared: Shared, name: str, count: int, kind: str = "f") -> np.ndarray:
        found = _sent(shared, name)
        if found.shape != (count,) or found.dtype.kind != kind:
            raise ValueError(f"'{name}' of shape {found.shape}; the run has {count} numbers")
        return found


def _sent(shared: Shared, name: str) -> np.ndarray:
    if name not in shared:
        raise ValueError(f"no tensor '{name}', which the run has")
    return shared[name]
