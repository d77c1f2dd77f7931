"""What a run of trust model `distributed` keeps when processes are killed; `faults_distributed.py` repeats it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.server.faults_distributed import Found
from tests.server.faults_mid_round import disturbed

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
    """Server, helper and nodes send SIGKILL to themselves at drawn moments; `faults_mid_round.py` does more of it."""
    runs, results = [("both", ["server", "helper", "node"]), ("peers", ["node", "server"])], []
    kills = disturbed(tmp_path, runs, seed=4, rounds=4, say=results.append)
    assert kills >= 3
    assert [result["faults"] for result in results] == [[], []]
    assert all(result["right"] >= 1 and result["wrong"] == 0 for result in results)
