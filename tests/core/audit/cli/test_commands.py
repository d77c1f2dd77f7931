"""`fedrec audit verify|export|prove|check-proof|witness|keys` as an auditor and an operator meet them."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedrec.audit.evidence.received_run import CHECKPOINT, LEDGER, MODEL, PUBLIC_KEY
from fedrec.audit.log.keys import load_key, new_key
from fedrec.audit.log.ledger import Ledger
from fedrec.cli import run as fedrec
from tests.core.audit import ledgers
from tests.core.audit.ledgers import payloads_of, plan_of

PLAN = plan_of(epsilon=2.0)
PAYLOADS = payloads_of(PLAN)


def audit(*arguments: Any) -> int:
    return fedrec(["audit", *map(str, arguments)])


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    """The operator's private key."""
    new_key(tmp_path / "operator.pem")
    return tmp_path / "operator.pem"


@pytest.fixture
def run(tmp_path: Path, operator: Path) -> Path:
    """The folder of a run."""
    key, folder = load_key(operator), tmp_path / "run"
    ledger = Ledger(folder / LEDGER, key)
    begin = ledgers.begun(PLAN, key.public)
    for payload in (begin, *PAYLOADS[1:]):
        ledger.append(payload)
    ledger.seal()
    files = ledgers.FILES | {PUBLIC_KEY: key.public.pem()}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for name, content in ledgers.stated((folder / LEDGER).read_bytes().splitlines()).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def pub(operator: Path) -> str:
    return load_key(operator).public.text


def test_an_auditor_verifies_a_folder_and_an_export(run: Path, pub: str, tmp_path: Path, capsys: Any) -> None:
    assert audit("verify", run, "--key", pub) == 0
    assert "verified, everything that was checked holds" in capsys.readouterr().out
    assert audit("export", run, "-o", tmp_path / "a.zip") == 0
    assert audit("export", run, "-o", tmp_path / "b.zip") == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert audit("export", run, "-o", tmp_path / "a.zip") == 2
    capsys.readouterr()
    assert audit("verify", tmp_path / "a.zip", "--key", pub, "--model", run / MODEL, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] is True
    assert told["faults"] == []
    assert told["epsilon"]["recomputed"]["tight"].startswith("2.0")


def test_faults_are_a_line_each_and_exit_code_4(run: Path, pub: str, capsys: Any) -> None:
    (run / MODEL).write_bytes(b"other")
    (run / "scenario.toml").write_bytes(b"other")
    assert audit("verify", run, "--key", pub) == 4
    told = capsys.readouterr()
    assert told.out.count("FAULT: ") == 3
    assert told.err.splitlines()[-1].endswith("does NOT verify, 3 faults")
    assert audit("verify", run, "--key", pub, "--json") == 4
    assert json.loads(capsys.readouterr().out)["holds"] is False


def test_whose_record_it_is_must_be_said(run: Path, pub: str, capsys: Any) -> None:
    assert audit("verify", run) == 2
    assert "--trust-run-key" in capsys.readouterr().err
    assert audit("verify", run, "--key", pub, "--trust-run-key") == 2
    assert audit("verify", run, "--trust-run-key") == 0
    assert "not who wrote it" in capsys.readouterr().out
    new_key(run.parent / "other.pem")
    assert audit("verify", run, "--key", load_key(run.parent / "other.pem").public.text) == 4


def test_a_rolled_back_run_contradicts_what_was_kept(run: Path, pub: str, operator: Path, tmp_path: Path) -> None:
    before = {name: (run / name).read_bytes() for name in (LEDGER, CHECKPOINT)}
    Ledger(run / LEDGER, load_key(operator)).append({"type": "note", "what": "later"})
    (tmp_path / "kept.note").write_bytes((run / CHECKPOINT).read_bytes())
    assert audit("verify", run, "--key", pub, "--older", tmp_path / "kept.note") == 0
    for name, content in before.items():
        (run / name).write_bytes(content)
    assert audit("verify", run, "--key", pub) == 0
    assert audit("verify", run, "--key", pub, "--older", tmp_path / "kept.note") == 4


