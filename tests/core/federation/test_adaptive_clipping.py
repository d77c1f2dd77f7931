"""Adaptive clips: the bound holds whatever the factor, the quantile is paid for, and the clip finds it."""

import math

import numpy as np
import pytest
import torch
from fedrec_sim.engines.in_process import InProcessFederation
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedrec.algorithms.als import ALS, ALSConfig
from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.algorithms.kernel_rank import KernelRank, KernelRankConfig
from fedrec.algorithms.popularity import Popularity, PopularityConfig, PopularityModel
from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError, PrivacyError
from fedrec.evaluation.private import PrivateEvaluation, PrivateEvaluationConfig
from fedrec.federation.adaptive_clipping import FACTORS, MOST_SHARE, PATH, QUERY, AdaptiveClipping
from fedrec.federation.hosted import HostedUsers, Stopwatch
from fedrec.privacy.adaptive import ClippingConfig, ScaledContribution, scaled
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.config import PrivacyConfig
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import DenseContribution, PrivateSum, SparseContribution, SumQuery
from fedrec.settings import Settings, parse
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import planted_catalogue
from tests.core.evaluation.table_model import histories

CLIP, USERS, ROUNDS = 2.0, 300, 50
ON = ClippingConfig(adaptive=True)


class Norms(Algorithm):
    """Each user adds a vector of a known norm, in every round: that of the user's one item."""

    name, Config = "norms", Settings
    rounds = ROUNDS

    def __init__(self, config: Settings, facts: PublicFacts, norms: Tensor | None = None) -> None:
        super().__init__(config, facts)
        self.norms = torch.linspace(0.1, 9, len(facts.catalogue)) if norms is None else norms
        self.got: list[PrivateSum] = []

    def rebuilt(self, facts: PublicFacts) -> Algorithm:
        return type(self)(self.config, facts, self.norms)

    def initial(self) -> Shared:
        return {"total": torch.zeros(3)}

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        return (SumQuery("part", (3,), CLIP, 1 / self.rounds),)

    def contribute(self, shared, users, round_index):
        rows = torch.zeros(len(users), 3).index_add_(
            0, users.owners, self.norms[users.items][:, None] * torch.eye(3)[:1]
        )
        return {"part": DenseContribution(rows)}

    def update(self, shared, sums, round_index):
        return {"total": shared["total"] + sums["part"].value}

    def release(self, shared):
        return PopularityModel(shared["total"].sum() + torch.ones(len(self.facts.catalogue))).by(self.name)


class Few(Norms):
    rounds = 3


@pytest.mark.slow
class TestTheContract(AlgorithmContract):
    """Two sums adapt, and both hold packed matrices."""

    installed = False

    def make(self, facts: PublicFacts) -> Algorithm:
        config = ClippingConfig(adaptive=True, quantile=0.8, rate=1.0)
        return AdaptiveClipping(ALS(ALSConfig(dim=8, rounds=5, alpha0=0.1, reg=0.01), facts), config)


def facts(users: int = USERS, mu: float = math.inf, sampling: float = 1.0) -> PublicFacts:
    return PublicFacts(Catalogue(tuple(map(str, range(users)))), users, users * sampling, mu)


def lognormal(users: int = USERS) -> Tensor:
    return torch.from_numpy(np.exp(np.random.default_rng(4).normal(0.5, 1.0, users))).float()


def path(
    norms: Tensor, config: ClippingConfig, mu: float = math.inf, sampling: float = 1.0, present: int = USERS
) -> Tensor:
    """Return the factor by round; the first `present` users exist. mu: of the noise; infinite for none."""
    algorithm = AdaptiveClipping(Norms(Settings(), facts(USERS, mu, sampling), norms), config)
    source, draw = histories([[user] for user in range(USERS)], USERS), np.random.default_rng(5)
    shared = algorithm.initial()
    for number in range(algorithm.rounds):
        users = source.batch(np.flatnonzero(draw.random(present) < sampling), seed=0)
        parts, sums = algorithm.contribute(shared, users, number), {}
        for query in algorithm.queries(number):
            part = parts[query.name]
            std = 0.0 if math.isinf(mu) else query.clip_norm / (mu * math.sqrt(query.budget_share))
            value = part.weighted_sum(clip_weights(part, query.clip_norm)).numpy()
            sums[query.name] = PrivateSum(torch.from_numpy(value + std * draw.normal(size=query.shape)), std)
        shared = algorithm.update(shared, sums, number)
    return shared[PATH][:, 0]


