"""`fedrec audit combine` takes its numbers from signed records: files next to the ledger change nothing."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from fedrec import cli
from tests.core.audit.audited_run import BUDGET, audited_run

SCENARIO = b'seed = 3\n[data]\nname = "toy"\n[privacy]\nepsilon = 2.0\n'


def combined(capsys: Any, *arguments: Any) -> dict[str, Any]:
    assert cli.run(["audit", "combine", "--trust-run-key", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def begun(content: bytes) -> dict[str, Any]:
    return {"scenario": ("toy", hashlib.sha256(content).hexdigest())}


def seeded(folder: Path, content: bytes = SCENARIO) -> Path:
    run = audited_run(folder, epsilon=2.0, seed=3, begin=begun(content))
    (run / "scenario.toml").write_bytes(content)
    return run


def test_an_edited_scenario_beside_a_ledger_lowers_nothing(tmp_path: Path, capsys) -> None:
    runs = [audited_run(tmp_path / name, epsilon=2.0, stop_after=2) for name in ("a", "b")]
    before = combined(capsys, *runs)
    assert before["basic"]["epsilon"] == "4.0000"
    for run in runs:
        (run / "scenario.toml").write_text('seed = 1\n[data]\nname = "others"\n[privacy]\nepsilon = 0.1\n')
    assert combined(capsys, *runs) == before


def test_a_tie_to_a_budget_that_no_record_has_is_no_cap(tmp_path: Path, capsys) -> None:
    runs = [audited_run(tmp_path / name, epsilon=2.0) for name in ("a", "b")]
    tie = {"run": "x", "budget": "1", "name": "n", "who": "nobody", "epsilon": "0.1", "delta": "1e-9"}
    for run in runs:
        for place in (run / "privacy", run):
            (place / "budget.json").write_text(json.dumps(tie | {"theorem": "mine", "seen": "0"}))
    found = combined(capsys, *runs)
    assert found["shared_budget"] is None
    assert found["populations"] == ["toy"]


def test_the_cap_of_a_shared_budget_comes_from_the_records(tmp_path: Path, capsys) -> None:
    other = BUDGET.model_copy(update={"run": "drew-more"})
    runs = [
        audited_run(tmp_path / name, epsilon=1.0, begin={"budget": budget})
        for name, budget in (("a", BUDGET), ("b", other))
    ]
    found = combined(capsys, *runs)
    assert found["shared_budget"]["epsilon"] == BUDGET.epsilon
    assert found["populations"] == [BUDGET.who]
    stranger = audited_run(tmp_path / "c", epsilon=1.0, begin={"budget": BUDGET.model_copy(update={"id": "another"})})
    assert combined(capsys, runs[0], stranger)["shared_budget"] is None


def test_the_seed_is_that_of_the_signed_scenario(tmp_path: Path, capsys) -> None:
    first, second = seeded(tmp_path / "a"), seeded(tmp_path / "b", SCENARIO + b"# another run\n")
    assert cli.run(["audit", "combine", "--trust-run-key", str(first), str(second)]) == 2
    assert "same seed" in capsys.readouterr().err
    (second / "scenario.toml").write_bytes(SCENARIO.replace(b"3", b"4", 1))
    assert cli.run(["audit", "combine", "--trust-run-key", str(first), str(second)]) == 4
    assert "is not the scenario that the ledger began with" in capsys.readouterr().err
    (second / "scenario.toml").unlink()
    assert cli.run(["audit", "combine", "--trust-run-key", str(first), str(second)]) == 2
    assert "the noise follows from its seed" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"delta": None}, {"sampling": "2"}, {"plan": 3}, {"budget": {"name": "n"}}])
def test_a_record_that_is_none_is_refused_in_a_line(change: dict[str, Any], tmp_path: Path, capsys) -> None:
    from fedrec.audit.log.ledger import Ledger

    begin = audited_run(tmp_path / "a", epsilon=1.0)
    genuine = [entry.payload for entry in Ledger(begin / "privacy/ledger.jsonl").entries]
    ledger = Ledger(tmp_path / "b" / "privacy" / "ledger.jsonl")
    for payload in [genuine[0] | change, *genuine[1:]]:
        ledger.append(payload)
    ledger.seal()
    (tmp_path / "b" / "privacy" / "ledger.pub").write_bytes(ledger.key.public.pem())
    assert cli.run(["audit", "combine", "--trust-run-key", str(tmp_path / "b")]) == 4
    assert capsys.readouterr().err.count("\n") == 1
