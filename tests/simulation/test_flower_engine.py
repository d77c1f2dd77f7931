"""`--engine flower`: real Ray processes and the deployed ClientApp end with the bits of one process."""

import json

import pytest
import torch
from safetensors.torch import load_file

from fedrec.cli import run

pytest.importorskip("ray")
CHANGES = (
    "engine.nodes=3 data.users=150 data.items=120 data.interactions_per_user=12 algorithm.name=als algorithm.dim=8 "
    "algorithm.rounds=2 evaluation.baselines=false privacy.sampling=0.6"
)
SMALL = ["simulate", "--quiet", "--seed", "5", *(part for text in CHANGES.split() for part in ("--set", text))]


@pytest.mark.slow
def test_virtual_nodes_end_with_the_bits_of_one_process(tmp_path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in each of Ray's processes: a product's bits may follow the number of threads
    try:
        for engine in ("in-process", "flower"):
            assert run([*SMALL, "--engine", engine, "--out", str(tmp_path / engine)]) == 0
    finally:
        torch.set_num_threads(threads)
    found, expected = (
        load_file(tmp_path / e / "release" / "model" / "model.safetensors") for e in ("flower", "in-process")
    )
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    summaries = [json.loads((tmp_path / e / "private" / "summary.json").read_text()) for e in ("flower", "in-process")]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    assert summaries[0]["privacy"] == summaries[1]["privacy"]
