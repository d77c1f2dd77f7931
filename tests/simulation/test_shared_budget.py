"""Simulated runs that share a budget: refused before anything is written, stopped, resumed, settled, combined."""

import json
from pathlib import Path
from typing import Any

import pytest
from fedrec_sim.report.progress import RunProgress

from fedrec.audit.budget.budget import Budget, read
from fedrec.audit.entries.events import charges
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run

SMALL = ["--set", "data.users=80", "--set", "data.items=150", "--set", "data.interactions_per_user=12", "--quiet"]
ALS = [*SMALL, "--set", "algorithm.name=als", "--set", "algorithm.dim=4", "--set", "algorithm.rounds=2",
       "--set", "algorithm.popularity_share=0.2"]  # fmt: skip
FAST = [*ALS, "--set", "evaluation.baselines=false", "--set", "evaluation.every=0"]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a run that draws from a budget of epsilon 4, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    assert run(["audit", "budget", "new", "b.json", "--epsilon", "4", "--delta", "1e-5", "--who", "people"]) == 0
    return ["simulate", *FAST, "--set", "privacy.budget=b.json"]


def budget() -> Budget:
    return read(Path("b.json"))


def combined(capsys: Any, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["audit", "combine", "--trust-run-key", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_second_run_is_refused_and_releases_nothing(shared: list[str], capsys: Any) -> None:
    assert run([*shared, "--out", "a", "--set", "privacy.epsilon=3"]) == 0
    head = budget().history_hash
    assert run([*shared, "--out", "b", "--set", "privacy.epsilon=3"]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "still" not in error
    assert "epsilon 2.36" in error
    assert not Path("b").exists()
    assert budget().history_hash == head
    assert run([*shared, "--out", "c", "--set", "privacy.epsilon=2.3"]) == 0
    told = json.loads(Path("a/private/summary.json").read_text())["privacy"]
    assert (told["population_budget"]["epsilon"], told["participation"]["most_rounds"]) == ("4.0", 3)
    assert "people" in Path("a/release/privacy/statement.md").read_text()
    found = combined(capsys, "a", "c")
    assert found["shared_budget"]["epsilon"] == "4.0"
    assert 3 < float(found["fixed_ahead"]["pld"]) <= 4
    assert float(found["basic"]["epsilon"]) == pytest.approx(5.3, abs=1e-3)
    assert found["participation"] == {"expected_rounds": 6.0, "most_rounds": 6}


def test_a_run_of_the_caps_own_epsilon_fits_and_the_rest_is_nothing(shared: list[str]) -> None:
    assert run([*shared, "--out", "a", "--set", "privacy.epsilon=4"]) == 0
    assert 0 <= budget().left < budget().limit * 0.003
    assert run([*shared, "--out", "b", "--set", "privacy.epsilon=0.5"]) == 3


def test_stopped_resumed_and_settled(shared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: RunProgress, report: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunProgress, "round", stop)
        for name in ("a", "b"):
            assert run([*shared, "--out", name, "--set", "privacy.epsilon=2"]) == 130
    assert [entry.state for entry in budget().entries.values()] == ["open", "open"]
    assert run(["audit", "budget", "settle", "b.json", "b"]) == 0
    first, second = budget().entries.values()
    assert first.cost == first.reserved_cost
    assert second.cost < second.reserved_cost / 2
    assert run(["simulate", "--resume", "--out", "b", "--quiet"]) == 3
    assert len(charges(entry.payload for entry in read_ledger(Path("b/release/privacy/ledger.jsonl"))[0])) == 1
    assert run(["simulate", "--resume", "--out", "a", "--quiet"]) == 0
    first, second = budget().entries.values()
    assert first.state == "settled"
    assert first.cost == first.reserved_cost


def test_runs_that_may_not_be_combined(shared: list[str], capsys: Any) -> None:
    simulate = ["simulate", *FAST, "--set", "privacy.epsilon=1"]
    assert run([*shared, "--out", "a", "--set", "privacy.epsilon=2", "--seed", "1"]) == 0
    assert run([*simulate, "--out", "b", "--seed", "1"]) == 0
    assert run([*simulate, "--out", "c", "--set", "privacy.sampling=0.5"]) == 0
    assert run(["simulate", *FAST, "--set", "privacy.epsilon=none", "--out", "d"]) == 0
    capsys.readouterr()
    for arguments, code, message in (
        (["a", "c"], 2, "different populations"),
        (["b", "b"], 2, "once"),
        (["a", "b", "--same-people"], 2, "same seed"),
        (["a", "nowhere"], 2, "there is no such run"),
    ):
        assert run(["audit", "combine", "--trust-run-key", *arguments]) == code
        assert message in capsys.readouterr().err
    apart, together = combined(capsys, "a", "c", "--disjoint"), combined(capsys, "a", "c", "--same-people")
    assert float(apart["fixed_ahead"]["pld"]) == pytest.approx(2, abs=2e-3)
    assert float(together["fixed_ahead"]["pld"]) > 2.1
    assert float(together["knows_the_cohort"]) > float(together["fixed_ahead"]["pld"])
    assert "must guarantee" in apart["assumptions"]["disjoint"]
    assert together["participation"]["expected_rounds"] == 4.5
    assert combined(capsys, "c", "d")["fixed_ahead"] == {"pld": None, "rdp": None}
    assert run(["audit", "combine", "--trust-run-key", "a", "c", "--same-people"]) == 0
    assert "needs: every run" in capsys.readouterr().out