def replaced(**changes: float) -> ClippingConfig:
    return ClippingConfig(**({"adaptive": True, "rate": 1.0} | changes))


# ---- the clip finds the quantile


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_without_noise_the_clip_finds_the_quantile(quantile: float) -> None:
    found = CLIP * path(lognormal(), replaced(quantile=quantile))[-1]
    assert abs(float((lognormal() <= found).float().mean()) - quantile) < 0.02


@pytest.mark.parametrize(
    ("quantile", "sampling", "present"), [(0.5, 1.0, USERS), (0.9, 1.0, USERS), (0.8, 0.5, USERS), (0.9, 1.0, 210)]
)
def test_with_noise_it_stays_near_the_quantile(quantile: float, sampling: float, present: int) -> None:
    """Also when users are sampled, or 30 % of those who are expected never come.

    With 1/2 taken off each bit, as in the paper, no clip would then reach 0.9, since 0.5 + 0.4 / 0.7 > 1.
    """
    norms, mu = lognormal(), PrivacyConfig(epsilon=8.0, delta=1e-4).mu(USERS)
    found = CLIP * path(norms, replaced(quantile=quantile, rate=0.5), mu, sampling, present)[-20:].log().mean().exp()
    assert abs(float((norms[:present] <= found).float().mean()) - quantile) < 0.06


# ---- the bound


@given(
    norms=st.lists(st.floats(0, allow_infinity=True) | st.just(math.nan), min_size=1, max_size=8),
    quantile=st.floats(0.01, 0.99),
    clip=st.floats(1e-3, 1e3),
)
def test_a_users_bits_are_bounded(norms: list[float], quantile: float, clip: float) -> None:
    config = replaced(quantile=quantile)
    given_norms = torch.tensor(norms, dtype=torch.float64)
    bits = config.bits(given_norms, clip)
    assert (bits.abs() <= config.bound).all()
    assert not bits[given_norms == 0].any()


@given(total=st.floats(allow_nan=False), factor=st.floats(0.01, 100), cohort=st.floats(1e-3, 1e9))
def test_the_next_factor_is_in_the_range_whatever_the_sum(total: float, factor: float, cohort: float) -> None:
    following = replaced(rate=0.2).next_factor(factor, total, cohort)
    assert 0.01 <= following <= 100
    assert math.exp(-0.1) - 1e-9 <= following / factor <= math.exp(0.1) + 1e-9


