"""`fedrec client record`, `recommend` and the others, as a person and as a script use them."""

import json
import shlex
from pathlib import Path

import pytest

from fedrec.cli import run as fedrec
from tests.client.edge.devices import als, features, released


@pytest.fixture
def device(tmp_path: Path) -> str:
    run = released(als(), tmp_path / "run")
    assert fedrec(["client", "install", str(run), "--state", str(tmp_path / "device")]) == 0
    return str(tmp_path / "device")


def test_a_persons_way(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(line: str, code: int = 0) -> str:
        capsys.readouterr()
        assert fedrec(["client", *shlex.split(line), "--state", device]) == code, line
        found = capsys.readouterr()
        assert code or not found.err
        return found.err if code else found.out

    assert "popular" in call("recommend")
    assert call("record item-3 --event like") == "Recorded. Events in the store: 1.\n"
    assert json.loads(call("record item-9 --time 2020-01-01T00:00 --json"))["time"] == 1577836800.0
    found = json.loads(call("recommend -k 4 --json"))
    assert [set(each) for each in found] == [{"item", "score", "why"}] * 4
    assert call(f"explain {found[0]['item']}").startswith(f"{found[0]['item']}: score ")
    assert len(json.loads(call("similar item-3 -k 2 --json"))) == 2
    assert call("undo") == "Took back the view of item-9.\n"
    events = tmp_path / "events.csv"
    events.write_text("item_id,timestamp,kind\nitem-1,1600000000,view\nitem-2,1600000001,impression\n")
    assert call(f"import {events}") == "Events recorded: 2. Of kinds that do not count: 1.\n"
    assert call(f"export {tmp_path / 'mine.jsonl'}").startswith("Wrote 3 lines")
    assert json.loads(call("forget --before 2021-01-01 --json")) == {"erased": 2}
    assert call("forget item-3") == "Events erased: 1.\n"
    call(f"install {tmp_path / 'run'} --public {features(tmp_path / 'public.safetensors')}")
    some = "recommend --json --having taste=taste-1 --without taste=taste-2 --between year=:1992 --exclude item-1"
    assert [each["item"] for each in json.loads(call(some))] == ["item-29", "item-21", "item-9"]
    assert "only zeros" in call("opt-out")
    assert "within its policy" in call("opt-in")
    assert "new master key" in call("store rotate")
    assert json.loads(call("store salvage --json"))["events"] == 0
    assert json.loads(call("forget --everything --json")) == {"erased": 0}

    assert "Did you mean 'view'" in call("record item-1 --event veiw", 2)
    assert "no item with this id" in call("explain nothing", 2)
    assert "BLOCK=LABEL" in call("recommend --having taste", 2)
    assert "BLOCK=LOW:HIGH" in call("recommend --between year=1990", 2)
    assert "Did you mean 'taste-1'" in call("recommend --having taste=tast-1", 2)
    assert "time is not recognised" in call("forget --since yesterday", 2)
    assert "forget needs one of" in call("forget", 2)
    Path(device, "events.store").write_bytes(b"x" * 8192)
    assert "damaged" in call("recommend", 4)
    assert not {"fresh", "nowhere"} & {path.name for path in tmp_path.iterdir()}


def test_a_passphrase_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[str] = []
    monkeypatch.setattr("typer.prompt", lambda *_, **__: answers.pop())
    state = ["--state", str(tmp_path / "fresh"), "--passphrase"]
    answers.append("a long passphrase")
    assert fedrec(["client", "record", "item-1", *state]) == 0
    assert fedrec(["client", "undo", "--state", str(tmp_path / "fresh")]) == 2
    answers.append("another passphrase")
    assert fedrec(["client", "undo", *state]) == 2
    answers.append("a long passphrase")
    assert fedrec(["client", "undo", *state]) == 0


def test_reading_commands_make_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (
        "recommend",
        "undo",
        "explain x",
        "similar x",
        "forget x",
        "export f",
        "store rotate",
        "store salvage",
    ):
        assert fedrec(["client", *line.split(), "--state", str(tmp_path / "nowhere")]) == 2, line
        assert "there is no store" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_the_help_of_each_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert fedrec(["client", "--help"]) == 0
    found = capsys.readouterr().out
    rows = [line.split()[1] for line in found.splitlines() if line.startswith("│ ") and line[2] != " "]
    rows = [row for row in rows if row != "--help"]
    assert rows[:5] == ["key", "budget", "start", "policy", "ledger"], "the node's own come first"
    assert rows[5:10] == ["install", "record", "import", "undo", "recommend"]
    assert set(rows[10:]) == {
        "items",
        "participate",
        "hub",
        "questions",
        "answer",
        "explain",
        "similar",
        "export",
        "forget",
        "opt-out",
        "opt-in",
        "friends",
        "store",
        "serve",
        "sync",
    }
