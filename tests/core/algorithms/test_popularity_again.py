"""The choice of `kernel-rank` between its own sums and popularity: what is asked, at what price, and who may choose."""

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from fedrec.algorithms import kernel_rank
from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.algorithms.kernel_rank import KernelRank
from fedrec.algorithms.kernel_rank_features import KernelFeatures
from fedrec.algorithms.kernel_rank_plan import AGAIN, ALL, NEVER, PAIRS
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.algorithms.popularity_again import COUNTED, NOISE
from fedrec.data.catalogue import Catalogue
from fedrec.kernels.popularity import popularity_contribution
from fedrec.model import ReleasedModel
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows, planted_rows

USERS, MU, NOISE_STD = 400, 5.0, 0.2
FEW = KernelRankConfig(decays=(1.0, 0.5), kernel_rank=8, head_items=24, targets=2, negatives=8, rounds=4)
FIXED = FEW.model_copy(update={"cooccurrence": True})
NAMES = ["popularity", "cooccurrence", "cooccurrence or popularity", *["weights or popularity"] * 4]
BARE = Catalogue(tuple(map(str, range(ITEMS))))


def small(config: KernelRankConfig = FEW, **changes: object) -> KernelRank:
    changes = {"users": USERS, "expected_cohort": float(USERS), "mu": MU} | changes
    return KernelRank(config, AlgorithmContract().facts(**changes))


def indifferent(events: int = 12) -> list[list[int]]:
    """Users who take items by popularity alone, in any order."""
    likely = 1.0 / torch.arange(1, ITEMS + 1)
    return torch.multinomial(likely.expand(USERS, -1), events, generator=torch.Generator().manual_seed(1)).tolist()


def tasteful() -> list[list[int]]:
    return planted_rows(USERS)[0]


def states(algo: Algorithm, rows: list[list[int]]) -> list[Shared]:
    """The state before each round and after the last."""
    return AlgorithmContract().run(algo, batch_of(rows), NOISE_STD)


@cache
def usual_states(rows: Callable[[], list[list[int]]]) -> list[Shared]:
    return states(small(), rows())


