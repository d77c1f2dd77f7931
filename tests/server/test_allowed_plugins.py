"""A server runs built-in code and the plug-ins that its operator allows; it refuses other code in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fedrec_client.node import UserNode
from fedrec_client.sources import finder
from fedrec_server import app
from fedrec_server.allowed_plugins import VARIABLE, published
from fedrec_server.flower.messenger import Messenger
from fedrec_server.process import link
from fedrec_server.process.run_events import read_events
from flwr.app import Context, RecordDict

from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from fedrec.plugins import PluginRefused
from fedrec.transport.state import State
from tests.foreign import ALGORITHM, install
from tests.server.grid_in_memory import MemoryGrid

NAME = "served-counts"
SMALL = (
    "data.users=60", "data.items=30", "data.interactions_per_user=6", "engine.nodes=2", "seed=3",
    "privacy.trust=central",
)  # fmt: skip
REFUSED = f"algorithm '{NAME}' is not built in.*; the server's operator allows an installed one with --plugin NAME"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """An installed package of a stranger; its module, which no other test imports."""
    name = f"served_{abs(hash(request.node.name))}"
    source = ALGORITHM.format(name="Mine", called=NAME)
    entries = {f"fedrec.algorithms:{NAME}": "Mine", "fedrec.towers:served-tower": "Mine"}
    install(monkeypatch, tmp_path, "served", name, source, entries | {"fedrec.readers:served-data": "Mine"})
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(app, "Messenger", lambda grid, **_: Messenger(grid, poll=0.001))
    return name


def submit(folder: Path, *changes: str) -> Path:
    """Run the server's app as Flower does, over two nodes that allow the algorithm. Returns: the run's events."""
    events = folder / "events.jsonl"
    text = "\n".join([*SMALL, *changes])
    config = {"scenario": "quickstart", "set": text, "out": str(folder / "run"), "told": str(events)}
    nodes = {50 + n: UserNode(finder({"partition-id": n, "num-partitions": 2}), plugins=[NAME]) for n in range(2)}
    try:
        app.main(MemoryGrid(nodes), Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config))
    finally:
        assert events.is_file()
    return events


@pytest.mark.parametrize("allowed", ["", "other", "served-tower", f"{NAME}x"])
def test_a_server_runs_no_plug_in_that_its_operator_does_not_allow(
    allowed: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, allowed)
    with pytest.raises(PluginRefused, match=REFUSED):
        submit(tmp_path, f"algorithm.name={NAME}")
    assert module not in sys.modules
    assert not (tmp_path / "run").exists()
    end = [event for _, event in read_events(tmp_path / "events.jsonl", 0)][-1]
    assert end["code"] == 2
    assert "\n" not in end["line"]
    assert "--plugin NAME" in end["line"]


@pytest.mark.parametrize(
    "change",
    [
        "algorithm.name={module}:Mine",
        "algorithm.name={folder}/evil.py:Mine",
        "algorithm.tower.name=served-tower",
        "algorithm.tower.name={module}:Mine",
        "data.name=served-data",
    ],
)
def test_no_other_way_leads_to_code_of_others(
    change: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the operator allows a plug-in: it is the one that is named, and no other."""
    monkeypatch.setenv(VARIABLE, NAME)
    (tmp_path / "evil.py").write_text("raise SystemError('imported')")
    algorithm = ["algorithm.name=tower-sgd"] if "tower" in change else []
    with pytest.raises(InputError):
        submit(tmp_path, *algorithm, change.format(module=module, folder=tmp_path))
    assert module not in sys.modules
    assert not (tmp_path / "run").exists()


