"""No damaged or hostile run crashes a command of `fedrec audit`, fills the memory or takes long."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fedrec.audit.accountant import recompute
from fedrec.audit.accountant.recompute import TooCostly, require_bounded
from fedrec.audit.cli import commands
from fedrec.audit.evidence.received_run import LEDGER
from fedrec.audit.log import envelope
from fedrec.charge import Charge
from fedrec.cli import run as fedrec
from tests.core.audit import damage, ledgers
from tests.core.audit.ledgers import KEY

ROOT = Path(__file__).resolve().parents[4]
PAYLOADS = ledgers.payloads_of(ledgers.plan_of(epsilon=2.0))


def tried(count: int, seed: int, *options: str) -> dict[str, Any]:
    """Trials in a process of their own, whose memory is limited."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.core.audit.damage", str(count), str(seed), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index('{\n  "codes"') :])
    return found


def check(found: dict[str, Any], count: int) -> None:
    assert found["failures"] == []
    assert sum(found["codes"].values()) == count
    assert found["slowest"][0] < damage.SECONDS
    assert found["megabytes"] < damage.MEMORY >> 20


def test_damaged_runs_end_in_a_line() -> None:
    found = tried(200, 7)
    check(found, 200)
    assert {name.split()[0] for name in found["codes"]} == commands.READING


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(11, 21))
def test_ten_thousand_damaged_runs_end_in_a_line(seed: int) -> None:
    check(tried(1000, seed, "sampled"), 1000)


def test_the_trials_find_a_missing_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """With malformed charges let through, the last line behind them is reached, and the trials say so."""
    from fedrec.audit.entries import account

    class Unchecked(Charge):
        @classmethod
        def model_validate(cls, obj: Any, **_: Any) -> Charge:
            try:
                return Charge.model_validate(obj)
            except ValidationError:
                return Charge.model_construct(**obj)

    monkeypatch.setattr(account, "_TYPES", {**account._TYPES, "charge": Unchecked})
    monkeypatch.setattr(ledgers, "stated", lambda lines: {})  # the trials' own writer reads no malformed charge
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    assert damage.trials(150, 3)["failures"] != []


def test_what_no_check_expected_is_one_line_and_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("parties")

    monkeypatch.setattr("fedrec.audit.evidence.received_run.received", broken)
    assert fedrec(["audit", "verify", str(tmp_path), "--key", KEY.public.text]) == 4
    told = capsys.readouterr()
    assert "KeyError at test_damage.py" in told.err
    assert told.err.count("\n") == 1
    monkeypatch.setattr(commands, "READING", frozenset())
    with pytest.raises(KeyError):
        fedrec(["audit", "verify", str(tmp_path), "--key", KEY.public.text])


# The cases that were reported


def verdict(folder: Path, change: Any, capsys: Any) -> str:
    """Lines of `verify` for a ledger whose owner lies."""
    found = ledgers.forged(PAYLOADS, change)
    for name, content in found.files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content)
    assert fedrec(["audit", "verify", str(folder), "--key", KEY.public.text]) == 4
    told = capsys.readouterr()
    assert "please report" not in told.err
    return str(told.out)


def many_rounds(payloads: list[dict[str, Any]]) -> None:
    payloads[0]["rounds"] = 10**12
    payloads[0]["plan"] = [{"rounds": [0, 10**12 - 1], "queries": payloads[1]["queries"]}]


def ten_million_rounds(payloads: list[dict[str, Any]]) -> None:
    payloads[0]["rounds"] = 10**7
    payloads[0]["plan"] = [{"rounds": [0, 10**7 - 1], "queries": payloads[1]["queries"]}]


def little_noise(payloads: list[dict[str, Any]]) -> None:
    payloads[0]["sampling"]["probability"] = "0.01"
    for payload in payloads[1:4]:
        payload["sampling"] = "0.01"
        payload["events"][0] |= {"noise_multiplier": "0.0001", "sampling": "0.01"}


def no_parties(payloads: list[dict[str, Any]]) -> None:
    del payloads[0]["parties"]


def no_epsilon(payloads: list[dict[str, Any]]) -> None:
    payloads[1]["epsilon"] = {"pld": None, "rdp": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (many_rounds, "record 0 is no begin record: 'rounds'"),
        (ten_million_rounds, "its queries (name, shape, clip or noise) are not those of record 0"),
        (little_noise, "events.0.noise_multiplier"),
        (no_parties, "record 0 is no begin record: 'parties'"),
        (no_epsilon, "has no epsilon, and the run promises one"),
    ],
)
def test_reported_lies_are_faults(change: Any, message: str, tmp_path: Path, capsys: Any) -> None:
    assert message in verdict(tmp_path / "run", change, capsys)


def test_deep_json_is_no_record() -> None:
    payload = damage.deep(100)
    (line,) = ledgers.lines_of([{"type": "note", "what": payload}])
    with pytest.raises(ValueError, match="no record of a ledger"):
        envelope.parsed(line)
    with pytest.raises(ValueError, match="no signed record"):
        envelope.parsed(b"[" * 10_000 + b"]" * 10_000)
    (line,) = ledgers.lines_of([{"type": "note", "what": ["[" * 200, '\\"[' * 200]}])
    assert envelope.parsed(line).index == 0


def test_one_flipped_bit_of_an_export(tmp_path: Path, capsys: Any) -> None:
    lines = ledgers.lines_of(PAYLOADS)
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as file:
        content = bytearray(b"".join(line + b"\n" for line in lines))
        content[len(lines[0]) // 2] ^= 1
        file.writestr(LEDGER, bytes(content))
    for command in ("verify", "combine"):
        assert fedrec(["audit", command, str(tmp_path / "run.zip"), "--key", KEY.public.text]) == 4
        assert "please report" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "rounds",
    [
        [[(0.01, 1e-4, 1)]] * 3,
        [[(0.01, 0.0101, 1)]] * 3,
        [[(0.01, 1.001**number, 1)] for number in range(10_000)],
        [[(0.5, 1.0, 10**7)]] * 1000,
        [[(1e-300, 1e150, 1)]],
    ],
)
def test_events_that_cost_too_much_are_refused_before_anything_is_allocated(rounds: Any) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(TooCostly):
            recompute.curve(rounds, 1e-5)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(TooCostly):
        require_bounded([event for events in rounds for event in events], 1e-5)


def test_a_large_grid_is_read_at_fewer_places() -> None:
    rounds = [[(0.001, 0.491, 1)]] * 100
    whole = recompute.curve(rounds, 1e-5)
    few = recompute.curve(rounds, 1e-5, list(range(1, 101, 3)))
    assert whole.places[-1] == few.places[-1] == 100
    thinned = recompute._thinned(few.places, 10)
    assert thinned[-1] == 100
    assert len(thinned) <= 10
