"""A hostile server names code that is not built in: the node refuses before anything is imported."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_client.app import _node
from fedrec_client.node import UserNode
from fedrec_client.node_config import ConfigError
from fedrec_client.sources import allowed_plugins, finder
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger

from fedrec import cli, wire
from fedrec.audit.log.ledger import read_ledger
from fedrec.data.datasets import DataConfig
from fedrec.errors import FedrecError, InputError
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest
from fedrec.plugins import check_plugins
from fedrec.privacy.plan import PrivacyConfig
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from fedrec.wire import Packet
from tests.foreign import ALGORITHM, install
from tests.server.deployed import data, hosted, spec_of
from tests.server.grid_in_memory import MemoryGrid, through_flower

NAME = "foreign-counts"


@pytest.fixture
def module(tmp_path, monkeypatch, request) -> str:
    name = f"foreign_{request.node.name.split('[')[0]}_{abs(hash(request.node.name))}"
    source = ALGORITHM.format(name="Mine", called=NAME)
    entries = {f"fedrec.algorithms:{NAME}": "Mine", "fedrec.towers:foreign-tower": "Mine"}
    entries |= {"fedrec.readers:foreign-data": "Mine"}
    install(monkeypatch, tmp_path, "stranger", name, source, entries)
    return name


def asked(algorithm: str, settings: dict) -> Packet:
    """A first question of a server that names `algorithm`, over the wire."""
    honest = spec_of("popularity", PrivacyConfig(epsilon=2.0, delta=1e-4), 150)
    spec = honest.model_copy(update={"algorithm": algorithm, "settings": settings})
    tensors = {"counts": torch.zeros(len(data()[0].catalogue))} if algorithm == NAME else {}
    digests = dict.fromkeys(tensors, "0" * 64)
    return exchange.ask_sum(spec.text(), spec.fingerprint, 0, digests, tensors, np.arange(4), len(hosted(1)[0].source))


def answer(node: UserNode, packet: Packet) -> Packet:
    return node.answer(wire.from_record(through_flower(wire.to_record(packet))[0]))


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (NAME, {}),
        ("{module}:Mine", {}),
        ("{folder}/evil.py:Mine", {}),
        ("tower-sgd", {"tower": {"name": "foreign-tower"}}),
        ("tower-sgd", {"tower": {"name": "{module}:Mine"}}),
        ("no-such-plug-in", {}),
    ],
)
def test_a_node_runs_built_in_code_alone_unless_its_operator_allows_more(tmp_path, module, algorithm, settings):
    (tmp_path / "evil.py").write_text("raise SystemError('imported')")
    fill = {"module": module, "folder": str(tmp_path)}
    settings = {key: {"name": value["name"].format(**fill)} for key, value in settings.items()}
    before = set(sys.modules)
    found = answer(UserNode(lambda _: hosted(1)[0]), asked(algorithm.format(**fill), settings))
    assert (found.kind, found.facts) == (exchange.REFUSAL, {"code": "plugin"})
    assert not {name for name in sys.modules if module in name or "evil" in name} - before


def test_a_node_runs_what_its_operator_allows_and_nothing_else(module):
    node = UserNode(lambda _: hosted(1)[0], plugins=[NAME])
    found = answer(node, asked(NAME, {}))
    assert found.kind == exchange.SUMS, found.facts
    assert set(found.tensors) == {"counts"}
    for other in (f"{module}:Mine", "foreign-tower"):
        assert answer(node, asked(other, {})).facts == {"code": "plugin"}


def test_an_installed_algorithm_over_two_nodes_releases_the_model_of_one_process(module, tmp_path):
    """All nodes of it allow it, or the run ends before a sum leaves one."""
    changes = [f"algorithm.name={NAME}", "seed=3", "evaluation.baselines=false", "evaluation.every=0"]
    scenario = load_scenario("quickstart", [*changes, "engine.nodes=2"])

    def over_nodes(folder: Path, plugins: list[str]) -> MemoryGrid:
        nodes = {50 + n: UserNode(finder({"partition-id": n, "num-partitions": 2}), plugins=plugins) for n in range(2)}
        grid = MemoryGrid(nodes)
        Deployment(scenario, RunDirectory(folder), Messenger(grid, poll=0.001)).run()
        return grid

    over_nodes(tmp_path / "nodes", [NAME])
    options = [part for change in changes for part in ("--set", change)]
    assert cli.run(["simulate", "quickstart", "--quiet", "--out", str(tmp_path / "alone"), *options]) == 0
    models = [tmp_path / name / "release" / "model" / "model.safetensors" for name in ("nodes", "alone")]
    assert models[0].read_bytes() == models[1].read_bytes()
    begin = read_ledger(tmp_path / "nodes" / "release" / "privacy" / "ledger.jsonl")[0][0].payload
    assert begin["software"][f"algorithm {NAME}"].startswith(f"stranger 1.5, {module}.py, sha256 ")
    with pytest.raises(FedrecError):
        over_nodes(tmp_path / "refused", [])
    assert not (tmp_path / "refused" / "release" / "model" / "model.safetensors").exists()


def test_a_node_reads_no_data_with_code_of_others(module, tmp_path):
    """Nobody can allow it: a shard is of a built-in dataset, and data of a node's own are a file that fedrec reads."""
    (tmp_path / "foreign-data").mkdir()
    shard = f'{{"num-partitions": 1, "partition-id": 0, "data-dir": "{tmp_path}"'
    asking = exchange.ask_hello(DataRequest(data=DataConfig(name="foreign-data"), seed=1))
    assert answer(_node(shard + "}"), asking).facts == {"code": "dataset"}
    for more in (', "datasets": "foreign-data"}', ', "plugins": "foreign-data"}'):
        with pytest.raises(ConfigError, match=r"a shard is of a built-in|plug-in 'foreign-data': no installed package"):
            _node(shard + more)
    assert module not in sys.modules


def test_the_configuration_of_a_node_says_which(module, capsys, monkeypatch):
    assert allowed_plugins({}) == frozenset()
    assert allowed_plugins({"plugins": f"{NAME},foreign-tower"}) == {NAME, "foreign-tower"}
    assert allowed_plugins({"plugins": "foreign-tower"}, [NAME]) == {NAME, "foreign-tower"}, "the policy's besides"
    for wrong in ({"plugins": "absent"}, []), ({}, ["absent"]):
        with pytest.raises(ConfigError, match="plug-in 'absent': no installed package"):
            allowed_plugins(*wrong)
    with pytest.raises(InputError, match="plug-in 'os:system'"):
        check_plugins(["os:system"])
    shard = '{"num-partitions": 1, "partition-id": 0'
    node = _node(shard + "}")
    monkeypatch.setattr(node, "_gate", None)  # this question has no run card, and would be refused for that
    assert answer(node, asked(NAME, {})).facts == {"code": "plugin"}
    assert module not in sys.modules
    start = ["client", "start", "--server", "h:1", "--ca", "a", "--key", "b", "--shard", "0/2", "--plugin", "absent"]
    assert cli.run(start) == 2
    assert "plug-in 'absent': no installed package" in capsys.readouterr().err
