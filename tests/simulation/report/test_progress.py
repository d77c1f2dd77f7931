"""The display of a long step, in a terminal and elsewhere."""

import io

import numpy as np
import pytest
import torch
from fedrec_sim.engines.in_process import InProcessFederation
from fedrec_sim.report import progress as shown
from fedrec_sim.report.progress import RunProgress

from fedrec import progress as steps
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.screen import plain_console
from tests.server.toy import histories
from tests.simulation.engines.test_in_process import SHARED, TOY

USERS = len(histories())


def _output(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, quiet: bool = False, long: float = 0.0) -> str:
    monkeypatch.setattr(shown, "LONG", long)
    monkeypatch.setattr(shown, "EVERY", long)
    file = io.StringIO()
    progress = RunProgress(plain_console(file=file, force_terminal=terminal, width=100), quiet=quiet)
    with progress.steps(), progress.rounds("als", 2), steps.step("denoising popularity", 40) as advance:
        for _ in range(7):
            advance()
        if progress._bar is not None:
            progress._bar.refresh()
    return file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_step_is_shown_with_its_count(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    text = _output(monkeypatch, terminal=terminal)
    assert "denoising popularity" in text
    assert ("7/40" in text) or not terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_short_step_and_a_quiet_run_show_nothing(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    assert "denoising" not in _output(monkeypatch, terminal=terminal, long=60.0)
    assert "denoising" not in _output(monkeypatch, terminal=terminal, quiet=True)


def test_the_users_of_a_round_are_counted_and_the_sums_are_equal() -> None:
    plan, cohort = PrivacyPlan.build(PrivacyConfig(epsilon="none"), [TOY.queries(0)], USERS, seed=3), np.arange(USERS)
    made, seen = InProcessFederation(histories(), plan, seed=11, batch_users=7), list[steps.Step]()
    silent = made.clipped_sums(TOY, SHARED, 0, cohort)
    with steps.listening(seen.append):
        listened = made.clipped_sums(TOY, SHARED, 0, cohort)
    assert all(torch.equal(silent[name], listened[name]) for name in silent)
    counts = [step.done for step in seen]
    assert {step.total for step in seen} == {USERS}
    assert counts == sorted(counts)
    assert counts[-1] == USERS
    assert seen[-1].ended
