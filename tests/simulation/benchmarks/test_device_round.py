"""What one round costs a device, without torch: the goals of memory and time, and what is not imported."""

from pathlib import Path

import pytest
from fedrec_sim.benchmarks.asked_round import answered, bytes_down, recorded


@pytest.mark.slow
def test_a_round_of_a_large_catalogue_stays_within_150_mb_and_3_seconds(tmp_path: Path) -> None:
    packet, masked = recorded(tmp_path, items=3706, users=6040, events=200, algorithm="als", dim=16)
    found = answered(tmp_path, "numpy")
    assert found["imported"] == []
    assert found["peak_rss_mb"] <= 150
    assert found["cpu_s"] < 3
    numbers = 3706 * (136 + 16 + 1) + 136
    assert found["bytes_up"] == 8 * numbers
    assert masked == 8 * (numbers - 136 + 1024), "the Gram matrix is rotated, and padded for it"
    down = bytes_down(packet)
    assert down["int8"] < down["float16"] < down["float32"]
    assert abs(down["float32"] - 4 * (3706 * 16 + 16 * 16)) < 100
