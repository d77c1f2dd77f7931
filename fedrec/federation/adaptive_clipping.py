"""Adaptive clipping around any algorithm: the clips of its sums of several rounds follow a quantile of users' norms.

The maths, its source and the differences from it are in `fedrec.privacy.adaptive`. This wrapper divides contributions
by a public factor, multiplies the private sums by it again, and asks for the part of users within the clip as one more
sum. The algorithm inside has no view of it.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch

from fedrec.algorithms.base import Algorithm, Shared, Wrapper, layers
from fedrec.data.users import UserBatch
from fedrec.errors import InputError, PrivacyError
from fedrec.plugins import is_own
from fedrec.privacy.adaptive import ClippingConfig, scaled
from fedrec.privacy.clipping import measured
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery

QUERY = "clip quantile"
OWN = "clipping."
FACTORS, PATH = f"{OWN}factors", f"{OWN}path"
"""Names of its tensors, float64: the factors of the next round (sums,), and those of all rounds (rounds + 1, sums)."""

QUANTILE_STD = 0.05
"""Standard deviation of the noise of the measured part of users, where the share is left open; the paper's choice."""
LEAST_SHARE, MOST_SHARE = 1e-6, 0.05
"""Bounds of a share that is left open."""


class AdaptiveClipping(Wrapper):
    """`inner` with clips that adapt; its budget shares are scaled by 1 - share.

    The inner algorithm is rebuilt with its mu scaled by sqrt(1 - share), so that its settings fit the noise of its
    releases. Sums that are asked once keep their clip: nothing is known of their norms before.

    Raises:
        InputError: when no clip can adapt.
    """

    name: ClassVar[str] = "adaptive-clipping"
    Config = ClippingConfig
    own_names = OWN
    config: ClippingConfig

    def __init__(self, inner: Algorithm, config: ClippingConfig) -> None:
        asked = _adaptable(inner)
        facts, rounds = inner.facts, _rounds(inner, asked)
        config = config.moving(len(rounds))
        self.share = config.share if config.share is not None else _open_share(config, inner, asked)
        super().__init__(inner.rebuilt(replace(facts, mu=facts.mu * math.sqrt(1 - self.share))), config, facts)
        self.adapted = tuple(sorted(_adaptable(self.inner)))
        self._share = self.share / len(_rounds(self.inner, self.adapted) or rounds)

    @property
    def rounds(self) -> int:
        return self.inner.rounds

    @property
    def preparation(self) -> int:
        return self.inner.preparation

    @property
    def server_only(self) -> frozenset[str]:
        return self.inner.server_only | {PATH}

    def initial(self) -> Shared:
        ones = torch.ones(len(self.adapted), dtype=torch.float64, device=self.facts.device)
        return self.inner.initial() | {FACTORS: ones, PATH: ones[None].clone()}

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        range_, left = (self.config.smallest, self.config.largest), 1 - self.share
        queries = tuple(
            replace(
                query,
                budget_share=query.budget_share * left,
                factors=range_ if query.name in self.adapted else None,
            )
            for query in self.inner.queries(round_index)
        )
        adapting = sum(query.factors is not None for query in queries)
        if not adapting:
            return queries
        bound = self.config.bound * math.sqrt(adapting)
        return (*queries, SumQuery(QUERY, (adapting,), bound, self._share))

    def for_devices(self, shared: Shared, round_index: int) -> Shared:
        sent = self.inner.for_devices(self.inner_state(shared), round_index)
        return sent | {FACTORS: shared[FACTORS]} if self._adapting(round_index) else sent

    def fault(self, shared: Shared, round_index: int) -> str:
        found = self.config.fault(shared.get(FACTORS), len(self.adapted)) if self._adapting(round_index) else ""
        return found or self.inner.fault(self.inner_state(shared), round_index)

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        given = self.inner.contribute(self.inner_state(shared), users, round_index)
        adapting = self._adapting(round_index)
        if not adapting:
            return given
        if fault := self.config.fault(shared[FACTORS], len(self.adapted)):
            raise PrivacyError(f"round {round_index}: {fault}")
        ours, bits = all(is_own(type(each)) for each in layers(self.inner)), []
        for query in adapting:
            part = given[query.name]
            part = measured(part, len(users), query.shape, own=ours and is_own(type(part)))
            given[query.name] = part = scaled(part, self._factor(shared, query.name))
            bits.append(self.config.bits(part.norms(), query.clip_norm))
        given[QUERY] = DenseContribution(torch.stack(bits, 1))  # (B, sums)
        return given

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        adapting, whole = self._adapting(round_index), dict(sums)
        factors = shared[FACTORS].clone()
        for place, query in enumerate(adapting):
            factor, total = self._factor(shared, query.name), sums[query.name]
            whole[query.name] = PrivateSum(total.value * factor, total.noise_std * factor)
            bits = float(sums[QUERY].value[place])
            moved = self.config.next_factor(factor, bits, self.facts.expected_cohort)
            factors[self.adapted.index(query.name)] = moved
        whole.pop(QUERY, None)
        own = {FACTORS: factors, PATH: torch.cat([shared[PATH], factors[None]])}
        return self.inner.update(self.inner_state(shared), whole, round_index) | own

    @property
    def chosen(self) -> dict[str, Any]:
        return self.inner.chosen | {"clipping_share": self.share, "clipping_rate": self.config.rate}

    def clips(self, shared: Shared) -> dict[str, float]:
        """Return the clip norm that the next round uses, by query."""
        queries = (query for number in range(self.rounds) for query in self.inner.queries(number))
        norms = {query.name: query.clip_norm for query in queries}
        return {name: norms[name] * self._factor(shared, name) for name in self.adapted}

    def _adapting(self, round_index: int) -> list[SumQuery]:
        """Return the inner algorithm's queries of a round whose clips adapt."""
        return [query for query in self.inner.queries(round_index) if query.name in self.adapted]

    def _factor(self, shared: Shared, name: str) -> float:
        return float(shared[FACTORS][self.adapted.index(name)])