VALUES = st.lists(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=3, max_size=3), min_size=2, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(
    values=VALUES, factor=st.floats(0.01, 100), trust=st.sampled_from(["central", "distributed"]), dense=st.booleans()
)
def test_neighbours_move_both_sums_together_by_no_more_than_is_charged(
    values: list[list[float]], factor: float, trust: str, dense: bool
) -> None:
    """In units of each sum's noise: the squared moves add up to at most the squared signal of the charged event."""
    plan, queries = PLANS[trust], PLANS[trust].rounds[0]
    rows = torch.tensor(values)
    owners, places = torch.arange(len(rows)).repeat_interleave(3), torch.arange(3).repeat(len(rows))
    part = DenseContribution(rows) if dense else SparseContribution(owners, places, rows.flatten(), len(rows), (3,))
    part = scaled(part, factor)
    parts = {"part": part, QUERY: DenseContribution(ON.bits(part.norms(), CLIP)[:, None])}
    keys, integers, moved, allowed = torch.arange(len(rows)), plan.integers(1), 0.0, 0.0
    for name, query in queries.items():
        weights = plan.clip(query, parts[name])
        without = weights.clone()
        without[0] = 0.0
        totals = [integers.zeros(query, 0, torch.device("cpu")) for _ in range(2)]
        for total, some in zip(totals, (weights, without), strict=True):
            integers.add(total, query, 0, parts[name], some, keys)
        change = (totals[0] - totals[1]).double()
        if plan.discrete is None:
            moved += (
                float((query.decode(totals[0] - totals[1], plan.lattice(query)) / plan.noise_std(0, name)).norm()) ** 2
            )
            allowed += plan.noise_multiplier(0, name) ** -2
        else:
            made = plan.discrete.query(0, name)
            wide = 1 << made.encoding.bits
            change = torch.where(
                change > wide / 2, change - wide, torch.where(change < -wide / 2, change + wide, change)
            )
            assert float(change.norm()) ** 2 <= made.encoding.squared
            assert float(change.abs().sum()) <= made.encoding.absolute
    assert moved <= allowed * (1 + 1e-9)


def priced(trust: str) -> PrivacyPlan:
    config = PrivacyConfig(epsilon=4.0, delta=1e-4, trust=trust)
    algorithm = AdaptiveClipping(Few(Settings(), facts(100, config.mu(100))), ON)
    return PrivacyPlan.build(config, [algorithm.queries(number) for number in range(3)], 100, 3)


PLANS = {trust: priced(trust) for trust in ("central", "distributed")}


def test_a_weight_too_small_for_a_float32_leaves_the_user_out() -> None:
    """A contribution may cast weights to float32, and a denormal weight is rounded up by as much as a half."""
    part = ScaledContribution(DenseContribution(torch.full((1, 1), 1e38)), 1e6)
    total = torch.zeros(1, dtype=torch.int64)
    part.add_to(
        total, torch.tensor([2e-38], dtype=torch.float64), PLANS["central"].lattice(SumQuery("x", (1,), 1.0, 1))
    )
    assert not total.any()


# ---- the budget


@pytest.mark.parametrize("share", [None, 0.2])
def test_the_budget_is_split_exactly(share: float | None) -> None:
    mu = PrivacyConfig(epsilon=1.0, delta=1e-4).mu(USERS)
    made = AdaptiveClipping(Norms(Settings(), facts(mu=mu)), replaced(share=share))
    queries = [query for number in range(ROUNDS) for query in made.queries(number)]
    assert math.fsum(query.budget_share for query in queries) == pytest.approx(1.0, abs=1e-12)
    mine = [query for query in queries if query.name == QUERY]
    assert len(mine) == ROUNDS
    assert math.fsum(query.budget_share for query in mine) == pytest.approx(made.share, rel=1e-12)
    inside = made.inner.queries(0)[0].budget_share * made.inner.facts.mu**2
    assert inside == pytest.approx(queries[0].budget_share * mu**2, rel=1e-12)
    assert made.share == (share or MOST_SHARE)


def test_an_open_share_leaves_the_papers_noise() -> None:
    config = PrivacyConfig(epsilon=8.0, delta=1e-5)
    made = AdaptiveClipping(Few(Settings(), facts(5000, config.mu(5000))), ON)
    plan = PrivacyPlan.build(config, [made.queries(number) for number in range(3)], 5000, 1)
    assert plan.noise_std(0, QUERY) / made.facts.expected_cohort == pytest.approx(0.05, rel=0.01)
    assert made.share < 1e-3


