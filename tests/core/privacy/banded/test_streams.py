"""Plans with correlated noise: prices, cohorts, the noise itself, and what a restart may use again (nothing)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from fedrec.errors import BudgetExhausted, InputError, PrivacyError
from fedrec.privacy.description import describe
from fedrec.privacy.plan import BANDED, PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery
from fedrec.settings import parse
from tests.core.privacy.banded.test_factor import matrix

USERS = 1001
STEPS, APART = 7, 3


def query(name: str, share: float, size: int = 4, clip: float = 1.0) -> SumQuery:
    return SumQuery(name, (size,), clip, share)


def rounds(size: int = 4) -> list[tuple[SumQuery, ...]]:
    """Popularity alone, and then a stream of two queries."""
    stream = (query("tower", 0.6 / STEPS, size, 0.5), query("bias", 0.2 / STEPS))
    return [(query("popularity", 0.2),), *[stream] * STEPS]


def plan(asked: list[tuple[SumQuery, ...]] | None = None, seed: int | None = 1, **other: object) -> PrivacyPlan:
    config = PrivacyConfig(**{"epsilon": 2.0, "noise": "banded", "separation": APART} | other)
    return PrivacyPlan.build(config, rounds() if asked is None else asked, USERS, seed, "public")


def noise(ours: PrivacyPlan, round_index: int, asked: SumQuery) -> np.ndarray:
    """Charge a round and return the release of an empty sum."""
    ours.charge(round_index)
    return ours.privatise(round_index, asked, torch.zeros(asked.shape, dtype=torch.int64)).value.double().numpy()


# Who takes part


def test_blocks_divide_the_users_and_return_after_the_separation() -> None:
    ours = plan()
    assert np.array_equal(ours.sample(0), np.arange(USERS))
    cohorts = [ours.sample(1 + step) for step in range(STEPS)]
    assert np.array_equal(np.sort(np.concatenate(cohorts[:APART])), np.arange(USERS))
    for step in range(STEPS - APART):
        assert np.array_equal(cohorts[step], cohorts[step + APART])
    assert {len(cohort) for cohort in cohorts} == {333, 334}
    assert ours.expected_cohort == pytest.approx(USERS / APART)
    assert np.array_equal(plan(seed=None).sample(1), ours.sample(1)), "blocks are public, whatever the noise"


def test_participation_is_described() -> None:
    ours = plan()
    for number in range(len(ours.rounds)):
        ours.charge(number)
    told = describe(ours)["participation"]
    assert told == {
        "expected_rounds": pytest.approx(1 + STEPS / APART),
        "most_rounds": 1 + math.ceil(STEPS / APART),
        "limit": f"one of every {APART} rounds that ask the same",
    }


# What it costs


def test_the_whole_run_reaches_the_target_and_each_step_pays_for_its_row() -> None:
    ours = plan()
    charges = [ours.charge(number) for number in range(len(ours.rounds))]
    assert 1.99 <= float(charges[-1].epsilon.pld) <= 2.0
    assert [charge.step for charge in charges] == [None, *range(STEPS)]
    first = float(charges[1].events[0].noise_multiplier)
    coefficients = [float(each) for each in charges[1].queries[0].banded.coefficients]
    for step, charge in enumerate(charges[1:]):
        assert float(charge.events[0].noise_multiplier) * coefficients[step % APART] == pytest.approx(first)
    spent = math.fsum(float(charge.events[0].noise_multiplier) ** -2 for charge in charges[1:])
    alone = float(charges[0].events[0].noise_multiplier) ** -2
    assert spent / (spent + alone) == pytest.approx(0.8), "the stream has the budget share of its rounds"
    with pytest.raises(BudgetExhausted):
        ours.charge(3)


@given(st.lists(st.integers(1, STEPS), min_size=1, max_size=25), st.integers(0, APART - 1), st.sets(st.integers(0, 24)))
@settings(max_examples=60, deadline=None)
def test_the_charges_cover_every_user_whatever_is_repeated_or_begun_anew(
    charged: list[int], block: int, anew: set[int]
) -> None:
    """By brute force: rows of C over the steps of one begin, and the user's own participations in them."""
    ours = plan().banded
    assert ours is not None
    coefficients = ours.stream(1).factor.coefficients
    paid, spent, age = 0.0, 0.0, APART
    for each, step in zip(charged, ours.steps(charged, anew), strict=True):
        assert step is not None
        age = APART if step == 0 else age + 1
        age = 0 if (each - 1) % APART == block else age
        spent += coefficients[age] ** 2 if age < APART else 0.0
        paid += coefficients[step % APART] ** 2
        assert spent <= paid + 1e-12


