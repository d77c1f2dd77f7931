import json
from pathlib import Path

import numpy as np
import pytest
from fedrec_sim.benchmarks import edge
from fedrec_sim.benchmarks.edge_device import peak_mb

import fedrec
from fedrec.cli import run
from fedrec.errors import InputError


def test_generated_models_and_runs_are_measured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = fedrec.load_dataset("quickstart", users=60, items=80)
    trained = fedrec.simulate("als", data, epsilon="none", seed=1, progress=False, out=tmp_path / "run")
    sizes = ["--items", "400", "--dim", "8", "--events", "20", "--repeat", "4", "--tries", "6"]
    assert run(["bench", "edge", *sizes, "--model", str(trained.folder), "--json"]) == 0
    generated, own = json.loads(capfd.readouterr().out)["results"]
    for row in (generated, own):
        assert row["exact"]["equal"] == row["exact"]["tries"] == 6
        assert row["refit_equal"] is True
        assert row["first"]["listed"] == 10
        assert 0 < row["first"]["cpu_ms"] < 60_000
        assert 0 < row["list_ms"]["median"] <= row["list_ms"]["99 %"]
        own = row["client"]
        assert own["refit_equal"] is True
        assert own["first"]["listed"] == 10
        assert 0 < own["record_ms"]["median"] <= own["record_ms"]["99 %"]
        assert 10 < own["first"]["peak_rss_mb"] < 100
        assert 10 < row["first"]["peak_rss_mb"] < 100, "a process with torch has more"
    folder = trained.folder / "release" / "model"
    assert edge.parity(trained.folder, folder, 10) == {"users": 60, "differ": 0}


def test_parity_finds_a_list_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = fedrec.load_dataset("quickstart", users=30, items=60)
    trained = fedrec.simulate("popularity", data, epsilon="none", seed=1, progress=False, out=tmp_path / "run")
    folder = trained.folder / "release" / "model"
    from fedrec.ondevice.base import DeviceModel

    whole = DeviceModel.top
    monkeypatch.setattr(
        DeviceModel, "top", lambda *given, **named: [np.roll(part, 1) for part in whole(*given, **named)]
    )
    assert edge.parity(trained.folder, folder, 5, most=20) == {"users": 20, "differ": 20}


def test_a_measurement_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model here"):
        edge.on_a_device({"what": "first", "folder": str(tmp_path), "index": str(tmp_path / "i"), "events": 2, "k": 1})
    assert run(["bench", "edge", "--items", "5", "-k", "10"]) == 2


def test_peak_memory_is_that_of_this_program() -> None:
    assert (peak_mb() or 1e9) > 10
