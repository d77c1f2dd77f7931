"""`fedrec bench compress` measures compressed models on the run's own held-out items."""

import json
from pathlib import Path

import pytest

import fedrec
from fedrec.cli import run


@pytest.mark.slow
def test_forms_are_measured_next_to_the_original(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = fedrec.load_dataset("quickstart", users=60, items=120)
    settings = {"algorithm.dim": 16, "algorithm.rounds": 2}
    folder = tmp_path / "run"
    fedrec.simulate("als", data, epsilon="none", seed=1, progress=False, settings=settings, out=folder)
    capfd.readouterr()
    forms = ["--only", "int8", "--only", "half as long"]
    assert run(["bench", "compress", str(folder), *forms, "--people", "20", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)["results"]
    assert [row["form"] for row in rows] == ["as released", "int8", "half as long"]
    first, small, _ = rows
    assert first["overlap"] == 1.0
    assert small["bytes"] < 0.6 * first["bytes"]
    assert 0.8 < small["overlap"] <= 1.0
    assert first["metrics"]["full"]["hr@10"] == fedrec.load_run(folder).evaluate()["full:hr@10"]
    assert abs(small["metrics"]["full"]["hr@10"] - first["metrics"]["full"]["hr@10"]) < 0.1