def test_a_quantile_that_is_not_charged_cannot_be_asked() -> None:
    """The attack: a plan for the algorithm alone, and a run that also asks for the quantile."""
    config = PrivacyConfig(epsilon=4.0, delta=1e-4)
    made = AdaptiveClipping(Few(Settings(), facts(50, config.mu(50))), ON)
    plan = PrivacyPlan.build(config, [made.inner.queries(number) for number in range(3)], 50, 1)
    plan.charge(0)
    source = histories([[user] for user in range(50)], 50)
    with pytest.raises(PrivacyError, match="not in the plan"):
        InProcessFederation(source, plan, seed=0).clipped_sums(made, made.initial(), 0, np.arange(50))
    honest = PrivacyPlan.build(config, [made.queries(number) for number in range(3)], 50, 1)
    with pytest.raises(PrivacyError, match="no unused charge"):
        honest.privatise(0, made.queries(0)[-1], torch.zeros(1, dtype=torch.int64))
    honest.charge(0)
    honest.privatise(0, made.queries(0)[-1], torch.zeros(1, dtype=torch.int64))
    with pytest.raises(PrivacyError, match="no unused charge"):
        honest.privatise(0, made.queries(0)[-1], torch.zeros(1, dtype=torch.int64))


def test_factors_of_one_change_no_bit_of_the_sums() -> None:
    inner, source = Few(Settings(), facts(20)), histories([[user] for user in range(20)], 20)
    made = AdaptiveClipping(inner, ON)
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=4.0, delta=1e-4), [made.queries(0)], 20, 1)
    watch, clip = Stopwatch(torch.device("cpu")), plan.clip
    found = HostedUsers(source, seed=0).clipped_sums(made, made.initial(), 0, np.arange(20), clip, watch)
    fixed = PrivacyPlan.build(PrivacyConfig(epsilon=4.0, delta=1e-4), [inner.queries(0)], 20, 1)
    alone = HostedUsers(source, seed=0).clipped_sums(inner, inner.initial(), 0, np.arange(20), fixed.clip, watch)
    assert torch.equal(found["part"], alone["part"])


def test_sum_and_noise_come_back_in_the_algorithms_units() -> None:
    seen = []

    class Seeing(Few):
        def update(self, shared, sums, round_index):
            seen.append(sums)
            return super().update(shared, sums, round_index)

    made = AdaptiveClipping(Seeing(Settings(), facts(20)), ON)
    shared = made.initial() | {FACTORS: torch.tensor([4.0], dtype=torch.float64)}
    sums = {"part": PrivateSum(torch.ones(3), 0.5), QUERY: PrivateSum(torch.zeros(1), 1.0)}
    after = made.update(shared, sums, 0)
    assert list(seen[0]) == ["part"]
    assert torch.equal(seen[0]["part"].value, torch.full((3,), 4.0))
    assert seen[0]["part"].noise_std == 2.0
    assert after[PATH].tolist() == [[1.0], [4.0]]


def test_private_looks_and_adaptive_clips_go_together() -> None:
    config = PrivacyConfig(epsilon=4.0, delta=1e-4, evaluation_share=0.1)
    adaptive = AdaptiveClipping(Few(Settings(), facts(20, config.mu(20))), replaced(share=0.2))
    looking = PrivateEvaluation(adaptive, PrivateEvaluationConfig(share=0.1))
    shares: dict[str, float] = {}
    for number in range(looking.rounds):
        for query in looking.queries(number):
            shares[query.name] = shares.get(query.name, 0.0) + query.budget_share
    assert shares == pytest.approx({"part": 0.9 * 0.8, QUERY: 0.9 * 0.2, "evaluation": 0.1})
    assert looking.inner.inner.facts.mu == pytest.approx(config.mu(20) * math.sqrt(0.9 * 0.8))
    assert looking.queries(0)[0].factors == (0.01, 100.0)
    assert looking.fault(looking.initial() | {FACTORS: torch.zeros(1, dtype=torch.float64)}, 0)


class Lying(DenseContribution):
    """Norms that are too small."""

    def norms(self):
        return super().norms() * 1e-3


