"""A whole federation of real processes on the loopback: what it ends with, and who cannot do what with it."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fedrec_server.process import run_client as submitting
from fedrec_server.process.link import CONTROL_SECRET
from fedrec_server.process.local import federation
from fedrec_server.process.run_client import RunClient, RunFailed
from fedrec_server.process.status import server_status

from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from fedrec.transport.control import control
from fedrec.transport.state import State
from tests.server.real_flower import until

pytestmark = pytest.mark.slow

NODES = 2
SMALL = [
    "data.users=150", "data.items=60", "data.interactions_per_user=12", "seed=5", f"engine.nodes={NODES}",
    "algorithm.name=als", "algorithm.dim=8", "algorithm.rounds=2", "algorithm.popularity_share=0.0",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("federation")


@pytest.fixture(scope="module")
def state(root: Path):
    lines: list[str] = []
    with federation(NODES, root / "all", None, stock=False, say=lines.append) as running:
        yield running
    assert running.running() is None
    assert "secret" not in "".join(lines).replace("executor-secret", "")


def config(out: Path, changes: list[str] = SMALL) -> dict:
    return {"scenario": "quickstart", "set": "\n".join(changes), "out": str(out), "resume": False, "data-dir": ""}


def client(state: State, secret: str | None = None):
    facts = state.running()
    given = (state.path / CONTROL_SECRET).read_text() if secret is None else secret
    return control(facts["address"], Path(facts["ca"]), given)


@pytest.fixture(scope="module")
def done(state: State, root: Path) -> Path:
    """A finished run."""
    told: list[dict] = []
    assert RunClient(state, config(root / "run"), told.append).follow() == str(root / "run")
    assert [line["round"] for line in told if "round" in line] == [1, 2]
    return root / "run"


def test_it_ends_with_the_bits_of_a_simulation_and_verifies(done: Path, tmp_path: Path) -> None:
    changes = [f"--set={change}" for change in SMALL]
    assert fedrec(["simulate", "--quiet", "--out", str(tmp_path / "sim"), *changes]) == 0
    one, other = (folder / "release" / "model" / "model.safetensors" for folder in (done, tmp_path / "sim"))
    assert hashlib.sha256(one.read_bytes()).hexdigest() == hashlib.sha256(other.read_bytes()).hexdigest()
    assert fedrec(["audit", "verify", str(done), "--key", str(done / "release" / "privacy" / "ledger.pub")]) == 0


def test_each_node_signed_what_it_was_asked(done: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = sorted((root / "all").glob("*/runs/*.receipts"))
    assert len(own) == NODES
    options = [part for file in own for part in ("--receipts", str(file))]
    key = str(done / "release" / "privacy" / "ledger.pub")
    assert fedrec(["audit", "verify", str(done), "--key", key, *options]) == 0
    assert capsys.readouterr().out.count("2 receipts of this device, each in the ledger") == NODES
    assert fedrec(["audit", "card", str(done), "--key", key]) == 0
    assert "receipts: True" in capsys.readouterr().out


def test_status_tells_nodes_and_runs(state: State, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = server_status(state)
    assert [node["status"] for node in found["nodes"]] == ["online"] * NODES
    assert str(done) in [one["out"] for one in found["runs"]]
    assert fedrec(["server", "status", "--state", str(state.path)]) == 0
    assert "node-00  online" in capsys.readouterr().out


def test_a_key_that_comes_or_goes_is_noticed(state: State, done: Path, root: Path) -> None:
    keys = root / "all" / "keys"

    def listed() -> dict[str, str]:
        return {node["name"]: node["status"] for node in server_status(state)["nodes"]}

    before = listed()
    assert fedrec(["keys", "node", str(keys), "clinic"]) == 0
    assert until(lambda: listed() == before | {"clinic": "registered"})
    assert fedrec(["keys", "node", str(keys), "clinic", "--remove"]) == 0
    assert until(lambda: listed() == before)


def test_how_a_run_failed_reaches_whoever_started_it(state: State, done: Path) -> None:
    with pytest.raises(RunFailed, match="holds another run") as caught:
        RunClient(state, config(done), lambda _: None).follow()
    assert caught.value.exit_code == 2


def test_the_control_api_is_closed_to_who_has_not_the_secret(state: State) -> None:
    from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest

    for secret in ("", "0" * 64):
        for ask in (
            lambda link: link.ListNodes(ListNodesRequest()),
            lambda link: link.RegisterNode(RegisterNodeRequest(public_key=b"x", name="mallory")),
            lambda link: link.StartRun(StartRunRequest()),
        ):
            with pytest.raises(InputError, match="refused"), client(state, secret) as link:
                ask(link)


def test_a_task_cannot_be_stolen(state: State, root: Path) -> None:
    """Neither the ServerApp's at the link, nor a message at a node, without the secret of its executor."""
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.runtime import RuntimeHttpClient

    facts = state.running()
    own = (root / "all" / "node-00.log").read_text().partition("--runtime-api-address ")[2].split()[0]
    for address, ca in ((facts["address"], Path(facts["ca"]).read_bytes()), (own, None)):
        thief = RuntimeHttpClient.from_server_address(
            server_address=address, insecure=ca is None, root_certificates=ca, interceptors=[]
        )
        with pytest.raises(httpx.HTTPStatusError) as caught:
            thief.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp", "flwr-clientapp"]))
        assert caught.value.response.status_code in (401, 403)
        thief.close()


