"""`fedrec server` runs a scenario without a trust model in `distributed`, and weakens none in silence."""

import os
from pathlib import Path

import pytest
from fedrec_server.default_trust import REMEDY, with_trust

from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from fedrec.run.directory import RunDirectory
from fedrec.transport.state import State

NODES = "engine.nodes=4"
CHOSEN = "privacy.trust=distributed"


def chosen(name: str, *changes: str) -> list[str]:
    return with_trust(name, changes, None, resume=False)


@pytest.mark.parametrize("name", ["quickstart", "ml-1m-dp", "ml-100k-dp", "gowalla"])
def test_a_private_scenario_that_names_no_trust_model_is_distributed(name: str) -> None:
    assert chosen(name, NODES) == [NODES, CHOSEN]


@pytest.mark.parametrize("trust", ["central", "local", "distributed"])
def test_a_named_trust_model_stays(tmp_path: Path, trust: str) -> None:
    assert chosen("quickstart", f"privacy.trust={trust}") == [f"privacy.trust={trust}"]
    own = tmp_path / "own.toml"
    own.write_text(f'[algorithm]\nname = "kernel-rank"\n[data]\nname = "quickstart"\n[privacy]\ntrust = "{trust}"\n')
    assert chosen(str(own), NODES) == [NODES]


@pytest.mark.parametrize("change", ["privacy.dropout=0.25", "privacy.aggregator=helper", "privacy.bits=18"])
def test_a_setting_of_distributed_alone_fits_the_default(change: str) -> None:
    assert chosen("quickstart", NODES, change) == [NODES, change, CHOSEN]


def test_a_mistake_has_its_own_line_without_another_trust_model() -> None:
    for mistake in ("privacy.epsilon=-1", "privacy.dropout=7", "engine.knots=4"):
        with pytest.raises(InputError) as caught:
            chosen("quickstart", mistake)
        assert REMEDY not in str(caught.value)


def test_a_run_without_privacy_has_none_to_protect() -> None:
    assert chosen("quickstart", "privacy.epsilon=none", "engine.nodes=1") == ["privacy.epsilon=none", "engine.nodes=1"]


@pytest.mark.parametrize(("changes", "says"), [
    (("engine.nodes=2",), "at least 3 nodes"),
    ((NODES, "seed=5"), "leave the seed out"),
])  # fmt: skip
def test_a_run_that_cannot_be_distributed_is_refused_with_what_to_do(changes: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        chosen("quickstart", *changes)
    assert str(caught.value).endswith(REMEDY)
    assert "\n" not in str(caught.value)
    assert chosen("quickstart", *changes, "privacy.trust=central")[-1] == "privacy.trust=central"


@pytest.mark.parametrize(("saved", "trust"), [("", "central"), ('trust = "local"\n', "local")])
def test_a_resumed_run_keeps_the_trust_model_that_it_began_with(tmp_path: Path, saved: str, trust: str) -> None:
    """Also one of a version whose default was `central`, and which its own file does not name."""
    folder = RunDirectory(tmp_path / "run")
    folder.scenario.parent.mkdir(parents=True)
    folder.scenario.write_text(f"[privacy]\nepsilon = 4.0\n{saved}")
    assert folder.holds_run
    assert with_trust("quickstart", [NODES], folder.path, resume=True) == [NODES, f"privacy.trust={trust}"]
    named = [NODES, CHOSEN]
    assert with_trust("quickstart", named, folder.path, resume=True) == named
    assert with_trust("quickstart", [NODES], tmp_path / "none", resume=True) == [NODES, CHOSEN]


def test_the_commands_submit_it_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    submitted: list[dict] = []
    facts = {"address": "127.0.0.1:1", "ca": "ca.crt", "pid": os.getpid(), "plugins": []}
    monkeypatch.setattr(State, "running", lambda self: facts)

    class Client:
        def __init__(self, _state: State, config: dict, _on_event: object) -> None:
            submitted.append(config)
            raise InputError("submitted")

    monkeypatch.setattr("fedrec_server.process.run_client.RunClient", Client)
    command = ["server", "run", "quickstart", "--state", str(tmp_path / "s"), "--out", str(tmp_path / "run")]
    assert fedrec([*command, "--set", NODES]) == 2
    assert submitted[0]["set"].splitlines() == [NODES, CHOSEN]
    assert "trust model distributed" in capfd.readouterr().err
    assert fedrec([*command, "--set", "privacy.trust=central"]) == 2
    assert submitted[1]["set"] == "privacy.trust=central"
    assert "trust model distributed" not in capfd.readouterr().err


def test_a_whole_federation_of_two_nodes_is_refused_before_it_starts(capfd: pytest.CaptureFixture[str]) -> None:
    assert fedrec(["server", "local", "--nodes", "2"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "at least 3 nodes" in line
    assert line.endswith(REMEDY)