def test_a_server_runs_what_its_operator_allows_and_resumes_it_only_then(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{NAME},served-tower")
    assert published() == {NAME, "served-tower"}
    submit(tmp_path, f"algorithm.name={NAME}")
    assert module in sys.modules
    assert (tmp_path / "run" / "release" / "model" / "model.safetensors").is_file()
    monkeypatch.setenv(VARIABLE, "")
    again = {"out": str(tmp_path / "run"), "resume": True}
    with pytest.raises(PluginRefused, match=REFUSED):
        app.main(MemoryGrid({}), Context(run_id=2, node_id=1, node_config={}, state=RecordDict(), run_config=again))


def test_the_commands_refuse_in_one_line_before_anything_starts(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = [part for change in (*SMALL, f"algorithm.name={NAME}") for part in ("--set", change)]
    state = ["--state", str(tmp_path / "state")]
    for command, says in (
        (["server", "run", *state, *options], "with --plugin NAME"),
        (["server", "local", *options], "with --plugin NAME"),
        (["server", "local", *options, "--plugin", "served-tower"], "with --plugin NAME"),
        (["server", "local", *options, "--plugin", "absent"], "plug-in 'absent': no installed package"),
        (["server", "start", "--keys", str(tmp_path), *state, "--plugin", "absent"], "plug-in 'absent'"),
        (["server", "start", "--keys", str(tmp_path), *state, "--plugin", "served-data"], "plug-in 'served-data'"),
    ):
        assert fedrec(command) == 2, command
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert says in line
    assert module not in sys.modules
    assert not (tmp_path / "state").exists()


def test_a_command_knows_what_the_running_server_allows(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its refusal comes before the run is submitted; what the server allows is submitted."""
    submitted: list[dict] = []
    facts: dict = {"address": "127.0.0.1:1", "ca": "ca.crt", "pid": os.getpid()}
    monkeypatch.setattr(State, "running", lambda self: facts)

    class Client:
        def __init__(self, _state: State, config: dict, _on_event: object) -> None:
            submitted.append(config)
            raise InputError("submitted")

    monkeypatch.setattr("fedrec_server.process.run_client.RunClient", Client)
    options = [part for change in (*SMALL, f"algorithm.name={NAME}") for part in ("--set", change)]
    command = ["server", "run", "--state", str(tmp_path / "state"), "--out", str(tmp_path / "run"), *options]
    for allowed in ({}, {"plugins": []}, {"plugins": ["served-tower"]}):  # the first: of a server of before
        facts.pop("plugins", None)
        facts.update(allowed)
        assert fedrec(command) == 2
        assert "with --plugin NAME" in capfd.readouterr().err
    assert submitted == []
    facts["plugins"] = [NAME]
    assert fedrec(command) == 2
    assert "error: submitted" in capfd.readouterr().err
    assert len(submitted) == 1


def test_the_operator_s_environment_allows_nothing_by_itself(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is that of `fedrec server start`, also where the variable is set for some other server."""
    monkeypatch.setenv(VARIABLE, NAME)
    given: dict[str, str] = {}

    class Children:
        def __enter__(self) -> "Children":
            return self

        def __exit__(self, *_: object) -> None: ...

        def start(self, name: str, command: list[str], log: Path, environment: dict[str, str]) -> None:
            if name == "app":
                given.update(environment)
                raise KeyboardInterrupt

    monkeypatch.setattr(link, "children", lambda say: Children())
    monkeypatch.setattr(link, "_until_it_listens", lambda *_: None)
    monkeypatch.setattr(link.Door, "keep", lambda self: [])
    assert fedrec(["keys", "init", str(tmp_path / "keys"), "--host", "127.0.0.1"]) == 0
    for plugins, expected in ((["served-tower", NAME], f"{NAME},served-tower"), ([], "")):
        with pytest.raises(KeyboardInterrupt):
            link.serve(
                tmp_path / "keys", State(tmp_path / "state"), "127.0.0.1", 1, "a:b",
                stock=False, say=lambda _: None, plugins=plugins,
            )  # fmt: skip
        assert given[VARIABLE] == expected


@pytest.mark.slow
def test_a_plug_in_over_real_processes_ends_with_the_bits_of_one(module: str, tmp_path: Path) -> None:
    """`--plugin` reaches the app and the nodes as processes of their own, and the ledger names the package."""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "served"), "HOME": str(tmp_path)}
    changes = (*SMALL, f"algorithm.name={NAME}", "evaluation.baselines=false", "evaluation.every=0")
    options = [part for change in changes for part in ("--set", change)]
    for out, command in (
        ("nodes", ["server", "local", "--nodes", "2", "--plugin", NAME]),
        ("alone", ["simulate"]),
    ):
        command = [*command, "--quiet", "--out", str(tmp_path / out), *options]
        done = subprocess.run(
            [sys.executable, "-m", "fedrec.cli", *command], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    models = [tmp_path / out / "release" / "model" / "model.safetensors" for out in ("nodes", "alone")]
    assert models[0].read_bytes() == models[1].read_bytes()
    begin = read_ledger(tmp_path / "nodes" / "release" / "privacy" / "ledger.jsonl")[0][0].payload
    assert begin["software"][f"algorithm {NAME}"].startswith(f"served 1.5, {module}.py, sha256 ")
