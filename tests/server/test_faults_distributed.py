"""What a run of trust model `distributed` keeps when processes are killed; `faults_distributed.py` repeats it."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.server.faults_distributed import Found

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
