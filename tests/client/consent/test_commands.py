"""`fedrec client policy`, `budget` and `ledger`, as an operator uses them."""

import json
from pathlib import Path

import numpy as np
import pytest
from fedrec_client.consent.answering import Asked
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.files import prepared
from fedrec_client.consent.policy import Policy, load

from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from tests.client.consent.runs import query, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ledger = DeviceLedger(tmp_path / "client" / FILE, Policy())
    people, everybody = np.arange(3), np.arange(3)
    for number in range(2):
        ledger.charge(run("run-a"), Asked(number, f"a{number}", people, everybody, False))
    ledger.charge(run("run-b", noise=2.0), Asked(0, "b", people, np.array([1]), False))
    ledger.charge(run("run-c", trust="none", rounds=((query(noise=0.0),),)), Asked(0, "c", people, everybody, True))
    return tmp_path / "client"


def test_a_policy_is_made_checked_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.toml"
    assert fedrec(["client", "policy", "init", str(file)]) == 0
    assert load(file) == Policy()
    assert file.stat().st_mode & 0o077 == 0
    assert fedrec(["client", "policy", "init", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err
    file.write_text("[run]\nepsilon = 3.0\n")
    assert fedrec(["client", "policy", "check", str(file)]) == 0
    assert "A run may cost a user epsilon 3" in capsys.readouterr().out
    assert fedrec(["client", "policy", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "epsilon = 3.0" in shown
    assert "minimum_cohort = 50" in shown
    file.write_text("[run]\nepsilonn = 3.0\n")
    assert fedrec(["client", "policy", "check", str(file)]) == 2
    error = capsys.readouterr().err
    assert "Did you mean 'run.epsilon'?" in error
    assert len(error.strip().splitlines()) == 1


def test_the_budget_shows_what_was_spent_by_run_and_period(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fedrec(["client", "budget", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["users"] == 3
    assert [each["run"] for each in found["runs"]] == ["run-c", "run-b", "run-a"]
    public, other, first = found["runs"]
    assert public["epsilon"] is None
    assert (first["rounds"], other["rounds"]) == (2, 1)
    assert other["epsilon"] > first["epsilon"] > 0
    assert other["epsilon"] < found["epsilon"] < found["limit"]
    assert 0 < found["used"] < 1
    assert fedrec(["client", "budget", str(folder / FILE)]) == 0
    shown = capsys.readouterr().out
    assert "Period of 90 days: epsilon" in shown
    assert "public data" in shown
    (folder / "policy.toml").write_text("[period]\nepsilon = 3.0\n[run]\nepsilon = 3.0\n")
    assert fedrec(["client", "budget", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["limit"] == 3.0


def test_verify_finds_what_was_changed_or_lost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / FILE
    assert fedrec(["client", "ledger", "verify", str(folder)]) == 0
    assert "3 accepted, 1 begin, 4 charge, 1 users" in capsys.readouterr().out
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"round":1', b'"round":7'))
    assert fedrec(["client", "ledger", "verify", str(folder)]) == 4
    assert "edited or damaged" in capsys.readouterr().err
    file.write_bytes(b"\n".join(content.splitlines()[:-1]) + b"\n")
    assert fedrec(["client", "ledger", "verify", str(folder)]) == 4
    assert "does not fit its counter" in capsys.readouterr().err
    assert file.read_bytes() != content, "verify mends nothing"
    DeviceLedger(file, Policy()).open()
    assert fedrec(["client", "ledger", "verify", str(folder)]) == 0
    assert "a gap (the ledger does not fit its counter)" in capsys.readouterr().out
    assert fedrec(["client", "budget", str(folder)]) == 0
    assert "only zeros are contributed until" in capsys.readouterr().out


@pytest.mark.parametrize("counter", [None, b"{", b""])
def test_a_damaged_ledger_is_begun_anew_with_the_period_spent(counter: bytes | None, folder: Path, capsys) -> None:
    file = folder / FILE
    file.write_bytes(file.read_bytes().replace(b'"round":1', b'"round":7'))
    if counter is not None:
        folder.with_name("client.counter").write_bytes(counter)
    assert fedrec(["client", "budget", str(folder)]) == 4
    assert fedrec(["client", "ledger", "renew", str(folder)]) == 0
    assert "Only zeros are contributed" in capsys.readouterr().out
    assert len(list(folder.glob("*.damaged"))) == 1
    verdict = DeviceLedger(file, Policy()).charge(run("run-d"), Asked(0, "d", np.arange(3), np.arange(3), False))
    assert not verdict.give.any()


def test_a_ledger_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["budget"], ["ledger", "verify"], ["ledger", "renew"]):
        assert fedrec(["client", *command, str(tmp_path / "none.jsonl")]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_start_of_a_node_makes_a_policy_and_reports_missing_lines(tmp_path: Path) -> None:
    said: list[str] = []
    place = tmp_path / "client"
    place.mkdir()
    assert prepared(place, None, said.append) == {"policy": str(place / "policy.toml")}
    assert load(place / "policy.toml") == Policy()
    assert said == []
    DeviceLedger(place / FILE, Policy()).charge(run(), Asked(0, "q", np.arange(2), np.arange(2), False))
    (place / FILE).unlink()
    prepared(place, None, said.append)
    assert len(said) == 1
    assert "contributes only zeros until 20" in said[0]
    (place / "policy.toml").write_text("[run]\nepsilonn = 1")
    with pytest.raises(InputError, match=r"run\.epsilon"):
        prepared(place, None, said.append)


def test_a_device_without_a_ledger_has_spent_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fresh").mkdir()
    assert fedrec(["client", "budget", str(tmp_path / "fresh")]) == 0
    assert "epsilon 0.0000 of 10" in (found := capsys.readouterr().out)
    assert "No run so far." in found
    assert list((tmp_path / "fresh").iterdir()) == []
    for wrong in ("fresh/other.jsonl", "nowhere/device-ledger.jsonl"):
        assert fedrec(["client", "budget", str(tmp_path / wrong)]) == 2
    (folder / FILE).unlink()  # its counter is left: what was spent is not known
    assert fedrec(["client", "budget", str(folder)]) == 2
