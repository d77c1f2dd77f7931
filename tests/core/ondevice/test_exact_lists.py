"""No item of a list is missed, whatever the table: errors stay within their bounds, and exact scores give the order."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fedrec import draws as torch_draws
from fedrec.errors import InputError
from fedrec.ondevice import draws, index_file, item_table, released
from fedrec.ondevice import ids as item_ids
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.exact import distinct_of, lengths, products, quantile
from fedrec.ondevice.factors import SpectralForm
from fedrec.ondevice.history import History
from fedrec.ondevice.source import Source
from fedrec.ondevice.tensor_file import TensorFile


def odd_table(generator: np.random.Generator, items: int, dim: int) -> np.ndarray:
    """Rows of many sizes: equal ones, near-equal ones, zeros, a single large entry, tiny and huge ones."""
    rows = generator.normal(size=(items, dim)).astype(np.float32)
    rows *= np.float32(10.0) ** generator.integers(-3, 3, (items, 1)).astype(np.float32)
    rows[generator.random(items) < 0.2] = rows[0]
    near = generator.random(items) < 0.2
    rows[near] = np.nextafter(rows[1], np.float32(np.inf)) if near.sum() % 2 else rows[1] * np.float32(1 + 1e-6)
    rows[generator.random(items) < 0.05] = 0
    rows[generator.integers(items), generator.integers(dim)] = 1e6
    rows[generator.integers(items)] = 1e-42
    return rows


def forms(folder: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict[str, SpectralForm]:
    """The same model with its table in memory, as levels in memory, and as levels read in blocks."""
    popularity = np.arange(len(rows), dtype=np.float32)
    save_file({"encode": rows, "decode": rows, "popularity": popularity}, folder / "model.safetensors")
    file = TensorFile(folder / "model.safetensors")
    found = {"rows": SpectralForm.open(Source(file), {})}
    monkeypatch.setattr(item_table, "SMALL", 0)
    monkeypatch.setattr(index_file, "SMALL", 0)
    monkeypatch.setattr(item_table, "SCANNED", 64 * rows.shape[1])
    found["levels"] = SpectralForm.open(Source(file), {})
    monkeypatch.setattr(item_table, "HELD", 0)
    about = {"format": "1", "manifest": str(folder)}
    index = index_file.make_index(folder / "index", file, SpectralForm.tables, None, about)
    found["blocks"] = SpectralForm.open(Source(file, index), {})
    for form in found.values():
        assert form.table._levels is not None
    return found


def slow_list(rows: np.ndarray, vector: np.ndarray, k: int, left_out: np.ndarray) -> tuple[list[int], list[float]]:
    """The oracle: every score in float64, rounded to float32; ties by the hash of the item."""
    every = np.setdiff1d(np.arange(len(rows)), left_out)
    scores = products(rows[every], vector).astype(np.float32)
    order = np.lexsort((draws.tie_order(every), -scores))[:k]
    return every[order].tolist(), scores[order].tolist()


def compared(
    place: Path, monkeypatch: pytest.MonkeyPatch, generator: np.random.Generator, tables: int, tries: int
) -> int:
    """Compare lists of random tables, histories and filters with the oracle; return how many were compared."""
    done = 0
    for number in range(tables):
        folder = place / str(number)
        folder.mkdir()
        rows = odd_table(generator, int(generator.integers(20, 700)), int(generator.integers(1, 40)))
        with monkeypatch.context() as patch:
            made = forms(folder, rows, patch)
            for _ in range(tries):
                history = History(generator.integers(0, len(rows), generator.integers(1, 12)))
                k, left_out = int(generator.integers(1, 30)), generator.integers(0, len(rows), 15)
                states = {name: form.fit(history) for name, form in made.items()}
                vector = states["rows"].sums["vector"]
                if not vector.any():  # then what is popular
                    continue
                allowed = generator.random(len(rows)) < generator.choice([0.02, 0.5, 1.0])
                barred = np.concatenate([left_out, np.flatnonzero(~allowed)])
                expected = slow_list(rows, vector, k, barred)
                for name, form in made.items():
                    items, scores = form.top(states[name], k, left_out, None if allowed.all() else allowed)
                    assert (items.tolist(), scores.tolist()) == expected, (number, name)
                    done += 1
    return done


def test_lists_are_exact_in_every_form_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compared(tmp_path, monkeypatch, np.random.default_rng(1), tables=12, tries=6) > 150


@pytest.mark.slow
def test_ten_thousand_lists_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compared(tmp_path, monkeypatch, np.random.default_rng(7), tables=90, tries=40) >= 10_000


def test_what_takes_the_place_of_numpy_gives_the_same() -> None:
    generator = np.random.default_rng(2)
    for count in [*range(1, 60), 3706]:
        values = np.round(10 * generator.standard_normal(count), generator.integers(0, 9))
        for part in (0.0, 0.5, 0.9, 1.0, float(generator.random())):
            assert quantile(values, part) == np.quantile(values, part)
        items = generator.integers(0, 9, count)
        assert distinct_of(items).tolist() == np.unique(items).tolist()
    assert distinct_of(np.zeros(0, np.int64)).tolist() == []
    rows = odd_table(generator, 500, 30)
    exact = np.sqrt(np.square(rows.astype(np.float64)).sum(1))
    assert (np.abs(lengths(rows) - exact) <= 1e-12 * exact).all()


def test_the_scan_looks_at_few_items_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactness costs little: of 20,000 ordinary items about as many are scored in full as are listed."""
    rows = np.random.default_rng(2).normal(size=(20_000, 32)).astype(np.float32)
    form = forms(tmp_path, rows, monkeypatch)["blocks"]
    scored: list[int] = []
    exact = form.exact
    monkeypatch.setattr(form, "exact", lambda state, items: scored.append(len(items)) or exact(state, items))
    state = form.fit(History(np.array([4, 9])))
    assert form.top(state, 10)[0].tolist() == slow_list(rows, state.sums["vector"], 10, np.zeros(0))[0]
    assert 10 <= scored[0] <= 60


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_score_is_further_off_than_its_bound(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = odd_table(generator, 50, int(generator.integers(1, 70)))
    levels, scales, radius = item_table.quantise(rows)
    vector = generator.normal(size=rows.shape[1]) * 10.0 ** generator.integers(-6, 6)
    found = (levels.astype(np.float32) @ vector.astype(np.float32)) * scales
    off = np.abs(found.astype(np.float64) - products(rows, vector))
    assert (off <= radius.astype(np.float64) * np.sqrt(np.square(vector).sum())).all()


def test_a_bound_that_is_too_small_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack on the oracle's own strength: with a twentieth of the radius, lists of near-equal items go wrong."""
    generator = np.random.default_rng(5)
    rows = (1 + 1e-3 * generator.normal(size=(4000, 16))).astype(np.float32)
    whole = item_table.radius_of
    monkeypatch.setattr(item_table, "radius_of", lambda *given: whole(*given) / np.float32(20))
    form = forms(tmp_path, rows, monkeypatch)["levels"]
    wrong = 0
    for item in range(20):
        state = form.fit(History(np.array([item])))
        wrong += form.top(state, 10)[0].tolist() != slow_list(rows, state.sums["vector"], 10, np.zeros(0))[0]
    assert wrong


def test_draws_are_those_of_torch() -> None:
    import torch

    index = torch.tensor([0, 1, 5, 2**40, -3])
    assert np.array_equal(draws.keys(7, index.numpy()).view(np.int64), torch_draws.keys(7, index).numpy())
    key = torch_draws.keys(7, index)
    expected = torch_draws.uniform(key, 0x81, 9).numpy()
    assert np.array_equal(draws.uniform(key.numpy().view(np.uint64), 0x81, 9), expected)
    assert np.array_equal(draws.tie_order(np.arange(9)), torch_draws.keys(0, torch.arange(9)).numpy())


def write_model(folder: Path, ids: list[str], rows: np.ndarray) -> Path:
    import hashlib

    folder.mkdir(exist_ok=True)
    popularity = np.arange(len(rows), dtype=np.float32)
    save_file({"encode": rows, "decode": rows, "popularity": popularity}, folder / "model.safetensors")
    text = ("[\n" + ",\n".join(json.dumps(item) for item in ids) + "\n]\n").encode()
    (folder / "items.json").write_bytes(text)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    items = {"count": len(ids), "sha256": hashlib.sha256(text).hexdigest()}
    about = {"kind": "spectral", "model": {}, "sha256": digest, "items": items}
    (folder / "manifest.json").write_text(json.dumps(about))
    return folder


def test_an_index_gives_the_same_lists_and_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_table, "SMALL", 0)
    monkeypatch.setattr(index_file, "SMALL", 0)
    ids = ["", "a", 'ä"\n,', "7", *(f"item {n}" for n in range(1500))]
    rows = np.random.default_rng(3).normal(size=(len(ids), 8)).astype(np.float32)
    folder = write_model(tmp_path / "model", ids, rows)
    plain = released.open_released(folder)
    for again, held in enumerate((1 << 16, 0)):  # made, and found; hashes in memory, and in the file
        monkeypatch.setattr(item_ids, "_HELD", held)
        stored = released.open_released(folder, tmp_path / "index")
        assert stored.ids is not None
        assert plain.ids is not None
        assert [stored.ids.at(place) for place in range(len(ids))] == ids
        assert [stored.ids.find(item) for item in ids] == [plain.ids.find(item) for item in ids] == [*range(len(ids))]
        assert stored.ids.find("no such item") is None
        assert stored.ids.positions(["7", "none", "a"]).tolist() == [3, 1]
        history = History(np.array([3, 700]))
        lists = [form.top(form.fit(history), 20)[0].tolist() for form in (plain.model, stored.model)]
        assert lists[0] == lists[1], again
    assert sorted(os.listdir(folder)) == ["items.json", "manifest.json", "model.safetensors"]


