"""The plan: priced ahead, one noise per charge, budget kept, refusals with their line, and a description of it all."""

import json
import math
import time

import numpy as np
import pytest
import torch

from fedrec.charge import Epsilons
from fedrec.errors import BudgetExhausted, InputError, PrivacyError
from fedrec.privacy import accounting
from fedrec.privacy.accounting import Event, epsilon_pld
from fedrec.privacy.description import describe
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import DenseContribution, SumQuery
from fedrec.settings import parse

USERS = 6040


def query(name: str = "sum", share: float = 1.0, clip: float = 1.0, shape: tuple[int, ...] = (3,)) -> SumQuery:
    return SumQuery(name, shape, clip, share)


ROUNDS = [
    (query("popularity", 0.2), query("co-occurrence", 0.7, clip=2.0, shape=(4, 5))),
    *[(query("weights", 0.1 / 10),)] * 10,
]


def plan(rounds=ROUNDS, users: int = USERS, seed: int | None = 1, **settings) -> PrivacyPlan:
    return PrivacyPlan.build(PrivacyConfig(**({"epsilon": 1.0} | settings)), rounds, users, seed)


# What is promised


@pytest.mark.parametrize("sampling", [1.0, 0.1])
def test_all_charges_together_reach_the_target_and_no_charge_more(sampling: float) -> None:
    ours = plan(sampling=sampling)
    charges = [ours.charge(round_index) for round_index in range(len(ROUNDS))]
    spent = [float(charge.epsilon.pld) for charge in charges]
    assert spent == sorted(spent)
    assert 0.99 <= spent[-1] <= 1.0
    with pytest.raises(BudgetExhausted, match="past the budget of 1; everything up to here is saved") as refused:
        ours.charge(0)
    assert refused.value.exit_code == 3
    assert ours.charged == tuple(range(len(ROUNDS)))
    assert ours.epsilon()["pld"] == pytest.approx(spent[-1], abs=1e-6)


def test_a_ledger_entry_is_enough_to_compute_epsilon_again() -> None:
    ours = plan(sampling=0.3)
    charges = json.loads(json.dumps([ours.charge(round_index).payload() for round_index in range(len(ROUNDS))]))
    events = [
        Event(float(event["sampling"]), float(event["noise_multiplier"]), event["count"])
        for charge in charges
        for event in charge["events"]
    ]
    assert epsilon_pld(events, float(charges[-1]["delta"])) <= float(charges[-1]["epsilon"]["pld"])
    assert accounting.epsilon_rdp(events, 1e-5) == pytest.approx(float(charges[-1]["epsilon"]["rdp"]), abs=2e-6)
    first = {each["name"]: each for each in charges[0]["queries"]}
    together = sum(float(each["noise_multiplier"]) ** -2 for each in first.values())
    assert float(charges[0]["events"][0]["noise_multiplier"]) == pytest.approx(together**-0.5)
    assert first["co-occurrence"]["shape"] == [4, 5]


def test_full_participation_is_the_exact_gaussian() -> None:
    ours = plan()
    mu = PrivacyConfig(epsilon=1.0).mu(100)
    queries = [(place, query.name) for place, asked in enumerate(ROUNDS) for query in asked]
    spent = math.sqrt(math.fsum(ours.noise_multiplier(*each) ** -2 for each in queries))
    assert spent == pytest.approx(mu, rel=1e-4)
    assert spent <= mu
    assert ours.noise_multiplier(0, "popularity") == pytest.approx(1 / (mu * math.sqrt(0.2)), rel=1e-4)
    assert ours.noise_std(0, "co-occurrence") == pytest.approx(2 / (mu * math.sqrt(0.7)), rel=1e-4)
    assert ours.noise_multiplier(5, "weights") == pytest.approx(math.sqrt(10) / (mu * math.sqrt(0.1)), rel=1e-4)
    assert PrivacyConfig(epsilon="none").mu(100) == math.inf


def test_a_share_says_how_much_of_the_signal_to_noise_a_query_has() -> None:
    ours = plan(sampling=0.2)
    squares = {name: ours.noise_multiplier(0, name) ** -2 for name in ("popularity", "co-occurrence")}
    assert squares["co-occurrence"] / squares["popularity"] == pytest.approx(0.7 / 0.2)


def test_prv_on_demand_agrees() -> None:
    ours = plan()
    assert "prv" not in ours.epsilon(3)
    spent = ours.epsilon(len(ROUNDS), prv=True)
    assert spent["pld"] <= spent["prv"] <= spent["rdp"]


