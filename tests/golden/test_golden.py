"""Golden runs: no number, no record and no sentence that a run writes may change unless that is meant.

On the machine that made a file every bit is compared. Elsewhere the last bits of a matrix product may differ. A sum may
then land on the next step of the grid of releases (2^-10 of the noise). So tensors are compared within that step,
metrics within a few users, all other numbers within 1e-5, and everything discrete exactly.
"""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fedrec.algorithms.discover import algorithms
from tests.golden.runs import DIGEST, FILES, FIXED, NAMES, differences, machine, make

CLOSE, STEP, METRIC = 1e-5, 2e-3, 0.05
TENSOR_DIGESTS = FIXED - {"catalogue", "model/items.json"}


def same_bits(first: float, second: float) -> bool:
    return first == second


def close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=CLOSE, abs_tol=CLOSE)


def close_metric(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=METRIC, abs_tol=METRIC)


def golden(name: str) -> dict[str, Any]:
    return json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))


def compare(found: dict[str, Any], expected: dict[str, Any], exact: bool) -> list[str]:
    """Where a run differs from its golden file; exact: whether the machine is the one that made the file."""
    found, expected = copy.deepcopy(found), copy.deepcopy(expected)
    del found["machine"], expected["machine"]
    if exact:
        return differences(found, expected, same_bits)
    wrong = []
    for lines in zip(*map(_measured, (found, expected)), strict=True):
        wrong += differences(*lines, close_metric)
    return wrong + differences(_masked(found, ""), _masked(expected, ""), close)


def _measured(facts: dict[str, Any]) -> list[Any]:
    """Take the metrics out: a last bit moves an item, and so a rank."""
    ends = [record for record in facts["ledger"] if record["payload"]["type"] == "end"]
    summary = facts["summary"]
    parts = [summary.pop("metrics"), summary.pop("baselines"), summary.pop("evaluation"), summary.pop("order_free", 0)]
    parts += [facts.pop("history"), facts["statement"].pop("released", 0), summary["cost"].pop("message_bytes_down")]
    return parts + [record["payload"].pop("released_besides", 0) for record in ends]


def _masked(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, name) for inner in value]
    return DIGEST.sub("<digest>", value) if name in TENSOR_DIGESTS | {"sha256"} and isinstance(value, str) else value


def meaning(model: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A tensor, or the table that factors with signs stand for: every column of factors may be turned round."""
    folder, part = name.rsplit("/", 1) if "/" in name else ("", name)
    value, signs = model[name].double(), model.get(f"{folder}/signs")
    return value if part != "values" or signs is None else (value * signs.double()) @ value.T


@pytest.mark.parametrize("name", NAMES)
def test_a_run_gives_what_it_gave(name: str, tmp_path: Path) -> None:
    found, expected = make(name, tmp_path), golden(name)
    exact = expected["machine"] == machine()
    assert compare(found, expected, exact) == []
    model, kept = load_file(tmp_path / "run/release/model/model.safetensors"), load_file(FILES / f"{name}.safetensors")
    assert model.keys() == kept.keys()
    for tensor, value in kept.items():
        assert (model[tensor].dtype, model[tensor].shape) == (value.dtype, value.shape)
        if exact:
            assert torch.equal(model[tensor], value), tensor
        else:
            made, meant = (meaning(each, tensor) for each in (model, kept))
            assert (made - meant).norm() <= STEP * max(float(meant.norm()), CLOSE), tensor


def test_every_algorithm_and_every_record_of_a_run_is_golden() -> None:
    facts = [golden(name) for name in NAMES]
    assert {found["summary"]["algorithm"] for found in facts} == set(algorithms())
    kinds = {record["payload"]["type"] for found in facts for record in found["ledger"]}
    assert kinds == {"begin", "charge", "stopped", "end", "files"}
    assert {file.stem for file in FILES.iterdir()} == set(NAMES)


@pytest.mark.parametrize("exact", [True, False])
def test_a_planted_change_is_found(exact: bool) -> None:
    expected = golden("als")
    assert compare(expected, expected, exact) == []
    for part, key, value in [
        ("statement", "unit", "event"),
        ("summary", "seed", 4),
        ("summary", "finished", False),
        ("manifest", "kind", "another"),
    ]:
        planted = copy.deepcopy(expected)
        assert planted[part][key] != value
        planted[part][key] = value
        assert len(compare(planted, expected, exact)) == 1, key
    planted = copy.deepcopy(expected)
    planted["ledger"][1]["payload"]["epsilon"]["pld"] = "1.9"
    assert len(compare(planted, expected, exact)) == 1
    planted = copy.deepcopy(expected)
    del planted["ledger"][1]
    assert compare(planted, expected, exact)
    planted = copy.deepcopy(expected)
    planted["summary"]["metrics"]["full"]["ndcg@10"] += 0.2
    assert len(compare(planted, expected, exact)) == 1