@pytest.mark.parametrize(
    ("settings_", "line"),
    [
        ({"trust": "distributed"}, "proven for privacy.trust = central alone"),
        ({"trust": "local"}, "proven for privacy.trust = central alone"),
        ({"epsilon": "none"}, "needs an epsilon"),
        ({"sampling": 0.5}, "leave privacy.sampling out"),
        ({"clipping": {"adaptive": True}}, "clips that stay"),
        ({"separation": None}, "set both or neither"),
        ({"noise": "independent"}, "set both or neither"),
    ],
)
def test_what_is_not_proven_is_refused_in_one_line(settings_: dict[str, object], line: str) -> None:
    given_ = {"epsilon": 2.0, "noise": "banded", "separation": 3} | settings_
    with pytest.raises(InputError, match=line) as refused:
        parse(PrivacyConfig, {key: value for key, value in given_.items() if value is not None}, "[privacy]")
    assert "\n" not in str(refused.value)


def test_a_plan_without_a_stream_is_refused() -> None:
    with pytest.raises(PrivacyError, match="no two rounds in a row ask the same"):
        plan([(query("a", 0.5),), (query("b", 0.5),)])
    with pytest.raises(PrivacyError, match=r"rounds 0 to 1 ask the same queries, fewer rounds than"):
        plan([(query("a", 0.5),)] * 2)


# The noise


def fits(found: np.ndarray, covariance: np.ndarray) -> bool:
    """Return whether columns (steps, n) may be normal with this covariance: every whitened product, at 1e-7."""
    white = np.linalg.solve(np.linalg.cholesky(covariance), found)
    products, n = white @ white.T, found.shape[1]
    low, high = chi2.ppf([1e-7, 1 - 1e-7], n)
    diagonal = np.diag(products)
    rest = np.abs(products[~np.eye(len(products), dtype=bool)]) / math.sqrt(n)
    return bool(((diagonal > low) & (diagonal < high)).all() and (rest < norm.isf(1e-8)).all())


def test_the_noise_has_the_covariance_of_the_factor_and_no_other() -> None:
    found = []
    for seed in range(2):
        ours = plan(rounds(size=3000), seed)
        asked = ours.rounds[1]["tower"]
        found.append(np.stack([noise(ours, 1 + step, asked) for step in range(STEPS)]))
    columns = np.concatenate(found, axis=1)
    inverse = np.linalg.inv(matrix(ours.banded.stream(1).factor))
    std = ours.noise_std(1, "tower")
    true = std**2 * inverse @ inverse.T
    assert fits(columns, true)
    assert not fits(columns, np.diag(np.diag(true))), "independent noise of the same size"
    assert not fits(columns, std**2 * np.eye(STEPS))
    assert not fits(columns, true * 1.5)
    assert not fits(columns, true / 1.5)
    ours = plan(rounds(size=3000), 9)  # the standard deviation that an algorithm is given
    stds = []
    for step in range(STEPS):
        ours.charge(1 + step)
        total = torch.zeros(3000, dtype=torch.int64)
        stds.append(ours.privatise(1 + step, asked, total).noise_std)
    assert stds == pytest.approx(np.sqrt(np.diag(true)))


def test_a_round_alone_asks_everybody_and_is_scaled_to_the_expected_cohort() -> None:
    ours = plan()
    asked = ours.rounds[0]["popularity"]
    ours.charge(0)
    total = torch.full((4,), int(3000 / ours.lattice(asked).step), dtype=torch.int64)
    released = ours.privatise(0, asked, total)
    assert released.noise_std == pytest.approx(ours.noise_std(0, "popularity") / APART)
    assert released.value.double().numpy() == pytest.approx(np.full(4, 1000.0), abs=6 * released.noise_std)


def test_a_round_charged_again_begins_anew_with_noise_that_is_independent_of_all_earlier_noise() -> None:
    ours = plan(rounds(size=20000), seed=None, epsilon=50.0)
    ours.config = ours.config.model_copy(update={"epsilon": 100.0})
    asked = ours.rounds[1]["tower"]
    made = [noise(ours, each, asked) for each in (1, 2, 2, 3)]
    assert ours.banded.steps(ours.charged) == [0, 1, 0, 1]
    coefficient, std = ours.banded.stream(1).factor.coefficients[1], ours.noise_std(1, "tower")
    fresh = np.stack([made[0], made[1] + coefficient * made[0], made[2], made[3] + coefficient * made[2]])
    assert fits(fresh, std**2 * np.eye(4))


def test_a_resumed_run_with_a_seed_repeats_its_noise_and_one_without_begins_anew() -> None:
    whole, again = plan(), plan()
    asked = whole.rounds[1]["tower"]
    made = [noise(whole, 1 + step, asked) for step in range(STEPS)]
    again.restore([1, 2, 3, 4], [0, 1, 2, 3])
    assert np.array_equal(noise(again, 5, asked), made[4])
    anew = plan(seed=None)
    anew.restore([1, 2, 3], [0, 1, 2])
    assert anew.charge(4).step == 0
    assert anew.charge(5).step == 1
    third = plan(seed=None)
    third.restore([1, 2, 3, 4, 5], [0, 1, 2, 0, 1])
    assert third.charge(6).step == 0
    assert third.epsilon()["pld"] < 2.0
    with pytest.raises(PrivacyError, match="not steps of this run's streams"):
        plan().restore([1, 2, 3], [0, 1, 1])


def test_the_mechanism_has_a_name_that_an_older_device_does_not_know() -> None:
    assert BANDED != "Poisson-sampled Gaussian, add or remove one user"