class Choosing(AlgorithmContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return KernelRank(FEW, facts)

    def facts(self, **changes: object) -> PublicFacts:
        return super().facts(**{"mu": 10.0} | changes)


@pytest.mark.slow
class TestContractWhereNobodyAsksAgain(Choosing):
    """Users with a taste."""

    def test_it_asks_for_pairs(self, states: list[Shared]) -> None:
        assert float(states[-1][AGAIN]) == NEVER


class TestContractWhereAllAskAgain(Choosing):
    @pytest.fixture(autouse=True, scope="class")
    def refused(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel_rank, "LEAST_LIFT", math.inf)
            yield

    def test_it_asks_again(self, states: list[Shared]) -> None:
        assert float(states[-1][AGAIN]) == ALL

    def test_it_learns_planted_tastes_better_than_chance(self, model: ReleasedModel) -> None:
        """Not here: lists are popularity alone, whatever the users like."""
        first, second = model.score(model.fit(batch_of([[0, 4, 8], [1, 5, 9]])))
        assert torch.equal(first.argsort(stable=True), second.argsort(stable=True))


# ---- the plan


def test_the_plan_and_its_price_are_those_of_a_run_that_never_chooses() -> None:
    """A round costs what it would without the choice, and the co-occurrence in two parts what it costs in one."""
    again, fixed = small(), small(FIXED)
    assert [algo.queries(number)[0].name for algo in (again,) for number in range(algo.rounds)] == NAMES
    asked, usual = ([query for n in range(a.rounds) for query in a.queries(n)] for a in (again, fixed))
    assert {query.clip_norm for query in asked} == {1.0}
    assert [query.budget_share for query in asked[3:]] == [query.budget_share for query in usual[2:]]
    assert asked[1].budget_share + asked[2].budget_share == pytest.approx(usual[1].budget_share)
    privacy = PrivacyConfig(epsilon=4.0, delta=1e-5)
    one, other = (
        PrivacyPlan.build(privacy, [a.queries(n) for n in range(a.rounds)], USERS, seed=1) for a in (again, fixed)
    )
    for n in range(3, again.rounds):
        mine, theirs = again.queries(n)[0].name, fixed.queries(n - 1)[0].name
        assert one.noise_multiplier(n, mine) == pytest.approx(other.noise_multiplier(n - 1, theirs), rel=1e-3)


@pytest.mark.parametrize(
    "algo",
    [small(FIXED), small(mu=math.inf), small(mu=25.0), small(mu=0.5), small(users=9)],
    ids=["set", "no privacy", "strong", "weak", "few"],
)
def test_where_the_plan_offers_no_choice(algo: KernelRank) -> None:
    names = {query.name for number in range(algo.rounds) for query in algo.queries(number)}
    assert not any("popularity" in name.split() and len(name.split()) > 1 for name in names)
    assert AGAIN not in algo.initial()


def test_a_catalogue_too_large_for_its_users_is_not_asked_again() -> None:
    """Forty rounds of a sum over all items would be many times what the device uploads otherwise."""
    assert small().again is not None
    assert small(FEW.model_copy(update={"rounds": 40})).again is None


# ---- the choice


@pytest.mark.parametrize(
    ("rows", "bare", "choice"),
    [
        (tasteful(), False, NEVER),
        (tasteful(), True, NEVER),
        (indifferent(), False, ALL),
        (indifferent(), True, ALL),
        ([row[:1] for row in tasteful()], False, ALL),  # no user has a target
        ([row[:2] for row in tasteful()], False, PAIRS),  # targets, but not one pair
        ([row[:2] for row in tasteful()], True, ALL),
    ],
    ids=["taste", "taste, bare", "no taste", "no taste, bare", "cold", "short", "short, bare"],
)
def test_what_the_first_pairs_decide(rows: list[list[int]], bare: bool, choice: int) -> None:
    algo = small(catalogue=BARE) if bare else small()
    *_, last = states(algo, rows)
    assert float(last[AGAIN]) == choice
    if choice == NEVER:
        assert "lift" in last
        assert bool((last["parameters"] != last["start"]).any())
    else:
        assert "lift" not in last
        assert bool((last["parameters"] != last["start"]).any()) == (choice == PAIRS)


def test_all_sums_of_popularity_count_by_the_inverse_of_their_noise() -> None:
    """With noise of one scale relative to the price, the last estimate is as good as one release at the whole price."""
    algo, rows = small(), indifferent()
    begun = usual_states(indifferent)[2]
    assert float(begun[AGAIN]) == ALL
    shared, exact = begun, popularity_contribution(batch_of(rows)).weighted_sum(torch.ones(USERS))
    generator, released = torch.Generator().manual_seed(3), [begun[COUNTED]]
    precision = [float(begun[NOISE]) ** -2]
    for number in range(2, algo.rounds):
        (query,) = algo.queries(number)
        std = 1 / (MU * math.sqrt(query.budget_share))
        value = torch.zeros(query.shape)
        value[:ITEMS] = exact + std * torch.randn(ITEMS, generator=generator)
        value[ITEMS:] = 1e6  # what lies behind the items is no popularity
        released.append(value[:ITEMS])
        precision.append(std**-2)
        shared = algo.update(shared, {query.name: PrivateSum(value, std)}, number)
    expected = sum(p * value for p, value in zip(precision, released, strict=True)) / sum(precision)
    torch.testing.assert_close(shared[COUNTED], expected, rtol=1e-4, atol=1e-3)
    assert float(shared[NOISE]) == pytest.approx(sum(precision) ** -0.5, rel=1e-5)
    model = algo.release(shared)
    scores = model.score(model.fit(batch_of([[3], [7, 9]])))
    assert torch.equal(scores[0].argsort(), scores[1].argsort()), "nothing but popularity is left"


def test_the_two_parts_of_the_pairs_count_as_one_release(monkeypatch: pytest.MonkeyPatch) -> None:
    algo, seen = small(), list[PrivateSum]()

    def lift(_features: KernelFeatures, _shared: Shared, release: PrivateSum, _copies: float) -> Shared:
        seen.append(release)
        return {}

    shared = usual_states(tasteful)[2]
    assert float(shared[AGAIN]) == NEVER
    monkeypatch.setattr(KernelFeatures, "lift", lift)
    first, noise = shared["pilot"], float(shared["pilot noise"])
    second, (query,) = torch.linspace(-1, 1, len(first)), algo.queries(2)
    value = torch.cat([second, torch.full((query.size - len(second),), 9.0)])
    algo.update(shared, {query.name: PrivateSum(value, noise / 2)}, 2)
    torch.testing.assert_close(seen[0].value, (first + 4 * second) / 5)
    assert seen[0].noise_std == pytest.approx(noise / math.sqrt(5))


# ---- privacy


@pytest.mark.parametrize("choice", [NEVER, PAIRS, ALL])
def test_whatever_is_asked_a_user_moves_the_sum_by_the_clip_at_most(choice: int) -> None:
    algo = small()
    *_, before, _ = run = usual_states(tasteful)
    users, lattice = batch_of(edge_rows()), Lattice.with_bits(1.0, 40)
    for number, shared in [(2, run[2]), (algo.rounds - 1, before)]:
        (query,) = algo.queries(number)
        part = algo.contribute(shared | {AGAIN: torch.tensor(float(choice))}, users, number)[query.name]
        asks = choice >= (PAIRS if number == 2 else ALL)
        for row, history in enumerate(edge_rows()):
            total, alone = torch.zeros(query.shape, dtype=torch.int64), torch.zeros(len(users), dtype=torch.float64)
            alone[row] = 1.0
            part.add_to(total, alone, lattice)
            norm = float(query.decode(total, lattice).norm())
            assert norm <= query.clip_norm * (1 + 2**-20)
            assert float(part.norms()[row]) == pytest.approx(norm, abs=1e-5)
            if asks:
                assert norm == pytest.approx(1.0 if history else 0.0, abs=1e-5), "the whole clip is used"
                assert not total[ITEMS:].any()
                assert set(total[:ITEMS].nonzero()[:, 0].tolist()) == set(history)


@pytest.mark.parametrize(
    ("round_index", "choice", "refused"),
    [
        (0, torch.tensor(2.0), "in a round before 3"),
        (1, torch.tensor(1.0), "in a round before 3"),
        (2, torch.tensor(2.0), ""),
        (3, torch.tensor(1.0), ""),
        (3, torch.tensor(3.0), "none of those"),
        (3, torch.tensor(math.nan), "none of those"),
        (3, torch.tensor([2.0, 2.0]), "none of those"),
        (3, None, "missing"),
    ],
)
def test_a_device_refuses_a_choice_that_the_plan_does_not_have(
    round_index: int, choice: Tensor | None, refused: str
) -> None:
    shared = {} if choice is None else {AGAIN: choice}
    fault = small().fault(shared, round_index)
    assert refused in fault
    assert bool(fault) == bool(refused)


def test_a_server_cannot_ask_for_popularity_where_the_plan_offers_no_choice() -> None:
    algo, users = small(FIXED), batch_of(edge_rows())
    for number, shared in AlgorithmContract().each_round(algo, batch_of(tasteful())):
        assert not algo.fault(shared, number)
        forged = shared | {AGAIN: torch.tensor(2.0)}
        assert "the plan does not offer" in algo.fault(forged, number)
        (query,) = algo.queries(number)
        parts = [algo.contribute(one, users, number)[query.name] for one in (shared, forged)]
        assert torch.equal(*(part.weighted_sum(torch.ones(len(users))) for part in parts)), "nor is it obeyed"


@pytest.mark.parametrize("rows", [tasteful, indifferent], ids=["pairs", "popularity"])
@pytest.mark.parametrize("at", [2, 3, 5])
def test_a_run_resumes_at_the_choice_to_the_same_bits(rows: Callable[[], list[list[int]]], at: int) -> None:
    whole, contract = usual_states(rows), AlgorithmContract()
    resumed, shared = small(), load(save({name: tensor.clone() for name, tensor in whole[at].items()}))
    for number in range(at, resumed.rounds):
        shared = contract.step(resumed, shared, batch_of(rows()), number, NOISE_STD)
    assert shared.keys() == whole[-1].keys()
    assert all(torch.equal(shared[name], whole[-1][name]) for name in shared)
    first, second = (small().release(state).tensors() for state in (shared, whole[-1]))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_devices_get_the_choice_and_none_of_what_it_rests_on() -> None:
    algo = small()
    sent = algo.for_devices(usual_states(indifferent)[3], 3)
    assert AGAIN in sent
    assert not {COUNTED, NOISE, "pilot", "pilot noise"} & sent.keys()