@pytest.mark.parametrize("sampling", [1.0, 0.05])
def test_calibration_is_quick(sampling: float) -> None:
    began = time.process_time()
    plan([(query("a", 0.3), query("b", 0.3)), *[(query("c", 0.01),)] * 40], sampling=sampling, epsilon=1.7)
    assert time.process_time() - began < 2


def test_a_large_run_is_priced_as_quickly() -> None:
    began = time.process_time()
    ours = plan([(query("a", 1 / 5000),)] * 5000, sampling=0.02)
    assert time.process_time() - began < 2
    assert 0.99 <= ours.epsilon(5000)["pld"] <= 1.0


# Cohorts


def test_everybody_or_a_poisson_sample() -> None:
    assert np.array_equal(plan().sample(0), np.arange(USERS))
    ours = plan(sampling=0.1)
    assert ours.expected_cohort == pytest.approx(604)
    sizes = [len(ours.sample(round_index)) for round_index in range(11)]
    assert len(set(sizes)) > 1  # a fixed size would be another mechanism, with another price
    assert abs(np.mean(sizes) - 604) < 5 * math.sqrt(604 / 11)
    assert not np.array_equal(ours.sample(0), ours.sample(1))
    assert np.array_equal(ours.sample(3), plan(sampling=0.1).sample(3))
    assert not np.array_equal(ours.sample(3), plan(sampling=0.1, seed=None).sample(3))


def test_the_denominator_is_fixed_whoever_takes_part() -> None:
    with_one_more, ours = plan(users=USERS), plan(users=USERS)
    ours.sample(0)
    assert ours.expected_cohort == with_one_more.expected_cohort == USERS


# The noise


def released(ours: PrivacyPlan, total: torch.Tensor, round_index: int = 0) -> torch.Tensor:
    asked = next(iter(ours.rounds[round_index].values()))
    ours.charge(round_index)
    return ours.privatise(round_index, asked, asked.encode(total, ours.lattice(asked))).value


def nothing(*shape: int) -> torch.Tensor:
    """The exact sum of nobody."""
    return torch.zeros(shape, dtype=torch.int64)


@pytest.mark.parametrize("seed", [3, None])
def test_the_noise_has_the_stated_scale(seed: int | None) -> None:
    size = 100_000
    ours = plan([(query(clip=2.5, shape=(size,)),)], seed=seed)
    total = torch.full((size,), 7.0)
    noise = (released(ours, total) - total).double()
    std = ours.noise_std(0, "sum")

    def right(scale: float) -> bool:
        squares = (noise / scale).square().mean().item()
        return abs(noise.mean().item()) < 5 * scale / math.sqrt(size) and abs(squares - 1) < 5 * math.sqrt(2 / size)

    assert right(std)
    assert not right(std * 2 / 3)
    assert not right(std * 3 / 2)


def test_queries_and_rounds_have_noise_of_their_own() -> None:
    shape = (20_000,)
    ours = plan([(query("a", 0.25, shape=shape), query("b", 0.25, shape=shape)), (query("a", 0.5, shape=shape),)])
    ours.charge(0), ours.charge(1)
    zeros = nothing(*shape)
    noises = [ours.privatise(r, q, zeros).value for r in (0, 1) for q in ours.rounds[r].values()]
    for i, one in enumerate(noises):
        for other in noises[:i]:
            assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 5 / math.sqrt(shape[0])


def test_a_release_lies_on_a_grid_that_the_total_does_not_choose() -> None:
    totals = torch.rand(1000) * 100
    ours = plan([(query(shape=(1000,)),)])
    value = released(ours, totals).double()
    std = ours.noise_std(0, "sum")
    grid = 2.0 ** math.floor(math.log2(std / 1024))
    assert torch.equal(value / grid, (value / grid).round())


def test_seeded_noise_repeats_and_secret_noise_does_not() -> None:
    total = torch.arange(3.0)
    once, again, other = (released(plan([(query(),)], seed=seed), total) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert not torch.equal(
        released(plan([(query(),)], seed=None), total), released(plan([(query(),)], seed=None), total)
    )


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5, 7)])
def test_shapes_are_kept(shape: tuple[int, ...]) -> None:
    value = released(plan([(query(shape=shape),)]), torch.zeros(shape))
    assert (value.shape, value.dtype) == (torch.Size(shape), torch.float32)


