"""What a run of trust model `distributed` keeps when processes are killed; `faults_distributed.py` repeats it."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.server.faults_distributed import Found

ROOT = Path(__file__).parents[2]

WHOLE = Found(
    charges={1: 0, 4: 1, 6: 1},
    totals=[1, 6],
    right=2,
    wrong=0,
    masked=[[1, 4, 6], [1, 6]],
    device=[Counter({0: 1, 1: 2}), Counter({0: 1, 1: 1})],
    answered=[Counter({0: 1, 1: 1}), Counter({0: 1, 1: 1})],
    unknown=0,
    broken=[],
)


def test_a_run_that_keeps_everything_has_no_fault() -> None:
    assert WHOLE.faults == []


@pytest.mark.parametrize(
    "changes",
    [
        {"wrong": 1},
        {"totals": [1, 5]},
        {"totals": [1, 1]},
        {"masked": [[1, 4, 6], [1, 5]]},
        {"device": [Counter({0: 1, 1: 1}), WHOLE.device[1]]},
        {"device": [WHOLE.device[0], Counter({1: 1})]},
        {"masked": [[], []], "answered": [Counter({1: 3}), Counter()]},
        {"unknown": 1},
        {"broken": ["audit verify"]},
    ],
)
def test_each_lie_is_a_fault(changes: dict) -> None:
    assert len(replace(WHOLE, **changes).faults) >= 1


@pytest.mark.slow
def test_kills_in_the_middle_of_rounds_lose_nothing(tmp_path: Path) -> None:
    """Server, helper and nodes send SIGKILL to themselves at drawn moments, in a program of their own, which forks."""
    out = tmp_path / "results"
    options = ["--runs", "3", "--kills", "2", "--rounds", "4", "--seed", "4", "--out", str(out)]
    program = [sys.executable, "-W", "ignore", "-m", "tests.server.faults_mid_round", *options]
    with tempfile.TemporaryDirectory() as short:  # a path of a Unix socket has at most 107 bytes
        environment = os.environ | {"TMPDIR": short}
        done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert [result["aggregator"] for result in results] == ["helper", "both", "peers"]
    assert sum(len(result["killed"]) for result in results) >= 3
    assert [result["faults"] for result in results] == [[], [], []]
    assert all(result["right"] >= 1 and result["wrong"] == 0 for result in results)
