"""A whole deployed run: the folder of a simulation less what only that can know, resumed to the same bits."""

import json

import pytest
import torch
from fedrec_client.node import UserNode
from fedrec_client.sources import finder
from fedrec_server import app
from fedrec_server.deployment import DEPLOYED, Deployment
from fedrec_server.flower.messenger import Messenger, TooFewNodes
from fedrec_sim.engines.setup import SimulationSetup
from flwr.app import Context, RecordDict
from safetensors.torch import load_file

from fedrec.algorithms.discover import load_model
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from fedrec.federation.data_request import DataRequest
from fedrec.run.coordinator import Coordinator
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from tests.server.deployed import data, hosted
from tests.server.grid_in_memory import MemoryGrid

CHANGES = [
    "data.users=150", "data.items=60", "data.interactions_per_user=12", "seed=5", "engine.nodes=3",
    "algorithm.name=als", "algorithm.dim=8", "algorithm.rounds=3", "privacy.evaluation_share=0.1",
    "federation.deadline=0.1", "federation.patience=0.1",
]  # fmt: skip


def grid(nodes: int = 3) -> MemoryGrid:
    return MemoryGrid({50 + n: UserNode(finder({"partition-id": n, "num-partitions": nodes})) for n in range(nodes)})


def run(folder, changes=(), over: MemoryGrid | None = None, **options):
    scenario = load_scenario("quickstart", [*CHANGES, *changes])
    return Deployment(scenario, RunDirectory(folder), Messenger(over or grid(), poll=0.001), **options).run()


def test_a_deployed_run_writes_what_a_simulation_writes_and_nothing_true(tmp_path) -> None:
    summary, exhausted = run(tmp_path / "a")
    assert exhausted is None
    assert summary == json.loads((tmp_path / "a" / "private" / "summary.json").read_text())
    assert summary["privacy"]["epsilon"] == pytest.approx(4, abs=0.01)
    assert (summary["metrics"], summary["baselines"]) == ({}, {})
    assert summary["evaluation"]["private"].keys() == {
        *("hr@10", "ndcg@10", "evaluated"),
        *("looks", "released_after", "stopped"),
    }
    assert summary["nodes"]["count"] == 3
    assert summary["nodes"]["not_used"] == {}
    assert "interactions" not in summary["dataset"]
    for name in (
        "release/scenario.toml",
        "release/privacy/ledger.jsonl",
        "release/privacy/statement.md",
        "private/history.csv",
        "private/checkpoint.safetensors",
    ):
        assert (tmp_path / "a" / name).is_file()
    assert load_model(tmp_path / "a" / "release" / "model").kind == "als"
    assert fedrec(["audit", "verify", str(tmp_path / "a"), "--trust-run-key"]) == 0
    statement = json.loads((tmp_path / "a" / "release" / "privacy" / "statement.json").read_text())
    assert "simulation, the metrics" not in json.dumps(statement)
    assert statement["simulation"] is False
    assert statement["unprotected"] == list(DEPLOYED.unprotected)


def test_a_deployed_run_ends_with_the_model_of_the_simulation_of_the_same_scenario(tmp_path) -> None:
    run(tmp_path / "a")
    scenario = load_scenario("quickstart", CHANGES)
    request = DataRequest(data=scenario.data, on="test", seed=5)
    made = SimulationSetup.build(
        scenario.algorithm_class, scenario.algorithm_config, scenario.privacy, scenario.engine, *data(),
        request=request, noise_seed=5,
    )  # fmt: skip
    expected = made.algorithm.release(Coordinator(made.algorithm, made.federation, made.plan).run().shared).tensors()
    found = load_file(tmp_path / "a" / "release" / "model" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_run_that_lost_its_nodes_goes_on_to_the_same_bits(tmp_path) -> None:
    run(tmp_path / "whole")
    broken = grid()

    def lose(report):
        if report.round == 0:
            broken.away = {51}

    with pytest.raises(TooFewNodes, match="round 1: 2 of 3 nodes answered"):
        run(tmp_path / "part", over=broken, on_round=lose)
    assert not (tmp_path / "part" / "private" / "summary.json").exists()
    run(tmp_path / "part", resume=True)
    whole, part = (load_file(tmp_path / name / "release" / "model" / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(part[name], tensor) for name, tensor in whole.items())
    ledgers = [(tmp_path / name / "release" / "privacy" / "ledger.jsonl").read_text() for name in ("whole", "part")]
    assert len(ledgers[0].splitlines()) == len(ledgers[1].splitlines()) == 8  # begin, a charge a round, end, files


def test_a_run_goes_on_with_the_nodes_that_it_began_with(tmp_path) -> None:
    broken = grid()
    with pytest.raises(TooFewNodes):
        run(tmp_path, over=broken, on_round=lambda _: broken.away.add(51))
    other = MemoryGrid.of([hosted(4)[n] for n in (0, 1, 2)])
    with pytest.raises(InputError, match="not those that the run began with"):
        run(tmp_path, over=other, resume=True)


def test_nothing_is_written_before_the_nodes_are_there(tmp_path) -> None:
    with pytest.raises(TooFewNodes, match="2 of 3 nodes were there"):
        run(tmp_path / "a", over=MemoryGrid.of(hosted(3)[:2]))
    assert not (tmp_path / "a").exists()


def test_nodes_with_data_of_their_own_and_a_public_file_of_items(tmp_path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,title,genres\n" + "".join(f"{i},film {i},a|b\n" for i in range(30)))
    nodes = {}
    for n in range(2):
        events = "".join(f"{n * 100 + u},{(u * k + n) % 30}\n" for u in range(40) for k in range(1, 6))
        (tmp_path / f"{n}.csv").write_text(f"user_id,item_id\n{events}")
        nodes[n + 1] = UserNode(finder({"data": str(tmp_path / f"{n}.csv"), "catalogue": str(items)}))
    scenario = tmp_path / "own.toml"
    scenario.write_text(
        f'[data]\nname = "nodes"\ncatalogue = "{items}"\n[algorithm]\nname = "popularity"\n'
        "[privacy]\nepsilon = 2.0\ndelta = 1e-3\n[engine]\nnodes = 2\n"
    )
    made = Deployment(
        load_scenario(str(scenario)), RunDirectory(tmp_path / "run"), Messenger(MemoryGrid(nodes), poll=0.001)
    )
    summary, _ = made.run()
    assert summary["dataset"] == {"name": "nodes", "users": 80, "items": 30}
    assert summary["privacy"]["noise_source"].startswith("operating system")
    assert str(items) not in made.setup.spec.text()
    begin = read_ledger(made.folder.ledger)[0][0].payload
    assert begin["population"]["users"] == 80
    assert begin["population"]["known"].startswith("declared by each node, whatever the run asks for")


def test_the_server_app_runs_what_its_configuration_says(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(app, "Messenger", lambda grid, **_: Messenger(grid, poll=0.001))
    config = {"scenario": "quickstart", "set": "\n".join(CHANGES), "out": str(tmp_path / "a")}
    where = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    app.main(grid(), where)
    assert (tmp_path / "a" / "private" / "summary.json").is_file()
    where.run_config = {"out": str(tmp_path / "a"), "resume": True}
    app.main(grid(), where)
