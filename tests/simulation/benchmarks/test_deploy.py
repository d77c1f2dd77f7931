"""`fedrec bench deploy`; what it starts is held by tests/server/process/test_real_federation.py."""

import importlib.util
import json
import math
import re
from pathlib import Path

import pytest
from fedrec_sim.benchmarks import deploy_command, deployed_round

from fedrec.cli import run
from fedrec.run.scenario import load_scenario

RUN = {
    "median": 2.5,
    "least": 2.2,
    "most": 2.9,
    "first": 3.7,
    "memory_mb": {"link": {"processes": 1, "sum": 122.4}},
}
FOUND = {
    "nodes": 3, "users": 1000, "rounds": 4, "stock": False, "ratio": 1.04, "seconds_until_nodes_are_online": 19.2,
    "fedrec": RUN, "bare": RUN, "empty": RUN,
    "bytes_down_a_node_a_round": 39_424, "bytes_up_a_node_a_round": 367_744, "bytes_up_a_user_a_round": 1103.2,
}  # fmt: skip


def test_the_bare_app_sends_arrays_of_the_shapes_of_a_round() -> None:
    scenario = load_scenario("quickstart", deployed_round.CHANGES)
    told = deployed_round._shapes(scenario, 3, 5)
    assert json.loads(told["down"]) == [[600, 16], [16, 16]]
    assert 4 * sum(math.prod(shape) for shape in json.loads(told["up"])) == 367_744  # as the docs and a run have it
    assert (told["nodes"], told["rounds"]) == (3, 5)


def test_what_a_person_reads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(deployed_round, "measure", lambda nodes, rounds, **_: FOUND | {"nodes": nodes})
    assert run(["bench", "deploy", "--nodes", "3,16"]) == 0
    out = capsys.readouterr().out
    assert "3 nodes, 1000 users, 4 rounds" in out
    assert "16 nodes, 1000 users" in out
    assert "fedrec / bare app          1.04" in out
    assert "39,424 down, 367,744 up (1,103 a user)" in out
    assert run(["bench", "deploy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == [FOUND | {"nodes": 4}]
    assert deploy_command.deploy.__doc__


@pytest.mark.parametrize("nodes", ["0", "two", "4,"])
def test_bad_numbers_of_nodes(nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "deploy", "--nodes", nodes]) == 2
    assert capsys.readouterr().err.startswith(f"error: --nodes {nodes}: ")


@pytest.mark.slow
def test_the_bare_app_runs_over_a_real_node(tmp_path: Path) -> None:
    config = {"nodes": 1, "rounds": 3, "down": "[[20, 3], [1]]", "up": "[[5]]"}
    with deployed_round._started(1, tmp_path / "f", deployed_round.BARE, stock=False) as (state, online):
        found = deployed_round._rounds(state, config, deployed_round.BARE)
    assert online > 0
    assert 0 < found["least"] <= found["median"] <= found["most"]
    assert {role: one["processes"] for role, one in found["memory_mb"].items()} == {
        "link": 1, "ServerApp and its executor": 2, "SuperNode": 1, "users and their executor": 2,
        "commands that started them": 2,
    }  # fmt: skip


def test_the_roles_name_modules_that_exist() -> None:
    named = re.findall(r"fedrec[\w.]*", " ".join(deployed_round.ROLES.values()).replace("\\.", "."))
    assert len(named) >= 4
    assert all(importlib.util.find_spec(name.strip(".")) for name in named)
