"""`--engine flower`: real Ray processes and the deployed ClientApp end with the bits of one process."""

import json

import pytest
import torch
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
    found, expected = (
        load_file(tmp_path / e / "release" / "model" / "model.safetensors") for e in ("flower", "in-process")
    )
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    summaries = [json.loads((tmp_path / e / "private" / "summary.json").read_text()) for e in ("flower", "in-process")]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    assert summaries[0]["privacy"] == summaries[1]["privacy"]
