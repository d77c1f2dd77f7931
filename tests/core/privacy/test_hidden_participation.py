"""Hidden participation: who is asked, whose noise counts, what a round costs, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedrec.audit.card import card
from fedrec.audit.entries import records
from fedrec.errors import BudgetExhausted, PrivacyError
from fedrec.privacy import recorded
from fedrec.privacy.description import describe
from fedrec.privacy.discrete import hidden
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.explanation import explain
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

USERS = 2000
QUERY = SumQuery("popularity", (300,), 2.0, 0.05)
ROUNDS = [(QUERY, SumQuery("gram", (3, 6), 1.0, 0.05, packed=3))] * 10
EVERYTHING = range(len(ROUNDS))


def plan(participation: str = "hidden", seed: int | None = 5, **settings: object) -> PrivacyPlan:
    terms = {"epsilon": 2.0, "trust": "distributed", "sampling": 0.1, "participation": participation} | settings
    return PrivacyPlan.build(PrivacyConfig(**terms), ROUNDS, USERS, seed, "public")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"trust": "central", "sampling": 0.1}, "sees which sums are zero"),
        ({"trust": "distributed", "sampling": 1.0}, "set privacy.sampling below 1"),
        ({"trust": "local"}, "set privacy.sampling below 1"),
    ],
)
def test_what_is_not_proven_is_refused(settings: dict, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        PrivacyConfig(participation="hidden", **settings)


@pytest.mark.parametrize("trust", ["distributed", "local"])
def test_the_target_holds_against_the_server_with_less_noise(trust: str) -> None:
    ours, known = plan(trust=trust).discrete, plan("known", trust=trust).discrete
    assert 2.0 * (1 - 1e-3) < ours.epsilon(EVERYTHING) <= 2.0
    assert ours.factor < known.factor / 2
    against = ours.adversaries(EVERYTHING)
    assert max(against[name] for name in ("model_recipients", "server", "server_with_colluders", "helper")) <= 2.0
    assert against["knows_the_cohort"] == ours.epsilon_with_coins(EVERYTHING, ours.shares.unknown()["server"] - 1 or 1)
    assert against["knows_the_cohort"] > 2.0
    assert known.adversaries(EVERYTHING)["knows_the_cohort"] <= 2.0


def test_noise_is_counted_over_everybody() -> None:
    shares = plan(dropout=0.2, colluding=0.1).discrete.shares
    assert (shares.expected, shares.most, shares.least, shares.colluding, shares.counted) == (
        USERS, USERS, 1600, 200, 1400,
    )  # fmt: skip
    assert 200 < shares.contributing < 400
    assert shares.contributing == plan("known").discrete.shares.contributing


def test_the_coins_of_a_simulation_are_the_cohort_of_a_known_one_and_no_round_is_void() -> None:
    ours, known = plan(), plan("known")
    for number in EVERYTHING:
        assert np.array_equal(ours.sample(number), known.sample(number))
        assert not ours.void(number)
    assert ours.expected_cohort == 200


def test_a_round_costs_the_same_whatever_the_coins_and_twice_where_it_is_charged_twice() -> None:
    ours = plan()
    first = json.loads(json.dumps(ours.charge(0).payload()))
    assert {event["mechanism"] for event in first["events"]} == {recorded.HIDDEN} == {records.HIDDEN} == {card.HIDDEN}
    assert {event["sampling"] for event in first["events"]} == {"0.1"} == {first["sampling"]}
    again = ours.charge(0).payload()
    assert float(again["epsilon"]["rdp"]) == pytest.approx(ours.discrete.epsilon([0, 0]), abs=2e-6)
    assert describe(ours)["participation"] == {
        "expected_rounds": 0.2, "most_rounds": 2, "limit": "none below the number of rounds: each draws anew",
    }  # fmt: skip
    for number in range(1, 9):
        ours.charge(number)
    with pytest.raises(BudgetExhausted):
        ours.charge(9)


def test_queries_of_a_round_share_a_coin_and_cost_more_than_with_two() -> None:
    ours = plan().discrete
    one = hidden.epsilon([ours.events([0])] * 10, 0.1, 1e-5)
    apart = hidden.epsilon([[event] for event in ours.events([0])] * 10, 0.1, 1e-5)
    assert ours.epsilon(EVERYTHING) == pytest.approx(one)
    assert apart < one


@pytest.mark.parametrize("wrong", [2 / 3, 3 / 2])
@pytest.mark.parametrize("trust", ["distributed", "local"])
def test_a_released_sum_has_the_noise_of_everybody(trust: str, wrong: float) -> None:
    """The sum of squares rejects 2/3 and 3/2 of the variance; few contribute, and all add a share."""
    ours, query = plan(trust=trust), SumQuery("popularity", (300,), 2.0, 0.05)
    known = ours.discrete.query(0, query.name)
    variance = known.share * USERS
    errors = []
    for number in range(10):
        ours.charge(number)
        ours.sample(number)
        empty = torch.zeros(ours.discrete.total_shape(number, query.name), dtype=torch.int64)
        released = ours.privatise(number, query, empty)
        assert released.noise_std == pytest.approx(math.sqrt(variance) / known.encoding.length * query.clip_norm)
        errors.append(released.value.numpy().astype(float) / released.noise_std)
    mean = float(np.mean(np.square(errors)))
    sigma = math.sqrt(2 / np.size(errors))
    assert abs(mean - 1) < 4 * sigma < abs(mean / wrong - 1)


def test_shares_that_devices_add_are_those_that_the_plan_counts() -> None:
    ours = plan().discrete
    known = ours.query(0, QUERY.name)
    zero = torch.zeros(ours.total_shape(0, QUERY.name), dtype=torch.int64)
    some = [ours.with_shares(0, QUERY.name, zero, USERS // 4, WordStream.seeded(str(n))).numpy() for n in range(4)]
    read = known.encoding.read(sum(some) & ((1 << known.encoding.bits) - 1)).astype(float)
    assert np.mean(read**2) == pytest.approx(known.share * USERS, rel=4 * math.sqrt(2 / read.size))


def test_the_explanation_names_the_coin_and_its_price_in_messages() -> None:
    rows = {row.name: row for row in explain(plan())}
    assert rows["participation"].value == "hidden"
    assert "10 messages for one contribution" in rows["participation"].why
    assert "secret coin" in rows["sampling"].why
    gaussian, exact = (float(rows[name].value) for name in ("epsilon of a Gaussian", "its exact epsilon"))
    assert exact < gaussian <= 2.0 < gaussian * 1.02


def test_settings_of_a_known_cohort_are_written_as_before() -> None:
    assert "participation" not in PrivacyConfig(epsilon=2.0, trust="local", sampling=0.5).resolved()
    shown = PrivacyConfig(epsilon=2.0, trust="local", sampling=0.5, participation="hidden").resolved()
    assert shown["participation"] == "hidden"
    assert not {"dropout", "colluding", "aggregator"} & set(shown)


def test_an_epsilon_below_what_whole_orders_reach_is_refused_in_one_line() -> None:
    with pytest.raises(PrivacyError, match=r"raise privacy\.epsilon") as caught:
        plan(epsilon=1e-4)
    assert "\n" not in str(caught.value)