def _adaptable(algorithm: Algorithm) -> frozenset[str]:
    """Return the names of the queries of several rounds. Raises: InputError when none of them may adapt."""
    times = Counter(query.name for number in range(algorithm.rounds) for query in algorithm.queries(number))
    several = {name for name, count in times.items() if count > 1}
    found = frozenset(several - algorithm.fixed_clips.keys())
    if not found:
        why = "no sum is asked in several rounds, so no clip can adapt"
        if several:
            name = min(several)
            why = f"the clip of '{name}' cannot adapt: {algorithm.fixed_clips[name]}"
        raise InputError(f"{algorithm.name}: {why}; leave privacy.clipping.adaptive out")
    return found


def _rounds(algorithm: Algorithm, adapted: Any) -> list[int]:
    return [
        number
        for number in range(algorithm.rounds)
        if any(query.name in adapted for query in algorithm.queries(number))
    ]


def _open_share(config: ClippingConfig, algorithm: Algorithm, adapted: frozenset[str]) -> float:
    """Return the share that leaves noise of `QUANTILE_STD` where every user takes part: a release of share s has noise
    of clip / (mu sqrt(s)), and the part of users is the sum over the expected cohort."""
    facts, squares = algorithm.facts, 0.0
    for number in _rounds(algorithm, adapted):
        adapting = sum(query.name in adapted for query in algorithm.queries(number))
        bound = config.bound * math.sqrt(adapting)
        squares += (bound / (facts.mu * QUANTILE_STD * facts.expected_cohort)) ** 2
    return min(MOST_SHARE, max(LEAST_SHARE, squares))


def clip_figures(algorithm: Algorithm, shared: Shared) -> dict[str, float]:
    """Return columns of `history.csv`: each adaptive clip after a round, "clip NAME"; empty for fixed clips.

    Clips are public: they follow from private sums.
    """
    adaptive = [each for each in layers(algorithm) if isinstance(each, AdaptiveClipping)]
    return {f"clip {name}": norm for each in adaptive for name, norm in each.clips(shared).items()}
