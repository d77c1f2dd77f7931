"""Lists of similar items: three measures against loops, the threshold, ties; a device lists what Python lists."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import fedrec
from fedrec.algorithms.als import ALSModel
from fedrec.cli import run as main
from fedrec.errors import InputError
from fedrec.ondevice import draws, reasons
from fedrec.ondevice.likeness import MEASURES, alike
from fedrec.ondevice.released import load
from fedrec.testing.ondevice import save_released

ITEMS = 30


def table() -> np.ndarray:
    rows = np.random.default_rng(0).normal(1, 1, (ITEMS, 5)).astype(np.float32)
    rows[7] = rows[11] = rows[3]  # equal items
    rows[20] = 0
    return rows


def slow(x: list[float], y: list[float], measure: str) -> float:
    if measure == "euclid":
        return 1 / (1 + math.dist(x, y))
    if measure == "pearson":
        x, y = ([value - sum(row) / len(row) for value in row] for row in (x, y))
    size = math.hypot(*x) * math.hypot(*y)
    return sum(a * b for a, b in zip(x, y, strict=True)) / size if size else 0.0


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("threshold", [None, 0.4])
def test_every_measure_equals_a_loop(measure: str, threshold: float | None) -> None:
    rows = table()
    wide = rows.astype(float).tolist()
    expected = {other: slow(wide[4], wide[other], measure) for other in range(ITEMS) if other != 4}
    places, likeness = alike(rows.__getitem__, ITEMS, 4, ITEMS, measure, threshold)
    assert likeness.tolist() == pytest.approx([expected[place] for place in places.tolist()])
    assert (np.diff(likeness) <= 0).all()
    wanted = {place for place, value in expected.items() if threshold is None or value >= threshold}
    assert set(places.tolist()) == wanted
    assert 4 not in places
    fewer, _ = alike(rows.__getitem__, ITEMS, 4, 3, measure, threshold)
    assert fewer.tolist() == places[:3].tolist()


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_items_are_in_a_hashed_order(measure: str) -> None:
    places, likeness = alike(table().__getitem__, ITEMS, 3, 2, measure)
    assert likeness.tolist() == pytest.approx([1, 1])
    order = draws.tie_order(np.array([7, 11]))
    assert places.tolist() == ([7, 11] if order[0] < order[1] else [11, 7])


def test_a_device_lists_what_python_lists(tmp_path: Path) -> None:
    rows = torch.from_numpy(table())
    model = ALSModel(rows, rows.T @ rows, torch.arange(float(ITEMS)), alpha0=0.3, reg=0.01, nu=1.0)
    form = load(save_released(model, tmp_path))
    made = fedrec.Model(model, [f"item-{place}" for place in range(ITEMS)])
    for measure in MEASURES:
        found = made.similar("item-4", 6, measure, 0.1)
        listed = reasons.similar(form, 4, 6, measure=measure, threshold=0.1)
        assert found["item"].to_list() == [f"item-{place}" for place, _ in listed]
        assert found["likeness"].to_list() == [likeness for _, likeness in listed]
    with pytest.raises(InputError, match=r"no measure 'cosin'.*Did you mean 'cosine'"):
        made.similar("item-4", 6, "cosin")
    with pytest.raises(InputError, match="threshold is not a number"):
        made.similar("item-4", 6, threshold=math.nan)


def test_the_command_lists_them_without_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = fedrec.load_dataset("quickstart", users=60, items=20)
    run = fedrec.simulate("popularity", data, epsilon="none", seed=1, out=tmp_path / "run", progress=False)
    expected = run.model.similar(3, 4, "euclid", 0.2).to_dicts()
    call = ["recommend", str(tmp_path / "run"), "--similar", "3", "-k", "4"]
    assert main([*call, "--measure", "euclid", "--threshold", "0.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == expected
    assert main(call) == 0
    assert "Alike to 3" in capsys.readouterr().out
    for wrong in (["--user", "5"], ["--measure", "manhattan"]):
        assert main([*call, *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["recommend", str(tmp_path / "run"), "--user", "5", "--threshold", "0.2"]) == 2


def test_a_model_without_kernels_has_no_rows_to_compare() -> None:
    """A private log without features or learned pairs ends at popularity."""
    events = [(user, item) for user in range(30) for item in range(user % 2, 12, 3)]
    data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
    run = fedrec.simulate("kernel-rank", data, epsilon=0.5, seed=1, progress=False)
    with pytest.raises(InputError, match="no rows of items"):
        run.model.similar("3")
