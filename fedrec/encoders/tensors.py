"""Tensors of an older `.pth` file, read without running it.

Such a file is a pickle, which may run any code when it is loaded. Here its operations are listed (`pickletools`), and
those that make a table of names and tensors are followed; any other one is refused.

The format (PyTorch before 1.6): pickles of a magic number, a version, the machine, the table and the names of the
storages, and then for each storage the number of its entries (int64) and the entries.
"""

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.errors import InputError

_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
_CONSTANTS = {
    *("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"),
    *("NEWTRUE", "NEWFALSE", "NONE", "EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_LIST", "GLOBAL"),
}


@dataclass(frozen=True)
class _Tensor:
    storage: str
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file by name, float32 or int64.

    Raises:
        InputError: for a file with any other content.
    """
    stream = io.BytesIO(file.read_bytes())
    try:
        for _ in range(3):
            _followed(stream, {})
        types: dict[str, str] = {}
        table, names = _followed(stream, types), _followed(stream, types)
        storages = dict(_storages(stream, names, types))
        return {name: _tensor(each, storages) for name, each in table.items()}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: is no plain table of tensors ({error})") from None


def _storages(stream: io.BytesIO, names: list[str], types: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    for name in names:
        entries = int(np.frombuffer(stream.read(8), "<i8")[0])
        kind = np.dtype(types[name])
        yield name, np.frombuffer(stream.read(entries * kind.itemsize), kind, entries)


def _tensor(wanted: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    storage = storages[wanted.storage]
    last = wanted.start + sum((n - 1) * step for n, step in zip(wanted.shape, wanted.strides, strict=True))
    if min(wanted.start, *wanted.strides, *(n - 1 for n in wanted.shape), 0) < 0 or last >= len(storage):
        raise ValueError("a tensor beyond its storage")
    steps = [storage.itemsize * step for step in wanted.strides]
    return np.lib.stride_tricks.as_strided(storage[wanted.start :], wanted.shape, steps).copy()


def _followed(stream: io.BytesIO, types: dict[str, str]) -> Any:
    """Return the object of the pickle at the stream's place. `types` gets the types of its storages."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def taken() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name in _CONSTANTS:
            made = {"NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}.get(name, argument)
            stack.append({} if name == "EMPTY_DICT" else [] if name == "EMPTY_LIST" else made)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[5:] or 0)
            items = [stack.pop() for _ in range(size)][::-1] if size else taken()
            stack.append(tuple(items))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), types))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_called(function, arguments))
        elif name in ("SETITEM", "SETITEMS"):
            pairs = taken() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            entries = taken() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(entries)
        elif name == "BUILD":
            stack.pop()  # attributes of a table: versions of its modules
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise ValueError(f"operation {name}")
    raise ValueError("it ends too early")


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    if function == "collections OrderedDict" and not arguments:
        return {}
    if function != "torch._utils _rebuild_tensor_v2":
        raise ValueError(f"a call of {function}")
    storage, start, shape, strides = arguments[:4]
    return _Tensor(storage, int(start), tuple(map(int, shape)), tuple(map(int, strides)))


def _storage(reference: Any, types: dict[str, str]) -> str:
    word, kind, name = reference[:3]
    if word != "storage":
        raise ValueError(f"a reference to {word}")
    types[name] = _TYPES[kind.removeprefix("torch ")]
    return str(name)