def test_code_in_a_bundle_runs_nowhere(state: State, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that brings packages of the names of ours and names its own: nodes and server run what is installed."""
    from flwr.cli.build import build_fab_from_files

    marks = root / "marks"
    marks.mkdir()
    evil = f"import pathlib, os\npathlib.Path({str(marks)!r}, str(os.getpid())).touch()\napp = None\n".encode()
    text = (
        '[project]\nname = "fedrec"\nversion = "6.6.6"\ndependencies = []\n[tool.flwr.app]\npublisher = "mallory"\n'
        'fab-include = ["**/*.py"]\n[tool.flwr.app.components]\nserverapp = "mallory.app:app"\n'
        'clientapp = "mallory.app:app"\n[tool.flwr.app.config]\nscenario = ""\nset = ""\nout = ""\n'
        'resume = false\ndata-dir = ""\ntold = ""\n'
    )
    names = (
        "mallory/app.py",
        "fedrec_client/__init__.py",
        "fedrec_client/app.py",
        "fedrec_server/__init__.py",
        "fedrec_server/app.py",
    )
    files = {"pyproject.toml": text.encode(), "fedrec/__init__.py": evil} | dict.fromkeys(names, evil)
    bundle = build_fab_from_files(files)[0]
    assert b"fedrec_client/app.py" in bundle
    monkeypatch.setattr(submitting, "app_bundle", lambda *_: bundle)
    RunClient(state, config(root / "bundle"), lambda _: None).follow()
    assert list(marks.iterdir()) == []


def test_nobody_else_can_read_what_lies_there(state: State, done: Path, root: Path) -> None:
    for folder in (state.path, root / "all" / "node-00", root / "all" / "keys"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.rglob("*"):
            private = stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            assert private or path.suffix in (".crt", ".pub"), path
    assert not list(root.rglob("*.db"))


def test_no_secret_is_on_a_command_line(state: State) -> None:
    secrets = [path.read_text() for path in state.path.glob("*-secret")]
    assert len(secrets) == 2
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        assert not any(secret in line for secret in secrets)
        assert not ("fedrec" in line and "--token" in line)


def test_a_server_of_the_same_state_is_refused(state: State, root: Path) -> None:
    command = [sys.executable, "-m", "fedrec.cli", "server", "start", "--keys", str(root / "all" / "keys")]
    found = subprocess.run(
        [*command, "--state", str(state.path)], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert found.returncode == 2
    assert "in use by process" in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