def test_norms_of_foreign_code_are_measured() -> None:
    class Foreign(Few):
        def contribute(self, shared, users, round_index):
            return {"part": Lying(1e3 * torch.ones(len(users), 3))}

    made = AdaptiveClipping(Foreign(Settings(), facts(20)), ON)
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=4.0, delta=1e-4), [made.queries(0)], 20, 1)
    source, watch = histories([[user] for user in range(20)], 20), Stopwatch(torch.device("cpu"))
    for users in (np.array([3]), np.arange(20)):
        found = HostedUsers(source, seed=0).clipped_sums(made, made.initial(), 0, users, plan.clip, watch)
        part, bits = (query.decode(found[query.name], plan.lattice(query)) for query in made.queries(0))
        assert float(part.norm()) <= CLIP * len(users)
        assert float(bits) == pytest.approx(-0.5 * len(users), rel=1e-5)


def test_foreign_code_cannot_hide_behind_an_algorithm_of_fedrec() -> None:
    """A plug-in with an attribute `inner` was taken for the built-in algorithm there, and its norms were believed."""

    class Hiding(Few):
        def contribute(self, shared, users, round_index):
            owners = torch.arange(len(users)).repeat_interleave(
                4
            )  # a place four times: the norm takes it for four places
            values = torch.full((len(owners),), 0.5 * CLIP)
            return {"part": SparseContribution(owners, torch.zeros_like(owners), values, len(users), (3,))}

    foreign = Hiding(Settings(), facts(20))
    foreign.inner = Popularity(PopularityConfig(), foreign.facts)
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=4.0, delta=1e-4), [foreign.queries(0)], 20, 1)
    source, watch = histories([[user] for user in range(20)], 20), Stopwatch(torch.device("cpu"))
    found = HostedUsers(source, seed=0).clipped_sums(foreign, foreign.initial(), 0, np.array([3]), plan.clip, watch)
    query = foreign.queries(0)[0]
    assert float(query.decode(found["part"], plan.lattice(query)).norm()) <= CLIP


@pytest.mark.parametrize(
    ("algorithm", "why"),
    [
        (lambda facts: Popularity(PopularityConfig(), facts), "no sum is asked in several rounds"),
        (lambda facts: KernelRank(KernelRankConfig(rounds=3), facts), "gradients of norm 1"),
    ],
)
def test_what_cannot_adapt_is_refused_in_one_line(algorithm, why: str) -> None:
    with pytest.raises(InputError, match=why) as found:
        AdaptiveClipping(algorithm(PublicFacts(planted_catalogue(), 60, 60.0, 1.0)), ON)
    assert "\n" not in str(found.value)
    assert str(found.value).endswith("leave privacy.clipping.adaptive out")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"clipping": {"quantile": 0.3}}, "privacy.clipping.quantile is for privacy.clipping.adaptive = true"),
        ({"clipping": {"adaptive": True}, "epsilon": "none"}, "needs an epsilon"),
        ({"clipping": {"adaptive": True, "smallest": 2.0}}, "smallest"),
        ({"clipping": {"adaptive": True, "largest": 0.5}}, "largest"),
        ({"clipping": {"adaptive": True, "quantil": 0.5}}, "quantile"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(values: dict, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse(PrivacyConfig, values, "test")


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, -math.inf, math.nan, 1e300, 0.0099, 100.1])
def test_a_factor_off_the_range_is_computed_with_by_nobody(value: float) -> None:
    made = AdaptiveClipping(Few(Settings(), facts(20)), ON)
    users = histories([[user] for user in range(20)], 20).batch(np.arange(20), seed=0)
    lie = made.initial() | {FACTORS: torch.tensor([value], dtype=torch.float64)}
    assert "range" in made.fault(lie, 0)
    with pytest.raises(PrivacyError, match="range"):
        made.contribute(lie, users, 0)


@pytest.mark.parametrize("lie", [torch.ones(1), torch.ones(2).double(), torch.ones(1, 1).double(), None])
def test_factors_of_another_form_are_refused(lie: Tensor | None) -> None:
    made = AdaptiveClipping(Few(Settings(), facts(20)), ON)
    state = made.initial()
    assert not made.fault(state, 0)
    del state[FACTORS]
    assert made.fault(state if lie is None else state | {FACTORS: lie}, 0)