def test_proofs_from_hand_to_hand(run: Path, pub: str, operator: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "old.note").write_bytes((run / CHECKPOINT).read_bytes())
    Ledger(run / LEDGER, load_key(operator)).append({"type": "note", "what": "later"})
    assert audit("prove", run, "--round", 1, "-o", tmp_path / "one.proof") == 0
    assert audit("prove", run, "--from", tmp_path / "old.note", "-o", tmp_path / "growth.proof") == 0
    assert (tmp_path / "one.proof").stat().st_size < 2048
    capsys.readouterr()
    assert audit("check-proof", tmp_path / "one.proof", "--key", pub, "--json") == 0
    assert json.loads(capsys.readouterr().out)["payload"]["round"] == 1
    assert audit("check-proof", tmp_path / "growth.proof", "--key", pub, "--older", tmp_path / "old.note") == 0
    assert "begin with those 5" in capsys.readouterr().out
    assert audit("check-proof", tmp_path / "one.proof", "--key", pub, "--older", tmp_path / "old.note") == 4
    new_key(tmp_path / "other.pem")
    assert audit("check-proof", tmp_path / "one.proof", "--key", load_key(tmp_path / "other.pem").public.text) == 4
    assert audit("prove", run, "--round", 99) == 2
    assert audit("prove", run) == 2


def test_a_witness_sees_growth_and_refuses_a_rewritten_past(
    run: Path, pub: str, operator: Path, tmp_path: Path, capsys: Any
) -> None:
    new_key(tmp_path / "witness.pem")
    seer = load_key(tmp_path / "witness.pem").public.text
    options = ["--key", pub, "--witness-key", tmp_path / "witness.pem", "--memory", tmp_path / "memory"]
    assert audit("verify", run, "--key", pub, "--witness", seer) == 4
    before = {name: (run / name).read_bytes() for name in (LEDGER, CHECKPOINT)}
    assert audit("witness", run, *options) == 0
    assert audit("verify", run, "--key", pub, "--witness", seer) == 0
    (tmp_path / "old.note").write_bytes((run / CHECKPOINT).read_bytes())
    Ledger(run / LEDGER, load_key(operator)).append({"type": "note", "what": "later"})
    assert audit("prove", run, "--from", tmp_path / "old.note", "-o", tmp_path / "growth.proof") == 0
    assert audit("witness", tmp_path / "growth.proof", *options, "-o", tmp_path / "cosigned.note") == 0
    assert audit("verify", run, "--key", pub, "--older", tmp_path / "cosigned.note") == 0
    for name, content in before.items():
        (run / name).write_bytes(content)
    capsys.readouterr()
    assert audit("witness", run, *options) == 4
    assert "rolled back" in capsys.readouterr().err


def test_a_key_hands_over_and_auditors_keep_theirs(run: Path, pub: str, operator: Path, tmp_path: Path) -> None:
    assert audit("keys", "new", tmp_path / "new.pem") == 0
    assert audit("keys", "rotate", run, "--new", tmp_path / "new.pem", "--key", operator) == 0
    assert audit("verify", run, "--key", pub) == 0
    assert audit("keys", "rotate", run, "--new", tmp_path / "new.pem", "--key", operator) == 4
    Ledger(run / LEDGER, load_key(tmp_path / "new.pem")).append({"type": "note"})
    assert audit("verify", run, "--key", pub) == 0


def test_keys_are_shown_and_never_overwritten(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, ledger_key: Path
) -> None:
    path = tmp_path / "key.pem"
    monkeypatch.setenv("FEDREC_KEY_PASSPHRASE", "secret")
    assert audit("keys", "new", path, "--passphrase") == 0
    assert b"ENCRYPTED" in path.read_bytes()
    capsys.readouterr()
    assert audit("keys", "show", path) == 0
    text = capsys.readouterr().out.strip()
    assert audit("keys", "show", path, "--pem") == 0
    (tmp_path / "key.pub").write_text(capsys.readouterr().out)
    assert audit("keys", "show", tmp_path / "key.pub") == 0
    assert capsys.readouterr().out.strip() == text
    assert audit("keys", "new", path) == 2
    assert audit("keys", "show") == 0
    assert capsys.readouterr().out.strip() == load_key(ledger_key).public.text


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04nonsense"])
def test_what_is_no_run_is_refused(content: bytes, tmp_path: Path, pub: str, capsys: Any) -> None:
    (tmp_path / "file").write_bytes(content)
    for place in (tmp_path / "file", tmp_path, tmp_path / "none"):
        assert audit("verify", place, "--key", pub) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_a_damaged_export_never_verifies(run: Path, pub: str, tmp_path: Path) -> None:
    assert audit("export", run, "-o", tmp_path / "run.zip") == 0
    whole = (tmp_path / "run.zip").read_bytes()
    place = whole.index(b"privacy/ledger.jsonl") + 40
    (tmp_path / "bad.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert audit("verify", tmp_path / "bad.zip", "--key", pub) in (2, 4)
