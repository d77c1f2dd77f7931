"""The index of a model: what a device derives from it once, in one file of its own.

| tensor | shape | what |
|---|---|---|
| NAME/levels, NAME/scales, NAME/radius | (items, d) int8, (items,), (items,) | of a large table, for the scan |
| NAME/gram | (d, d) float64 | sum over items of x x^T, where the kind of model needs it |
| ids/text, ids/ends | (bytes,), (items,) | the ids in catalogue order, and where each ends |
| ids/hash, ids/place | (items,) int64, (items,) int32 | hashes of the ids in ascending order, and their positions |

The file says what it was made for: the SHA-256 of the manifest, which names tensors and ids by theirs, and size and
time of the tensors' file. An index of anything else is made again, and the tensors are checked again before that. The
file appears whole or not at all, and two processes do not make it at once.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fedrec.durable import sync
from fedrec.errors import InputError
from fedrec.ondevice.item_table import SMALL, blocks_of, quantise
from fedrec.ondevice.tensor_file import TensorFile, header_of

FORMAT = "1"
"""Of the index; another one is made again."""

_Part = tuple[str, np.dtype[Any], tuple[int, ...], Callable[[BinaryIO], None]]


def made_for(manifest: bytes, tensors: Path) -> dict[str, str]:
    """What an index of these files says that it was made for."""
    about = tensors.stat()
    digest = hashlib.sha256(manifest).hexdigest()
    return {"format": FORMAT, "manifest": digest, "tensors": f"{about.st_size} bytes, {about.st_mtime_ns} ns"}


def open_index(path: Path, about: Mapping[str, str]) -> TensorFile | None:
    """The index at `path`, if it was made for what `about` says (see `made_for`); None otherwise."""
    if not path.is_file():
        return None
    try:
        found = TensorFile(path)
    except InputError:
        return None
    if found.metadata == about:
        return found
    found.close()
    return None


def make_index(
    path: Path, model: TensorFile, tables: Mapping[str, bool], items: Path | None, about: Mapping[str, str]
) -> TensorFile:
    """Make the index of a model at `path`, in blocks, and open it.

    Args:
        path: of the index; its folder exists.
        model: the released tensors, already checked.
        tables: names of the item tables -> whether the sum of x x^T is needed.
        items: the file with the ids of the items, already checked; None where there is none.
        about: of `made_for`.

    Raises:
        InputError: where the file cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        with open(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            made = open_index(path, about)
            if made is not None:  # another process was first
                return made
            file.truncate(0)
            parts = [part for name, gram in tables.items() for part in _table_parts(model, name, gram)]
            parts += [] if items is None else _id_parts(items)
            file.write(header_of([part[:3] for part in parts], about))
            for *_, write in parts:
                write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(fresh, path)
            sync(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); free space, or name another folder") from None
    return TensorFile(path)


def _table_parts(model: TensorFile, name: str, gram: bool) -> list[_Part]:
    items, dim = model.shape(name)
    if 4 * items * dim <= SMALL:
        return []
    scales, radius, total = np.empty(items, np.float32), np.empty(items, np.float32), np.zeros((dim, dim))

    def levels(file: BinaryIO) -> None:
        for start, rows in blocks_of(model, name):
            some = slice(start, start + len(rows))
            made, scales[some], radius[some] = quantise(rows)
            file.write(made.tobytes())
            if gram:
                wide = rows.astype(np.float64)
                total[...] += wide.T @ wide

    parts: list[_Part] = [
        (f"{name}/levels", np.dtype("i1"), (items, dim), levels),
        (f"{name}/scales", np.dtype("<f4"), (items,), partial(_put, scales)),
        (f"{name}/radius", np.dtype("<f4"), (items,), partial(_put, radius)),
    ]
    return parts + ([(f"{name}/gram", np.dtype("<f8"), (dim, dim), partial(_put, total))] if gram else [])


def _put(array: np.ndarray, file: BinaryIO) -> None:
    file.write(array.tobytes())


def hash_of(item: str) -> int:
    """The hash by which the index finds an id, int64."""
    return int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "little", signed=True)


def read_ids(path: Path) -> Iterator[str]:
    """The ids in `items.json`, a line each, in catalogue order.

    Raises:
        InputError: where a line holds no id.
    """
    with path.open("rb") as file:
        for line in file:
            text = line.strip().rstrip(b",")
            if text in (b"[", b"]", b""):
                continue
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, str):
                raise InputError(f"{path}: no list of ids, a line each; fetch the model again")
            yield found


def _id_parts(items: Path) -> list[_Part]:
    text, ends, hashes = bytearray(), [], []
    for item in read_ids(items):
        text += item.encode()
        ends.append(len(text))
        hashes.append(hash_of(item))
    values = np.array(hashes, np.int64)
    order = np.argsort(values, kind="stable")
    arrays: dict[str, np.ndarray] = {
        "ids/text": np.frombuffer(bytes(text), np.uint8),
        "ids/ends": np.array(ends, np.int64),
        "ids/hash": values[order],
        "ids/place": order.astype(np.int32),
    }
    return [(name, array.dtype, array.shape, partial(_put, array)) for name, array in arrays.items()]
