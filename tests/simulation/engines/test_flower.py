"""`--engine flower`: real Ray processes and the deployed ClientApp end with the bits of one process."""

import contextlib
import json
import os

import pytest
import torch
from fedrec_client.node_config import VIRTUAL
from fedrec_sim.engines.flower import inherited_environment
from safetensors.torch import load_file

from fedrec.cli import run

pytest.importorskip("ray")
CHANGES = (
    "engine.nodes=3 algorithm.name=als algorithm.dim=8 algorithm.rounds=2 "
    "evaluation.baselines=false privacy.sampling=0.6"
)
SMALL = ["simulate", "--quiet", "--seed", "5", *(part for text in CHANGES.split() for part in ("--set", text))]


@pytest.fixture(params=["generated", "a file"])
def dataset(request, tmp_path) -> list[str]:
    """Options that name the data: generated ones, or a log of one's own with columns of its own."""
    if request.param == "generated":
        return ["--set", "data.users=150", "--set", "data.items=120", "--set", "data.interactions_per_user=12"]
    rows = "".join(f"{user}.0;{(user * 7 + step * step) % 60};{step}\n" for user in range(60) for step in range(12))
    (tmp_path / "log.csv").write_text("uid;item_id;timestamp\n" + rows)
    return ["--set", f"data.path={tmp_path / 'log.csv'}", "--set", "data.columns.user=uid"]


@pytest.mark.slow
def test_virtual_nodes_end_with_the_bits_of_one_process(tmp_path, dataset) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in each of Ray's processes: a product's bits may follow the number of threads
    try:
        for engine in ("in-process", "flower"):
            assert run([*SMALL, *dataset, "--engine", engine, "--out", str(tmp_path / engine)]) == 0
    finally:
        torch.set_num_threads(threads)
    assert VIRTUAL not in os.environ, "a node that this process starts later would read files that a run names"
    found, expected = (
        load_file(tmp_path / e / "release" / "model" / "model.safetensors") for e in ("flower", "in-process")
    )
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    summaries = [json.loads((tmp_path / e / "private" / "summary.json").read_text()) for e in ("flower", "in-process")]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    assert summaries[0]["privacy"] == summaries[1]["privacy"]


def test_what_processes_inherit_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    monkeypatch.delenv(VIRTUAL, raising=False)
    with contextlib.suppress(KeyError), inherited_environment({"FLWR_TELEMETRY_ENABLED": "0", VIRTUAL: "1"}):
        assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
        assert os.environ[VIRTUAL] == "1"
        raise KeyError
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "1"
    assert VIRTUAL not in os.environ
