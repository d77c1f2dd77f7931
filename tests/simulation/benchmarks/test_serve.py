"""`fedrec bench serve` measures lists and the no-op route of the same server."""

import json

import pytest

from fedrec.cli import run


def test_lists_over_http_are_measured_next_to_the_no_op_route(capfd: pytest.CaptureFixture[str]) -> None:
    line = "bench serve --items 500 --dim 8 --events 3 --connections 2 --requests 10 --json"
    assert run(line.split()) == 0
    (row,) = json.loads(capfd.readouterr().out)["results"]
    (http,) = row["http"]
    assert (row["model"], row["events"], http["connections"]) == ("als, 500 items", 3, 2)
    assert 0 < row["model_cpu_ms"]["median"] < row["service_cpu_ms"]["99 %"] < 1000
    for name in ("lists", "no_op"):
        assert http[name]["requests_per_second"] > 0
        assert 0 < http[name]["wall_ms"]["median"] <= http[name]["wall_ms"]["99 %"]