def test_no_release_without_a_charge_and_one_release_a_charge() -> None:
    ours, total = plan(), nothing(3)
    asked = ours.rounds[0]["popularity"]
    with pytest.raises(PrivacyError, match=r"round 0, query 'popularity': no unused charge; call charge\(0\) first"):
        ours.privatise(0, asked, total)
    ours.charge(0)
    ours.privatise(0, asked, total)
    with pytest.raises(PrivacyError, match="no unused charge"):
        ours.privatise(0, asked, total + 1)  # the same noise on another total would give the total away
    with pytest.raises(PrivacyError, match="no unused charge"):
        ours.privatise(1, ours.rounds[1]["weights"], total)
    with pytest.raises(PrivacyError, match="the sum has shape"):
        ours.privatise(0, ours.rounds[0]["co-occurrence"], total)


@pytest.mark.parametrize("seed", [3, None])
def test_a_round_that_is_paid_for_again_has_noise_and_a_cohort_of_its_own(seed: int | None) -> None:
    """With the same noise, the difference of two releases would be that of the sums, without any noise."""
    shape = (20_000,)
    ours = plan([(query(share=0.2, shape=shape),)] * 5, seed=seed, sampling=0.5)
    noises, cohorts = [], []
    for _ in range(3):
        noises.append(released(ours, torch.zeros(shape)) / ours.noise_std(0, "sum"))
        cohorts.append(ours.sample(0))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(torch.corrcoef(torch.stack([noises[one], noises[other]]))[0, 1]) < 5 / math.sqrt(shape[0])
        assert not np.array_equal(cohorts[one], cohorts[other])
    assert all(abs(noise.square().mean() - 1) < 0.1 for noise in noises)


def test_a_refused_charge_pays_for_nothing() -> None:
    ours = plan([(query(),)])
    ours.charge(0)
    ours.privatise(0, query(), nothing(3))
    with pytest.raises(BudgetExhausted):
        ours.charge(0)
    with pytest.raises(PrivacyError, match="no unused charge"):
        ours.privatise(0, query(), nothing(3))


def test_a_foreign_query_does_not_choose_the_noise() -> None:
    ours = plan([(query(clip=2.0),)])
    ours.charge(0)
    weak = query(clip=1e-9)
    with pytest.raises(PrivacyError, match="differs from the planned one"):
        ours.privatise(0, weak, nothing(3))
    with pytest.raises(PrivacyError, match="is not in the plan"):
        ours.clip(query(clip=1e9), DenseContribution(torch.ones(1, 3)))


# Restarts


def test_earlier_charges_count_also_where_a_round_repeats() -> None:
    ours = plan()
    ours.restore([0, 1, 2, 2])
    assert ours.epsilon()["pld"] > plan().epsilon(3)["pld"]
    for round_index in range(3, len(ROUNDS) - 1):
        ours.charge(round_index)
    with pytest.raises(BudgetExhausted, match=f"round {len(ROUNDS) - 1} would bring epsilon to"):
        ours.charge(len(ROUNDS) - 1)


def test_earlier_charges_pay_for_no_new_release() -> None:
    ours = plan()
    ours.restore([0])
    with pytest.raises(PrivacyError, match="no unused charge"):
        ours.privatise(0, ours.rounds[0]["popularity"], nothing(3))
    with pytest.raises(PrivacyError, match=r"round 99: the plan has rounds 0\.\.10"):
        ours.restore([99])


def test_the_order_of_charges_does_not_change_the_price() -> None:
    one, other = plan(sampling=0.2), plan(sampling=0.2)
    for round_index in range(len(ROUNDS)):
        one.charge(round_index)
        other.charge(len(ROUNDS) - 1 - round_index)
    assert one.epsilon() == other.epsilon()


# No privacy, and nothing at all


def test_without_privacy_nothing_is_clipped_noised_or_promised() -> None:
    ours = plan(epsilon="none")
    huge = DenseContribution(torch.full((2, 3), 1e6))
    assert ours.clip(ours.rounds[0]["popularity"], huge).tolist() == [1, 1]
    charge = ours.charge(0)
    assert charge.epsilon == Epsilons(pld=None, rdp=None)
    asked, total = ours.rounds[0]["popularity"], torch.tensor([0.5, -0.25, 3.0])
    result = ours.privatise(0, asked, asked.encode(total, ours.lattice(asked)))
    assert torch.equal(result.value, total)
    assert result.noise_std == 0
    described = json.loads(json.dumps(describe(ours), allow_nan=False))
    assert described["guarantee"] == "none"
    assert described["epsilon"] is None
    assert described["adversaries"]["model_recipients"] is None
    for _ in range(3):
        ours.charge(0)


@pytest.mark.parametrize("epsilon", [1.0, "none"])
def test_no_rounds_cost_nothing(epsilon) -> None:
    ours = plan([], epsilon=epsilon)
    assert ours.epsilon() == {"pld": 0, "rdp": 0}
    assert describe(ours)["adversaries"] == dict.fromkeys(
        ("model_recipients", "knows_the_cohort", "server", "server_with_colluders"), 0
    )


