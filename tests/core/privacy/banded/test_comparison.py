"""The advice: correlated noise against the other ways to spend the same epsilon, as measured apart from this code."""

import pytest

from fedrec.privacy.banded.comparison import compare
from fedrec.privacy.explanation import explain
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

TABLE = {(40, 10, 1.0): 1.14, (40, 10, 8.0): 0.91, (200, 4, 0.5): 1.71, (200, 4, 3.0): 0.91}
"""(rounds, participations, epsilon) -> noise divided by that of Poisson sampling."""


def plan(rounds: int, participations: int, epsilon: float, separation: int | None = None) -> PrivacyPlan:
    config = PrivacyConfig(epsilon=epsilon, noise="banded", separation=separation or rounds // participations)
    return PrivacyPlan.build(config, [(SumQuery("tower", (3,), 1.0, 1 / rounds),)] * rounds, 10_000, 1)


@pytest.mark.parametrize(("rounds", "participations", "epsilon"), TABLE)
def test_the_comparison_with_poisson_sampling_is_the_measured_one(
    rounds: int, participations: int, epsilon: float
) -> None:
    expected = TABLE[rounds, participations, epsilon]
    found = compare(plan(rounds, participations, epsilon))
    assert found.banded / found.poisson == pytest.approx(expected, abs=0.006)
    assert found.worthwhile == (expected < 1)
    better = "correlated noise is better here" if expected < 1 else "Poisson sampling is better here"
    assert found.advice.startswith(better)
    assert found.independent > found.banded > found.everybody


def test_full_participation_gains_nothing() -> None:
    found = compare(plan(40, 40, 3.0, separation=1))
    assert found.banded == pytest.approx(found.everybody)
    assert found.banded == pytest.approx(found.independent)


def test_the_explanation_shows_factor_sensitivity_and_advice() -> None:
    rows = {row.name: row for row in explain(plan(40, 10, 1.0))}
    assert rows["correlation"].value == "1, 0.6303, 0.5127, 0.4296"
    assert rows["sensitivity"].value.endswith("clips")
    assert "takes part in 10 of them" in rows["sensitivity"].why
    assert rows["separation"].value == "4"
    assert "sampling" not in rows
    assert rows["advice"].value == "sample instead"
    assert float(rows["noise: correlated"].value) / float(rows["noise: Poisson"].value) == pytest.approx(1.14, abs=0.01)
