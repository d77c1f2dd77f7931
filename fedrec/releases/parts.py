"""The cut of a file into parts: an equal stretch of an older file is not fetched again.

A safetensors file is cut where tensors begin, so that a tensor that did not change keeps its parts wherever it is in
the new file. Small tensors share a part, large ones are cut further. Other files are cut by size alone.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedrec.errors import InputError
from fedrec.ondevice.tensor_file import TensorFile

LARGEST_PART = 1 << 20
"""Most bytes of a part."""
SMALLEST = 1 << 14
"""Bytes from which a tensor ends a part."""


@dataclass(frozen=True)
class Part:
    """A stretch of a file.

    Attributes:
        sha256: of its bytes, hex.
        size: its bytes.
    """

    sha256: str
    size: int


def cut(path: Path) -> Iterator[tuple[Part, bytes]]:
    """Yield the parts of a file in their order, with their bytes.

    Raises:
        InputError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            for size in _sizes(path):
                content = file.read(size)
                yield Part(hashlib.sha256(content).hexdigest(), len(content)), content
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _sizes(path: Path) -> Iterator[int]:
    whole, start = path.stat().st_size, 0
    for stop in (*_tensor_starts(path), whole):
        if stop - start < SMALLEST and stop != whole:
            continue
        while start < stop:
            size = min(LARGEST_PART, stop - start)
            yield size
            start += size


def _tensor_starts(path: Path) -> list[int]:
    if path.suffix != ".safetensors":
        return []
    file = TensorFile(path)
    try:
        return sorted({place.first for place in file.places.values()})
    finally:
        file.close()
