"""A run whose processes are killed ends with the same bits; the script `faults.py` repeats it many times."""

import random
from pathlib import Path

import pytest

from tests.server.faults import disturbed, federation, holds


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed_to_the_same_model(tmp_path: Path) -> None:
    with federation(2, tmp_path) as world:
        results = disturbed(world, ["app", "link"], random.Random(3), lambda _: None, latest=0.5)
    assert all(result["hit"] for result in results)
    assert [result for result in results if not holds(result)] == []
