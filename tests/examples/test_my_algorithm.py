"""The template of an algorithm, installed as the package that it is: contract, simulation, ledger, a node's refusal."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedrec.audit.log.ledger import read_ledger

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "my_algorithm"
NODE = """
import sys
import numpy as np, torch
from fedrec_client.node import UserNode
from fedrec.federation import exchange
from fedrec.privacy.plan import PrivacyConfig
from tests.server.deployed import data, hosted, spec_of

spec = spec_of("popularity", PrivacyConfig(epsilon=2.0, delta=1e-4), 150)
spec = spec.model_copy(update={"algorithm": "recent-counts", "settings": {}})
counts = torch.zeros(len(data()[0].catalogue))
asked = exchange.ask_sum(spec.text(), spec.fingerprint, 0, {"counts": "0" * 64}, {"counts": counts}, np.arange(4), 150)
here = hosted(1)[0]
refused = UserNode(lambda _: here).answer(asked)
assert refused.facts == {"code": "plugin"}, refused.facts
assert "my_algorithm" not in sys.modules
allowed = UserNode(lambda _: here, plugins=["recent-counts"]).answer(asked)
assert allowed.kind == exchange.SUMS, allowed.facts
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path that holds the built and installed package and nothing of its source."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--target", str(folder / "site"), str(folder / "source")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


def python(installed: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(installed), path]))}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=installed)


def test_it_trains_and_the_ledger_names_its_package(installed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = ["algorithm.name=recent-counts", "algorithm.newest=3", "data.users=80", "data.items=40"]
    changes += ["evaluation.baselines=false", "evaluation.every=0"]
    options = [part for change in changes for part in ("--set", change)]
    command = ["-m", "fedrec.cli", "simulate", *options, "--seed", "1", "--out", str(out), "--json"]
    done = python(installed, *command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["full"]["hr@10"] > 0
    begin = read_ledger(out / "release" / "privacy" / "ledger.jsonl")[0][0].payload
    assert begin["software"]["algorithm recent-counts"].startswith(
        "my-algorithm 0.1.0, my_algorithm/recent_counts.py, sha256 "
    )
    show = python(installed, "-m", "fedrec.cli", "audit", "verify", str(out), "--trust-run-key")
    assert show.returncode == 0, show.stderr


def test_a_node_refuses_it_until_its_operator_allows_it(installed: Path) -> None:
    done = python(installed, "-c", NODE, path=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_it_passes_the_contract_that_fedrec_ships(installed: Path) -> None:
    tests = str(EXAMPLE / "tests")
    done = python(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={installed}", tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "instead", "test"),
    [
        ("rows = torch.zeros(", "rows = float(len(users)) + torch.zeros(", "batch_of_one"),
        ("DenseContribution(rows)", "Lying(rows)", "norms_and_sums"),
    ],
)
def test_the_contract_catches_a_lie(installed: Path, tmp_path: Path, line: str, instead: str, test: str) -> None:
    """Parts that depend on who else is in the batch, and norms that are too small."""
    broken = tmp_path / "my_algorithm"
    shutil.copytree(installed / "my_algorithm", broken)
    file = broken / "recent_counts.py"
    text = file.read_text()
    assert line in text
    lying = "class Lying(DenseContribution):\n    def norms(self):\n        return super().norms() / 9\n\n\n"
    file.write_text(text.replace(line, instead).replace("class RecentCounts(", f"{lying}class RecentCounts("))
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", "-k", test]
    done = python(tmp_path, *arguments, str(EXAMPLE / "tests"), path=str(installed))
    assert done.returncode == 1, done.stdout + done.stderr
    assert test in done.stdout


@pytest.mark.slow
def test_virtual_nodes_run_it_and_end_with_the_bits_of_one_process(installed: Path, tmp_path: Path) -> None:
    """`--engine flower` with real Ray processes, which find the installed package by themselves."""
    pytest.importorskip("ray", reason="needs the extra fedrec[sim]")
    changes = ["algorithm.name=recent-counts", "algorithm.newest=3", "data.users=60", "data.items=40"]
    changes += ["data.interactions_per_user=6", "evaluation.baselines=false", "evaluation.every=0", "engine.nodes=2"]
    options = [part for change in changes for part in ("--set", change)]
    for engine in ("in-process", "flower"):
        command = ["-m", "fedrec.cli", "simulate", "--quiet", "--seed", "5", "--engine", engine, *options]
        done = python(installed, *command, "--out", str(tmp_path / engine))
        assert done.returncode == 0, done.stderr
    models = [tmp_path / engine / "release" / "model" / "model.safetensors" for engine in ("in-process", "flower")]
    assert models[0].read_bytes() == models[1].read_bytes()
    ledgers = [read_ledger(tmp_path / e / "release" / "privacy" / "ledger.jsonl")[0] for e in ("in-process", "flower")]
    named = [ledger[0].payload["software"]["algorithm recent-counts"] for ledger in ledgers]
    assert named[0] == named[1]
    assert named[0].startswith("my-algorithm 0.1.0, my_algorithm/recent_counts.py, sha256 ")
