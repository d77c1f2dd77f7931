"""Trust models `distributed` and `local`: shares, calibration, integers of users, and the noise that is released."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedrec.errors import BudgetExhausted, PrivacyError
from fedrec.privacy import accounting
from fedrec.privacy.description import describe
from fedrec.privacy.discrete.renyi import gaussian_epsilon
from fedrec.privacy.discrete.rounding import users_draws
from fedrec.privacy.discrete.skellam import skellam
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.integers import EncodedIntegers
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import Contribution, DenseContribution, SparseContribution, SumQuery

USERS = 200
LARGE = SumQuery("pairs", (140_000,), 1.0, 0.4)
ROUNDS = [(SumQuery("popularity", (300,), 2.0, 0.3),), (LARGE, SumQuery("gram", (3, 6), 1.0, 0.2, packed=3))]
EVERYTHING = range(len(ROUNDS))


def plan(trust: str = "distributed", seed: int | None = 5, users: int = USERS, **settings_: float) -> PrivacyPlan:
    return PrivacyPlan.build(
        PrivacyConfig(**{"epsilon": 2.0, "trust": trust} | settings_), ROUNDS, users, seed, "public"
    )


def dense(values: list[list[float]] | np.ndarray) -> DenseContribution:
    return DenseContribution(torch.tensor(np.asarray(values), dtype=torch.float32))


def total(ours: PrivacyPlan, contribution: Contribution, keys: list[int], query: SumQuery = ROUNDS[0][0]) -> np.ndarray:
    made = ours.integers(seed=9)
    found = made.zeros(query, 0, torch.device("cpu"))
    made.add(found, query, 0, contribution, ours.clip(query, contribution), torch.tensor(keys))
    return ours.discrete.encoding(0, query.name).read(found.numpy())


def test_the_target_is_met_by_the_server_with_colluders() -> None:
    ours = plan(dropout=0.2, colluding=0.1)
    shares = ours.discrete.shares
    assert (shares.expected, shares.least, shares.colluding, shares.counted) == (200, 160, 20, 140)
    against = ours.discrete.adversaries(EVERYTHING)
    assert 2.0 * (1 - 1e-4) < against["server_with_colluders"] <= 2.0
    assert against["server"] < against["model_recipients"] < against["server_with_colluders"]
    assert against["helper"] == against["server"]
    assert against["server_and_helper"] == against["secure_aggregation_fails"] > 20
    known = ours.discrete.query(0, "popularity")
    assert known.share * shares.counted == pytest.approx(known.multiplier**2 * known.encoding.squared)


def test_less_dropout_is_paid_with_less_noise() -> None:
    def share(**settings_: float) -> float:
        return (
            plan(**settings_).discrete.query(0, "popularity").multiplier ** 2
            / plan(**settings_).discrete.shares.counted
        )

    assert share(dropout=0.0, colluding=0.0) == pytest.approx(share(dropout=0.3, colluding=0.0) * 0.7, rel=1e-2)


def test_the_noise_is_that_of_the_gaussian_at_the_same_renyi_epsilon() -> None:
    ours = plan(users=6040)
    squares = math.fsum(
        1 / ours.noise_multiplier(place, name) ** 2 for place in EVERYTHING for name in ours.rounds[place]
    )
    gauss = gaussian_epsilon(squares, 1e-5)
    assert ours.discrete.epsilon(EVERYTHING) == pytest.approx(gauss, rel=1e-3)
    assert max(ours.discrete.encoding(0, "popularity").rounding_cost, 0.0) < 0.005
    assert accounting.gaussian_epsilon(math.sqrt(squares), 1e-5) < gauss


def test_local_hides_each_user_alone() -> None:
    ours = plan("local")
    assert set(ours.discrete.adversaries(EVERYTHING).values()) == {ours.discrete.epsilon(EVERYTHING)}
    once = ours.discrete.epsilon_of_user([0])
    assert 0 < once < ours.discrete.epsilon_of_user(EVERYTHING) <= 2.0
    assert ours.discrete.query(0, "popularity").share == pytest.approx(
        ours.discrete.query(0, "popularity").multiplier ** 2 * ours.discrete.encoding(0, "popularity").squared
    )


def test_sampling_lowers_nothing() -> None:
    assert plan(sampling=0.5, users=400).discrete.factor == pytest.approx(plan().discrete.factor, rel=1e-2)
    with pytest.raises(PrivacyError, match="leave no honest user"):
        plan(dropout=0.6, colluding=0.4)


def test_charges_are_refused_past_the_target_and_name_every_parameter() -> None:
    ours = plan()
    charges = json.loads(json.dumps([ours.charge(0).payload(), ours.charge(1).payload()], allow_nan=False))
    assert [charge["epsilon"]["pld"] for charge in charges] == [None, None]
    assert float(charges[1]["epsilon"]["rdp"]) <= 2.0
    assert {event["mechanism"] for charge in charges for event in charge["events"]} == {
        "Skellam, known cohort, add or remove one user"
    }
    assert {query["discrete"]["encoding"] for query in charges[1]["queries"]} == {"rotated", "plain"}
    described = describe(ours)
    assert described["epsilon"] == described["accountants"]["rdp"] == described["adversaries"]["server_with_colluders"]
    with pytest.raises(BudgetExhausted, match="past the budget"):
        ours.charge(0)


value = st.one_of(st.sampled_from([0.0, math.nan, math.inf, 3e38, 1e-45]), st.floats(-3, 3, width=32))


@pytest.mark.parametrize("trust", ["distributed", "local"])
@settings(max_examples=100, deadline=None)
@given(values=st.lists(value, min_size=300, max_size=300), key=st.integers(0, 2**62))
def test_one_user_never_moves_the_total_by_more_than_the_bound(trust: str, values: list[float], key: int) -> None:
    ours = PLANS[trust]
    moved = total(ours, dense([values]), [key])
    assert int((moved.astype(object) ** 2).sum()) <= ours.discrete.encoding(0, "popularity").squared


PLANS = {trust: plan(trust) for trust in ("distributed", "local")}


@pytest.mark.parametrize("trust", PLANS)
def test_chunks_and_order_change_no_bit_and_neighbours_differ_by_one_user(trust: str) -> None:
    ours, rng = PLANS[trust], np.random.default_rng(0)
    values, keys = rng.normal(0, 0.2, (30, 300)), rng.integers(0, 2**62, 30)
    together = total(ours, dense(values), keys.tolist())
    parts = [
        total(ours, dense(values[rows]), keys[rows].tolist()) for rows in np.split(rng.permutation(30), [3, 4, 19])
    ]
    assert np.array_equal(together, np.sum(parts, axis=0))
    without = total(ours, dense(values[1:]), keys[1:].tolist())
    alone = total(ours, dense(values[:1]), keys[:1].tolist())
    assert np.array_equal(together - without, alone)
    holes = torch.tensor(values, dtype=torch.float32)
    owners, positions = torch.nonzero(torch.ones_like(holes), as_tuple=True)
    sparse = SparseContribution(owners, positions, holes[owners, positions], 30, (300,))
    assert np.array_equal(total(ours, sparse, keys.tolist()), together), "a sparse contribution is the dense one"


def test_the_simulation_adds_what_devices_send() -> None:
    """Each device by itself: fixed point, rotation, rounding, its own share of noise, modulo 2^b."""
    ours, query = PLANS["distributed"], ROUNDS[0][0]
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.05, (12, 300)).astype(np.float32)
    known = ours.discrete.query(0, "popularity")
    fine, made = Lattice.of(query.clip_norm, USERS), known.encoding
    sent, noise = [], []
    for key, row in enumerate(values):
        whole = np.trunc(row.astype(float) / fine.step)[None]
        integers = made.rotated(whole, query.clip_norm / fine.step, [users_draws(9, 0, "popularity", key)])[0]
        noise.append(skellam(known.share, made.dimension, WordStream.fresh()))
        sent.append(made.sent(integers, noise[-1]))
    received = made.read(np.sum(sent, axis=0) % (1 << made.bits))
    assert np.array_equal(received - np.sum(noise, axis=0), total(ours, dense(values), list(range(12))))


@pytest.mark.parametrize("trust", PLANS)
@pytest.mark.parametrize("name", ["popularity", "pairs", "gram"])
def test_the_released_noise_has_the_right_scale_and_no_other(trust: str, name: str) -> None:
    ours = plan(trust, seed=None)
    place = 0 if name == "popularity" else 1
    query = ours.rounds[place][name]
    nothing = torch.zeros(ours.discrete.total_shape(place, name), dtype=torch.int64)
    ours.charge(place)
    released = ours.privatise(place, query, nothing)
    draws = [released.value.numpy().reshape(-1)]
    for _ in range({"pairs": 0, "popularity": 20, "gram": 800}[name]):
        again = ours.discrete.noisy(place, query, nothing, USERS, WordStream.fresh())
        draws.append(again.value.numpy().reshape(-1))
    values = np.concatenate(draws).astype(float)
    if name == "gram" and trust == "local":  # off the diagonal a step counts sqrt(2): the stated noise is the larger
        values = np.concatenate([np.reshape(each, query.shape)[:, [1, 2, 4]].reshape(-1) for each in draws])
    known, shares = ours.discrete.query(place, name), USERS
    over = math.sqrt(shares / ours.discrete.shares.counted)
    right = known.multiplier * over * query.clip_norm * math.sqrt(known.encoding.squared) / known.encoding.length
    right *= math.sqrt(2) if name == "gram" and trust == "local" else 1
    assert released.noise_std == pytest.approx(right, rel=1e-6)
    assert stats.kstest(values / right, "norm").pvalue > 1e-4
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(values / right / math.sqrt(wrong), "norm").pvalue < 1e-3


def test_a_release_is_the_sum_plus_noise() -> None:
    ours = plan(epsilon=50.0)
    values = np.zeros((USERS, 300))
    values[:, 7] = 1.5
    ours.charge(0)
    integers = ours.integers(seed=0)
    found = integers.zeros(ROUNDS[0][0], 0, torch.device("cpu"))
    contribution = dense(values)
    integers.add(found, ROUNDS[0][0], 0, contribution, ours.clip(ROUNDS[0][0], contribution), torch.arange(USERS))
    released = ours.privatise(0, ROUNDS[0][0], found)
    error = released.value.numpy().astype(float)
    error[7] -= 1.5 * USERS
    assert np.abs(error).max() < 5 * released.noise_std


def test_a_round_with_too_few_users_is_void_and_releases_noise_alone() -> None:
    ours = plan(sampling=0.5, dropout=0.02, colluding=0.0)
    query = ROUNDS[0][0]
    ours.discrete.drawn(0, ours.discrete.shares.least - 1)
    assert ours.void(0)
    ours.charge(0)
    secret = torch.full((ours.discrete.encoding(0, query.name).dimension,), 12345, dtype=torch.int64)
    again = plan(sampling=0.5, dropout=0.02, colluding=0.0)
    again.discrete.drawn(0, ours.discrete.shares.least - 1)
    again.charge(0)
    released = ours.privatise(0, query, secret)
    assert torch.equal(released.value, again.privatise(0, query, torch.zeros_like(secret)).value)


def test_users_who_contribute_nothing_add_nothing_to_a_packed_query() -> None:
    query = SumQuery("packed", (3, 6), 1.0, 1.0, packed=3)
    ours = PrivacyPlan.build(PrivacyConfig(epsilon=2.0, trust="distributed"), [(query,)], USERS, 1)
    made = ours.integers(seed=0)
    found = made.zeros(query, 0, torch.device("cpu"))
    made.add(found, query, 0, dense(np.zeros((2, 18))), torch.zeros(2, dtype=torch.float64), torch.arange(2))
    assert not found.any()


def test_wrap_around_is_rare_over_the_whole_run() -> None:
    assert plan().discrete.wrap_probability < 1e-5
    assert isinstance(plan().integers(0), EncodedIntegers)
    with pytest.raises(PrivacyError, match=r"raise privacy\.epsilon or privacy\.bits"):
        plan(bits=8, users=6040)


@pytest.mark.slow
@pytest.mark.parametrize(("trust", "count"), [("distributed", 50_000), ("local", 1_000_000)])
def test_one_of_many_users_moves_the_computed_sum_by_at_most_the_bound(trust: str, count: int) -> None:
    """All sums are made anew without the user, so that every later chunk begins at another user."""
    query = SumQuery("counts", (16,), 1.0, 1.0)
    ours = PrivacyPlan.build(PrivacyConfig(epsilon=1.0, delta=1e-7, trust=trust), [(query,)], count, 1)
    values = np.random.default_rng(0).normal(0, 0.3, (count, 16)).astype(np.float32)

    def added(users: np.ndarray) -> np.ndarray:
        made = ours.integers(seed=0)
        found = made.zeros(query, 0, torch.device("cpu"))
        for some in np.array_split(users, np.arange(4096, len(users), 4096)):
            contribution = dense(values[some])
            made.add(found, query, 0, contribution, ours.clip(query, contribution), torch.tensor(some))
        return ours.discrete.encoding(0, "counts").read(found.numpy())

    everybody = np.arange(count)
    moved = (added(everybody) - added(np.delete(everybody, count // 8))).astype(object)
    assert 0 < int((moved**2).sum()) <= ours.discrete.encoding(0, "counts").squared


@pytest.mark.parametrize("trust", ["distributed", "local"])
@pytest.mark.parametrize("clip", [1.0, 0.7])
def test_a_single_number_has_a_plan(trust: str, clip: float) -> None:
    """In one dimension the bounds D1 and D2 are rounded down from one number, and D1^2 may be below D2^2."""
    config = PrivacyConfig(epsilon=4.0, trust=trust)
    plan = PrivacyPlan.build(config, [(SumQuery("count", (1,), clip, 1.0),)], 500, seed=1)
    assert 3.9 < plan.discrete.epsilon([0]) <= 4.0


@pytest.mark.parametrize("colluding", [0.0, 0.05])
def test_the_target_holds_against_another_user_who_gets_the_model(colluding: float) -> None:
    """It knows its own share of the noise, also where nobody colludes with the server."""
    config = PrivacyConfig(epsilon=2.0, trust="distributed", dropout=0.0, colluding=colluding)
    plan = PrivacyPlan.build(config, [(SumQuery("count", (4,), 1.0, 1.0),)], 10, seed=1)
    found = plan.discrete.adversaries([0])
    assert max(found["model_recipients"], found["knows_the_cohort"], found["server"]) <= 2.0
    with pytest.raises(PrivacyError, match="no honest user"):
        PrivacyPlan.build(config, [(SumQuery("count", (4,), 1.0, 1.0),)], 1, seed=1)
