"""Correlated noise over whole runs: a crash reuses no noise for another sum, and a seeded run repeats its bits."""

from pathlib import Path

import pytest
import torch

from fedrec.audit.entries.events import charges
from fedrec.audit.log.ledger import read_ledger
from tests.server.toy import Crash, assemble, same

SETTINGS = {"noise": "banded", "separation": 3}
ROUNDS = 6


def steps(folder: Path) -> list[tuple[int, int | None]]:
    entries, *_ = read_ledger(folder / "ledger.jsonl")
    return [(charge.round, charge.step) for charge in charges(entry.payload for entry in entries)]


@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_seeded_run_resumes_to_the_same_bits(tmp_path: Path, at: int) -> None:
    (tmp_path / "whole").mkdir()
    whole = assemble(tmp_path / "whole", rounds=ROUNDS, config=SETTINGS).run()
    with pytest.raises(Crash):
        assemble(tmp_path, rounds=ROUNDS, config=SETTINGS, crash_at=at).run()
    resumed = assemble(tmp_path, rounds=ROUNDS, config=SETTINGS).run(resume=True)
    assert same(resumed.shared, whole.shared)
    assert steps(tmp_path) == steps(tmp_path / "whole") == [(number, number) for number in range(ROUNDS)]


def test_a_run_without_a_seed_begins_its_noise_anew_and_pays_for_it(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        assemble(tmp_path, seed=None, rounds=ROUNDS, config=SETTINGS, crash_at=2).run()
    assert steps(tmp_path) == [(0, 0), (1, 1), (2, 2)]
    again = assemble(tmp_path, seed=None, rounds=ROUNDS, config=SETTINGS)
    outcome = again.run(resume=True)
    made = steps(tmp_path)
    assert made[3:] == [(number, number - 2) for number in range(2, 2 + len(made) - 3)]
    assert outcome.exhausted is not None
    assert outcome.rounds >= 4, "the begin anew cost less than two of the six rounds"
    assert again.plan.epsilon()["pld"] <= 2.0


def test_a_run_without_a_seed_that_stops_between_participations_loses_nothing(tmp_path: Path) -> None:
    """A new begin after a multiple of the separation costs what the old stream would have cost."""

    def stop(report: object) -> None:
        if getattr(report, "round", None) == 2:
            raise Crash

    with pytest.raises(Crash):
        assemble(tmp_path, seed=None, rounds=ROUNDS, config=SETTINGS, on_round=stop).run()
    outcome = assemble(tmp_path, seed=None, rounds=ROUNDS, config=SETTINGS).run(resume=True)
    assert outcome.exhausted is None
    assert steps(tmp_path) == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2)]
    assert all(torch.isfinite(tensor).all() for tensor in outcome.shared.values())
