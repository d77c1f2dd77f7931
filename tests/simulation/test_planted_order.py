"""Where the order carries the signal, a sequence tower under privacy is above what learns without an order.

A small form of 100,000 users at epsilon 1: only users x mu counts, so 2,000 users here have the mu that makes the
product equal. `docs/sequences.md` has the commands for the whole size.
"""

from typing import Any

import pytest

from fedrec.data.datasets import DataConfig, load
from fedrec.data.splits import split
from fedrec.evaluation.ranking import ranks
from tests.simulation.short_run import short_run

USERS, STRENGTH = 2_000, 100_000 * 0.2681
SEQUENCE: dict[str, Any] = {
    **{"dim": 8, "columns": 8, "length": 7, "rounds": 15, "targets": 3, "negatives": 48, "whitening": 1.0},
    **{"learning_rate": 0.06, "encoder": {"name": "state-space", "decays": [1.0, 0.5, 0.0]}},
}
GENERATIVE: dict[str, Any] = SEQUENCE | {"objective": "generative", "codes": 64, "levels": 2}
OTHERS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "content": {},
    "als": {"dim": 16, "rounds": 3},
    "spectral": {},
}


@pytest.mark.slow
def test_the_sequence_tower_is_above_what_learns_without_an_order() -> None:
    data = load(DataConfig(name="planted-order", split="leave-one-out", users=USERS, items=300), None, 1)
    held = split(data, "leave-one-out", "test", 1)
    found = {}
    for name, settings in ({"sequence": SEQUENCE, "generative": GENERATIVE} | OTHERS).items():
        called = "sequence" if name == "generative" else name
        model = short_run(called, settings, data.catalogue, held.train, STRENGTH)
        found[name] = float((ranks(model, held).full < 10).double().mean())  # HR@10 in the whole catalogue
    towers = [found.pop(name) for name in ("sequence", "generative")]
    assert all(min(towers) > 1.3 * other for other in found.values()), (towers, found)
