"""`fedrec evaluate` gives the figures that the run itself wrote, and one line where it cannot."""

import json
from pathlib import Path

import pytest

from fedrec.cli import run

SMALL = [f"--set=data.{name}={value}" for name, value in (("users", 120), ("items", 50))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run(["simulate", "--quiet", "--out", str(out), "--set=algorithm.rounds=2", *SMALL]) == 0
    return out


def test_it_repeats_what_the_run_wrote(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(trained), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"] == json.loads((trained / "private" / "summary.json").read_text())["metrics"]


def test_items_that_a_run_was_trained_on_are_not_ranked(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(trained), "--on", "validation"]) == 2
    assert "was trained on these items" in capsys.readouterr().err


def test_a_run_on_validation_items_says_so_and_is_evaluated_on_test_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SMALL, "--set=algorithm.name=popularity", "--set=evaluation.on=validation"]
    assert run(["simulate", "--quiet", "--out", str(tmp_path / "r"), *settings]) == 0
    capsys.readouterr()
    assert run(["evaluate", str(tmp_path / "r")]) == 0
    assert "VALIDATION items" in capsys.readouterr().out
    assert run(["evaluate", str(tmp_path / "r"), "--on", "test"]) == 0
    assert "VALIDATION" not in capsys.readouterr().out
    assert run(["evaluate", str(tmp_path / "r"), "--on", "test", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["evaluation"]["on"] == "test"
    assert told["metrics"] != json.loads((tmp_path / "r" / "private" / "summary.json").read_text())["metrics"]


def test_other_data_under_the_same_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    rows = [(user, item) for user in range(30) for item in range(user % 5, 20, 1 + user % 3)]
    log.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows))
    out = tmp_path / "r"
    settings = ["--set", f"data.path={log}", "--set", "algorithm.name=popularity", "--set", "privacy.epsilon=none"]
    assert run(["simulate", "--quiet", "--out", str(out), *settings]) == 0
    assert run(["evaluate", str(out)]) == 0
    log.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows[3:]))
    capsys.readouterr()
    assert run(["evaluate", str(out)]) == 2
    assert "not those of the run" in capsys.readouterr().err


def test_a_person_gets_a_table_and_a_warning(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(trained)]) == 0
    shown = capsys.readouterr().out
    assert "HR@10" in shown
    assert "guarantee does not cover" in shown


def test_what_cannot_be_measured_is_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err
    assert run(["evaluate", str(trained), "--on", "train"]) == 2
    assert "evaluation.on" in capsys.readouterr().err
    assert run(["evaluate", str(trained), "--device", "tpu"]) == 2
    assert "must be cpu, cuda or cuda:N" in capsys.readouterr().err
    other = trained / "release" / "scenario.toml"
    text = other.read_text()
    other.write_text(text.replace("items = 50", "items = 40"))
    assert run(["evaluate", str(trained)]) == 2
    assert "trained on 50 items, the data hold 40" in capsys.readouterr().err
    other.write_text(text)
