"""`fedrec audit forget`: the bound of a released model with and without one user, and the sum of two releases."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedrec.cli import run as fedrec
from fedrec.privacy.accounting import gaussian_epsilon, gaussian_mu
from tests.core.audit.cli.test_commands import operator, run  # noqa: F401  (fixtures)


def test_two_releases_add_up_and_the_exact_sum_is_smaller(
    run: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fedrec(["audit", "forget", str(run), "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    epsilon, delta = float(facts["epsilon"]), float(facts["delta"])
    assert float(facts["two_releases_epsilon"]) == pytest.approx(2 * epsilon)
    assert float(facts["two_releases_delta"]) == pytest.approx(2 * delta)
    assert 0.5 < float(facts["best_guess"]) < 1
    if facts["two_releases_gaussian_epsilon"] is not None:
        both = float(facts["two_releases_gaussian_epsilon"])
        assert epsilon < both < 2 * epsilon
        assert both == pytest.approx(gaussian_epsilon(2**0.5 * gaussian_mu(epsilon, delta), delta), rel=1e-2)
    assert fedrec(["audit", "forget", str(run)]) == 0
    text = capsys.readouterr().out
    assert "no removal" in text
    assert f"exp({facts['epsilon']})" in text
