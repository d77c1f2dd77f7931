"""A baseline's noise is its own: not the run's, and not that of the run with the next seed."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.cli import run


def written(folder: Path) -> Path:
    """A log in which every order of the items has metrics of its own."""
    rng = np.random.default_rng(0)
    rows = [f"{user},{item},{step}" for user in range(60) for step, item in enumerate(rng.permutation(80)[:6])]
    file = folder / "log.csv"
    file.write_text("user_id,item_id,timestamp\n" + "\n".join(rows))
    return file


def told(folder: Path, log: Path, seed: int) -> dict[str, Any]:
    settings = [f"data.path={log}", "algorithm.name=popularity", "privacy.epsilon=1", "privacy.delta=1e-3"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    out = folder / f"seed-{seed}"
    assert run(["simulate", *arguments, "--out", str(out), "--seed", str(seed), "--quiet"]) == 0
    return json.loads((out / "private" / "summary.json").read_text())


def test_the_baseline_of_one_seed_is_not_the_run_of_another(tmp_path: Path) -> None:
    log = written(tmp_path)
    runs = [told(tmp_path, log, seed) for seed in (4, 5, 6)]
    mine = [each["metrics"]["full"] for each in runs]
    for each in runs:
        assert each["baselines"]["dp-popularity"]["full"] not in mine
        assert each["baselines"]["popularity"]["full"] == runs[0]["baselines"]["popularity"]["full"]