def test_the_description() -> None:
    ours = plan(sampling=0.1, seed=None)
    for round_index in range(len(ROUNDS)):
        ours.charge(round_index)
    described = json.loads(json.dumps(describe(ours), allow_nan=False))
    assert described["unit"] == "user"
    assert described["adjacency"] == "add or remove one user"
    assert described["rounds"] == described["rounds_planned"] == len(ROUNDS)
    assert described["epsilon"] == described["accountants"]["pld"] == described["adversaries"]["model_recipients"]
    assert described["accountants"]["rdp"] > described["accountants"]["pld"]
    assert described["adversaries"]["knows_the_cohort"] > 2 * described["epsilon"]
    assert described["adversaries"]["server"] is None
    assert described["clip_norms"] == {"popularity": 1.0, "co-occurrence": 2.0, "weights": 1.0}
    assert set(described["noise_multipliers"]) == set(described["clip_norms"])
    assert described["noise_source"] == "operating system CSPRNG, ChaCha20"
    assert describe(plan())["noise_source"] == "seeded: repeatable, for simulation only"


# Refusals


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"epsilon": 0}, 'must be a number above 0, or "none"'),
        ({"epsilon": -1.0}, 'must be a number above 0, or "none"'),
        ({"epsilon": math.inf}, 'must be a number above 0, or "none"'),
        ({"epsilon": math.nan}, 'must be a number above 0, or "none"'),
        ({"epsilon": 101}, 'promises nothing; choose less, or say "none"'),
        ({"epsilon": "much"}, 'must be a number above 0, or "none"'),
        ({"epsilon": True}, 'must be a number above 0, or "none"'),
        ({"epsilon": 1.0, "delta": 0.0}, "must be above 0 and below 1 / users"),
        ({"epsilon": 1.0, "delta": 1.0}, "must be above 0 and below 1 / users"),
        ({"epsilon": 1.0, "sampling": 0.0}, "must be above 0"),
        ({"epsilon": 1.0, "sampling": 1.1}, "must be at most 1"),
        ({"epsilon": 1.0, "evaluation_share": 1.0}, "must be below 1"),
        ({"epsilon": "none", "trust": "local"}, "trust 'local' needs an epsilon"),
        ({"epsilon": 1.0, "trust": "distributed", "budget": "b.jsonl"}, "prices Gaussian noise alone"),
        ({"epsilon": 1.0, "trust": "local", "dropout": 0.1}, "privacy.dropout is for privacy.trust = distributed"),
        ({"epsilon": 1.0, "bits": 18}, "privacy.bits is for privacy.trust = distributed"),
        ({"epsilon": 1.0, "trust": "centrl"}, "unknown trust model. Did you mean 'central'?"),
        ({"epsilon": 1.0, "epsilonn": 2}, "unknown key 'epsilonn'. Did you mean 'epsilon'?"),
    ],
)
def test_impossible_settings_are_refused(values: dict, line: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(PrivacyConfig, values, "scenario 'x', [privacy]")
    assert line in str(refused.value)
    assert str(refused.value).startswith("scenario 'x', [privacy]: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rounds", "settings", "line"),
    [
        (ROUNDS, {"delta": 1e-3}, "privacy.delta = 0.001 must be below 1/users = 0.000166; lower privacy.delta"),
        (ROUNDS, {"delta": 1 / USERS}, "must be below 1/users"),
        (ROUNDS, {"users": 0}, "the number of users must be at least 1"),
        ([(query(share=0.6),), (query(share=0.5),)], {}, "budget shares sum to 1.1; at most 1 is allowed"),
        ([(query(share=0.1), query(share=0.1))], {}, "round 0: two queries have the same name"),
    ],
)
def test_plans_that_prove_nothing_are_refused(rounds, settings: dict, line: str) -> None:
    with pytest.raises(PrivacyError) as refused:
        plan(rounds, **settings)
    assert line in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(("clip", "share"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (1, 0), (1, 1.5)])
def test_impossible_queries_are_refused(clip: float, share: float) -> None:
    with pytest.raises(PrivacyError, match="query 'sum': "):
        query(share=share, clip=clip)


def test_unplanned_queries_have_no_noise() -> None:
    with pytest.raises(PrivacyError, match=r"round 0: the plan has no query 'popularty'\. Did you mean 'popularity'"):
        plan().noise_std(0, "popularty")
    with pytest.raises(PrivacyError, match=r"round -1: the plan has rounds 0\.\.10"):
        plan().charge(-1)
