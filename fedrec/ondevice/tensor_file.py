"""Tensors in a safetensors file, read by position: a whole tensor, some of its rows, or one block of rows at a time.

The format is 8 bytes of length, a JSON header, and raw little-endian numbers. The `safetensors` package maps whole
files, and a scattered read through a map keeps its neighbours in memory too. Here `os.pread` reads the rows alone.
"""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.errors import InputError

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LARGEST_HEADER = 1 << 26


@dataclass(frozen=True)
class Place:
    """Where a tensor is in the file: its type, its shape, and its first byte."""

    dtype: np.dtype
    shape: tuple[int, ...]
    first: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, an entry of the first dimension."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def size(self) -> int:
        """Bytes of the whole tensor."""
        return self.dtype.itemsize * math.prod(self.shape)


class TensorFile:
    """An open safetensors file. Several threads may read it: no read moves a common position."""

    def __init__(self, path: Path) -> None:
        """Open the file and check its header.

        Raises:
            InputError: where it cannot be read, or its header does not describe its bytes.
        """
        self.path = path
        if sys.byteorder != "little":
            raise InputError(f"{path}: holds little-endian numbers and this machine is big-endian; use another one")
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); fetch the model again") from None
        try:
            self.places, self.metadata = self._header()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.close()
            raise InputError(f"{path}: no tensor file ({error}); fetch the model again") from None

    def close(self) -> None:
        """Close the file; reading it is then an error."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self.close()

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.place(name).shape

    def place(self, name: str) -> Place:
        """Where a tensor is.

        Raises:
            InputError: when the file has none of this name.
        """
        if name not in self.places:
            raise InputError(f"{self.path}: has no tensor '{name}', which its kind of model needs; fetch it again")
        return self.places[name]

    def read(self, name: str) -> np.ndarray:
        """Return a whole tensor as an array of its own."""
        place = self.place(name)
        found = np.empty(place.shape, place.dtype)
        if found.size:
            self._fill(found.reshape(-1).view(np.uint8).data, place.first)
        return found

    def read_below(self, prefix: str) -> dict[str, np.ndarray]:
        """Return the tensors whose names begin with `prefix`, by the rest of their names."""
        return {name.removeprefix(prefix): self.read(name) for name in self.places if name.startswith(prefix)}

    def rows(self, name: str, chosen: np.ndarray) -> np.ndarray:
        """Return the rows `chosen` (n,) of a tensor, one read each."""
        place = self.place(name)
        found = np.empty((len(chosen), *place.shape[1:]), place.dtype)
        size, flat = place.row_bytes, found.reshape(-1).view(np.uint8).data
        for slot, row in enumerate(chosen.tolist()):
            if not 0 <= row < place.shape[0]:
                raise IndexError(f"row {row} of {place.shape[0]}")
            self._fill(flat[slot * size : (slot + 1) * size], place.first + row * size)
        return found

    def read_into(self, name: str, start: int, out: np.ndarray) -> None:
        """Fill `out` (n, ...), of the tensor's type and contiguous, with the rows from `start` on."""
        place = self.place(name)
        self._fill(out.reshape(-1).view(np.uint8).data, place.first + start * place.row_bytes)

    def _fill(self, target: memoryview, first: int) -> None:
        done = 0
        while done < len(target):
            more = os.preadv(self._handle, [target[done:]], first + done)
            if not more:
                raise InputError(f"{self.path}: ends before its tensors do; fetch the model again")
            done += more

    def _header(self) -> tuple[dict[str, Place], dict[str, str]]:
        whole = os.fstat(self._handle).st_size
        length = int.from_bytes(os.pread(self._handle, 8, 0), "little")
        if not 2 <= length <= min(_LARGEST_HEADER, whole - 8):
            raise ValueError("an impossible header")
        header = json.loads(os.pread(self._handle, length, 8))
        metadata = dict(header.pop("__metadata__", {}))
        places = {name: self._place(about, 8 + length, whole) for name, about in header.items()}
        return places, metadata

    @staticmethod
    def _place(about: Mapping[str, Any], start: int, whole: int) -> Place:
        shape, (first, stop) = tuple(about["shape"]), about["data_offsets"]
        if any(type(side) is not int or side < 0 for side in (*shape, first, stop)):
            raise ValueError("an impossible shape")
        place = Place(DTYPES[about["dtype"]], shape, start + first)
        if place.size != stop - first or start + stop > whole:
            raise ValueError("a tensor whose bytes do not fit its shape")
        return place


class HeldTensors(TensorFile):
    """The same for tensors in memory, by name."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.path, self.metadata, self._handle = Path("memory"), {}, -1
        self._arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.places = {name: Place(array.dtype, array.shape, 0) for name, array in self._arrays.items()}

    def read(self, name: str) -> np.ndarray:
        self.place(name)
        return self._arrays[name].copy()

    def rows(self, name: str, chosen: np.ndarray) -> np.ndarray:
        self.place(name)
        return self._arrays[name][chosen]

    def read_into(self, name: str, start: int, out: np.ndarray) -> None:
        self.place(name)
        out[...] = self._arrays[name][start : start + len(out)]


def header_of(tensors: Sequence[tuple[str, np.dtype, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """The bytes before the numbers of a file with these tensors, in this order."""
    about: dict[str, Any] = {"__metadata__": dict(metadata)}
    first = 0
    for name, dtype, shape in tensors:
        stop = first + dtype.itemsize * math.prod(shape)
        about[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [first, stop]}
        first = stop
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