def test_an_index_of_another_model_or_a_broken_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_table, "SMALL", 0)
    monkeypatch.setattr(index_file, "SMALL", 0)
    ids, generator = [f"item {n}" for n in range(300)], np.random.default_rng(4)

    def listed(model: DeviceModel) -> list[int]:
        found: list[int] = model.top(model.fit(History(np.array([1, 2]))), 9)[0].tolist()
        return found

    index, kept = tmp_path / "index", b""
    for number in range(3):
        folder = write_model(tmp_path / "model", ids, generator.normal(size=(300, 8)).astype(np.float32))
        expected = listed(released.open_released(folder).model)
        assert listed(released.open_released(folder, index).model) == expected
        assert index.read_bytes() != kept
        kept = index.read_bytes()
        if number == 1:
            index.write_bytes(kept[:-50])
            assert listed(released.open_released(folder, index).model) == expected
            assert index.read_bytes() == kept
    with (folder / "model.safetensors").open("r+b") as file:  # changed in place: checked again, and refused
        file.seek(-4, os.SEEK_END)
        file.write(b"abcd")
    with pytest.raises(InputError, match="SHA-256"):
        released.open_released(folder, index)
    with pytest.raises(InputError, match="cannot be written"):
        released.open_released(
            write_model(tmp_path / "model", ids, generator.normal(size=(300, 8)).astype(np.float32)),
            tmp_path / "nowhere" / "index",
        )


def test_products_do_not_depend_on_the_other_rows() -> None:
    generator = np.random.default_rng(6)
    rows, vector = generator.normal(size=(500, 64)).astype(np.float32), generator.normal(size=64)
    whole = products(rows, vector)
    for some in (np.array([3]), np.array([499, 0]), generator.permutation(500)[:77]):
        assert np.array_equal(products(rows[some], vector), whole[some])
