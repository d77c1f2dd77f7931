"""An algorithm that is not fedrec's trains, is named in the ledger, and is never imported because a folder says so."""

import hashlib
import json
import sys

import pytest

from fedrec import cli
from fedrec.audit.log.ledger import read_ledger
from tests.foreign import ALGORITHM, install

SMALL = [
    "--set",
    "data.users=60",
    "--set",
    "data.items=30",
    "--set",
    "evaluation.baselines=false",
    "--set",
    "evaluation.every=0",
    "--seed",
    "3",
    "--quiet",
]
OWN_MODEL = """

from fedrec.algorithms.popularity import PopularityModel as _Model


class MineModel(_Model):
    kind = "mine-model"


Mine.release = lambda self, shared: MineModel(shared["counts"]).by(self.name)
"""


def simulate(name: str, out, *more: str) -> int:
    return cli.run(["simulate", "quickstart", "--set", f"algorithm.name={name}", "--out", str(out), *SMALL, *more])


def begun(out) -> dict:
    return read_ledger(out / "release" / "privacy" / "ledger.jsonl")[0][0].payload


def test_a_packages_algorithm_trains_and_the_ledger_names_it(tmp_path, monkeypatch, capsys):
    source = ALGORITHM.format(name="Mine", called="theirs") + OWN_MODEL
    install(monkeypatch, tmp_path, "stranger", "stranger_sim", source, {"fedrec.algorithms:theirs": "Mine"})
    out = tmp_path / "run"
    assert simulate("theirs", out) == 0, capsys.readouterr().err
    begin = begun(out)
    named = f"stranger 1.5, stranger_sim.py, sha256 {hashlib.sha256(source.encode()).hexdigest()}"
    assert begin["algorithm"] == "theirs"
    assert begin["software"]["algorithm theirs"] == named
    assert len(begin["notes"]) == 1
    assert named in begin["notes"][0]
    stated = json.loads((out / "release" / "privacy" / "statement.json").read_text())
    assert stated["software"]["algorithm theirs"] == named
    assert cli.run(["audit", "verify", str(out), "--trust-run-key"]) == 0
    assert cli.run(["evaluate", str(out)]) == 0, capsys.readouterr().err


def test_a_built_in_algorithm_says_nothing_of_others(tmp_path):
    assert simulate("popularity", tmp_path / "run") == 0
    begin = begun(tmp_path / "run")
    assert begin["notes"] == []
    assert set(begin["software"]) == {"python", "fedrec", "torch", "numpy", "opacus", "dp-accounting"}


def test_a_file_of_ones_own_trains_and_shows_no_folder(tmp_path, monkeypatch, capsys):
    secret = tmp_path / "secret-folder"
    secret.mkdir()
    own = secret / "mine.py"
    own.write_text(ALGORITHM.format(name="Mine", called="my-own") + OWN_MODEL)
    monkeypatch.chdir(secret)
    out = tmp_path / "runs" / "run"
    assert simulate("mine.py:Mine", out) == 0, capsys.readouterr().err
    begin = begun(out)
    assert begin["algorithm"] == "mine.py:Mine"
    assert begin["software"]["algorithm mine.py:Mine"].startswith("no package, mine.py, sha256 ")
    assert str(secret) not in (out / "release" / "privacy" / "ledger.jsonl").read_text()
    assert str(secret) not in (out / "release" / "scenario.toml").read_text()
    assert cli.run(["audit", "verify", str(out), "--trust-run-key"]) == 0
    capsys.readouterr()
    assert cli.run(["evaluate", str(out)]) == 2
    assert "names code by its place" in capsys.readouterr().err
    assert cli.run(["evaluate", str(out), "--algorithm", "mine.py:Mine"]) == 0, capsys.readouterr().err
    assert simulate("mine.py:Mine", out, "--resume") == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["evaluate", "simulate --resume --out", "audit verify --trust-run-key", "audit show"]
)
def test_a_folder_from_somebody_else_never_names_code_that_is_imported(tmp_path, capsys, command):
    """The attack: a run's folder is handed on with a scenario that names a file in it."""
    out = tmp_path / "run"
    assert simulate("popularity", out) == 0
    scenario = out / "release" / "scenario.toml"
    evil = out / "release" / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + ALGORITHM.format(name="Mine", called="evil"))
    scenario.write_text(scenario.read_text().replace('name = "popularity"', 'name = "evil.py:Mine"'))
    capsys.readouterr()
    assert cli.run([*command.split(), str(out)]) != 1
    assert not (tmp_path / "ran").exists()
    assert not [name for name in sys.modules if "evil" in name]


def test_a_server_never_takes_code_by_its_place(tmp_path, capsys):
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + ALGORITHM.format(name="Mine", called="evil"))
    from fedrec.plugins import PluginRefused
    from fedrec.run.scenario import load_scenario

    for name in (f"{evil}:Mine", "antigravity:fly"):  # as `fedrec_server.app` loads what was submitted
        with pytest.raises(PluginRefused, match="names code by its place"):
            load_scenario("quickstart", [f"algorithm.name={name}"])
    assert not (tmp_path / "ran").exists()
    assert "antigravity" not in sys.modules


def test_own_code_and_flowers_engine_do_not_go_together(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(ALGORITHM.format(name="Mine", called="my-own"))
    monkeypatch.chdir(tmp_path)
    assert simulate("mine.py:Mine", tmp_path / "run", "--set", "engine.name=flower") == 2
    assert "runs in this process alone" in capsys.readouterr().err
