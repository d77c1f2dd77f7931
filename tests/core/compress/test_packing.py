"""Packed tensors: the same bits however they are read, errors within half a level, and small files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.errors import InputError
from fedrec.ondevice.packed_file import PackedFile
from fedrec.ondevice.tensor_file import header_of
from fedrec.packed_tensors import GROUP, Packing, pack, pruned, unpack

FORMS = [("int8", False), ("int4", False), ("float32", True), ("int8", True)]


def odd(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    found = generator.normal(size=shape).astype(np.float32)
    found *= np.float32(10.0) ** generator.integers(-6, 4, (shape[0], *[1] * (len(shape) - 1))).astype(np.float32)
    found[generator.random(shape[0]) < 0.2] = 0
    return found


def written(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    head = header_of([(name, value.dtype, value.shape) for name, value in tensors.items()], {})
    path = folder / "model.safetensors"
    path.write_bytes(head + b"".join(np.ascontiguousarray(value).tobytes() for value in tensors.values()))
    return path


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 80))
def test_levels_are_within_half_a_step(seed: int, items: int, dim: int) -> None:
    table = odd(np.random.default_rng(seed), (items, dim))
    for form, masked in FORMS:
        packing = Packing(form, table.shape, masked)
        again = unpack({f"t@{name}": part for name, part in pack(table, packing).items()}, {"t": packing.about})["t"]
        assert (again.shape, again.dtype) == (table.shape, np.float32)
        if form == "float32":
            assert np.array_equal(again, table)
            continue
        if form == "int8":
            step = np.abs(table).max(1, keepdims=True) / 127
        else:
            groups = [np.abs(table[:, at : at + GROUP]).max(1, keepdims=True) / 7 for at in range(0, dim, GROUP)]
            step = np.concatenate([np.repeat(each, GROUP, 1) for each in groups], 1)[:, :dim] * (1 + 2**-10) + 1e-6
        # a half-precision scale is off by 2^-11, so the largest entry by 7 of those
        assert (np.abs(again - table) <= 0.5 * step * (1 + 1e-5) + (7 * 2**-11 * step if form == "int4" else 0)).all()
        assert np.array_equal(pack(again, packing)["scales"], pack(again, packing)["scales"])


@pytest.mark.parametrize(("form", "masked"), FORMS)
def test_a_file_is_read_alike_whole_by_rows_and_by_blocks(form: str, masked: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    table, line = odd(generator, (70, 33)), generator.normal(size=300).astype(np.float32)
    if masked:
        table = pruned(table, 0.6)
        assert abs((table == 0).mean() - 0.6) < 0.25
    about = {name: Packing(form, value.shape, masked).about for name, value in (("t", table), ("network", line))}  # type: ignore[arg-type]
    tensors = {"bias": line[:70]}
    for name, value in (("t", table), ("network", line)):
        tensors |= {f"{name}@{part}": each for part, each in pack(value, Packing.read(about[name])).items()}
    file = PackedFile(written(tmp_path, tensors), json.loads(json.dumps(about)))
    whole = unpack(tensors, about)
    assert set(file.read_below("")) == {"t", "network", "bias"}
    for name in whole:
        assert np.array_equal(file.read(name), whole[name])
        assert file.shape(name) == whole[name].shape
        assert name in file
    chosen = np.array([5, 5, 69, 0, 12])
    assert np.array_equal(file.rows("t", chosen), whole["t"][chosen])
    out = np.empty((20, 33), np.float32)
    file.read_into("t", 41, out)
    assert np.array_equal(out, whole["t"][41:61])


def test_pruning_drops_the_smallest_and_keeps_ties() -> None:
    table = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
    assert pruned(table, 0.5).tolist() == [[0, 0, 0], [-4, 5, -6]]
    assert pruned(np.ones((4, 4), np.float32), 0.9).all()
    assert pruned(table, 0.01) is table


@pytest.mark.parametrize(
    "about",
    [
        [],
        {"t": None},
        {"t": {"form": "int8"}},
        {"t": {"form": "int2", "shape": [4, 4], "masked": False}},
        {"t": {"form": "int4", "shape": [4, 4], "masked": True}},
        {"t": {"form": "int8", "shape": [-4, 4], "masked": False}},
        {"t": {"form": "int8", "shape": [9, 4], "masked": False}},
        {"t": {"form": "int8", "shape": [4, 4], "masked": 1}},
        {"t": {"form": "int8", "shape": [1 << 50, 4], "masked": False}},
        {"other": {"form": "int8", "shape": [4, 4], "masked": False}},
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(about: object, tmp_path: Path) -> None:
    parts = pack(np.ones((4, 4), np.float32), Packing("int8", (4, 4)))
    path = written(tmp_path, {f"t@{name}": part for name, part in parts.items()})
    with pytest.raises((InputError, ValueError, AttributeError, TypeError)):
        PackedFile(path, about)  # type: ignore[arg-type]
