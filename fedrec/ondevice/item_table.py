"""A table of item vectors: exact rows, and a scan of all items whose error is bounded.

| table | the scan reads | rows come from |
|---|---|---|
| at most 4 MB | the float32 rows | memory |
| larger | int8 levels, from memory up to 16 MB, else from the index file in blocks | the model's file, one read a row |

With x = s q + e (levels q, scale s, error e), |<v, x> - s <v, q>| <= |v| |e|. The float32 product of d numbers has an
error of at most (d + 16) 2^-24 |v| (|x| + |e|), whatever the order of the sum (Higham 2002, section 3.1; the 16 covers
the other roundings). The index holds `radius`, the sum of both for |v| = 1, rounded up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.base import ROUNDING, Block
from fedrec.ondevice.exact import lengths, products
from fedrec.ondevice.tensor_file import TensorFile

SMALL = 4 << 20
"""Bytes of a float32 table that is held and scanned as it is."""
HELD = 16 << 20
"""Bytes of int8 levels that are held in memory."""
SCANNED = 1 << 19
"""Levels of one block of a scan: they and their float32 form stay in a processor's cache."""


def radius_of(rows: np.ndarray, levels: np.ndarray | None, scales: np.ndarray | None) -> np.ndarray:
    """The largest error of a scan of rows (n, d) with a vector of length 1, (n,) float32, rounded up."""
    size = lengths(rows)
    off = np.zeros(len(rows))
    if levels is not None and scales is not None:
        off = np.sqrt(np.square(rows - levels.astype(np.float64) * scales.astype(np.float64)[:, None]).sum(1))
    bound = off + (rows.shape[1] + 16) * 2.0**-24 * (size + off)
    return np.nextafter((bound * (1 + 1e-6)).astype(np.float32), np.float32(np.inf))


def quantise(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels (n, d) int8, scales (n,) float32 and radius (n,) float32 of rows (n, d) float32."""
    scales = (np.abs(rows).max(1, initial=0.0) / np.float32(127)).astype(np.float32)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(0), scales)
    levels = np.rint(rows / np.where(scales > 0, scales, np.float32(1))[:, None]).clip(-127, 127).astype(np.int8)
    levels[scales == 0] = 0
    return levels, scales, radius_of(rows, levels, scales)


class ItemTable:
    """The vectors of all items, (items, d) float32, of one tensor of a model."""

    def __init__(self, file: TensorFile, name: str, index: TensorFile | None = None) -> None:
        """index: the file of `fedrec.ondevice.index_file`; None makes the levels in memory."""
        self._file, self._name = file, name
        self.items, self.dim = file.shape(name)
        self._index = index
        self._rows = file.read(name) if 4 * self.items * self.dim <= SMALL else None

    def rows(self, items: np.ndarray) -> np.ndarray:
        """The vectors of `items` (n,), (n, d) float32."""
        return self._file.rows(self._name, items) if self._rows is None else self._rows[items]

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows, some at a time: the first position and (n, d) float32."""
        return blocks_of(self._file, self._name)

    def gram(self) -> np.ndarray:
        """sum over items of x x^T, (d, d) float64."""
        total = np.zeros((self.dim, self.dim))
        for _, rows in self.blocks():
            wide = rows.astype(np.float64)
            total += wide.T @ wide
        return total

    def products(self, vector: np.ndarray, items: np.ndarray) -> np.ndarray:
        """<vector, x> of `items` (n,), (n,) float64. vector: (d,) float64."""
        return products(self.rows(items), vector)

    def scan(self, vector: np.ndarray, bias: np.ndarray | None = None, constant: float = 0.0) -> Iterator[Block]:
        """Approximate <vector, x> + bias + constant of all items. bias: (items,) float32."""
        for _, block in self.scan_many(vector[None], bias, constant):
            yield block

    def scan_many(
        self, vectors: np.ndarray, bias: np.ndarray | None = None, constant: float = 0.0
    ) -> Iterator[tuple[int, Block]]:
        """Approximations for each of `vectors` (B, d), with one reading of the table: the vector's place, and a block.

        The bound of a block holds in whatever order a library sums, so it holds for every B.
        """
        with np.errstate(over="ignore"):  # refused below
            short = vectors.astype(np.float32)
            lengths_of = (np.sqrt(np.square(vectors).sum(1)) * (1 + 1e-6)).astype(np.float32)
        if not (np.isfinite(short).all() and np.isfinite(lengths_of).all()):
            raise InputError("scores: this history gives a vector beyond the range of float32; fetch another model")
        for start, table in self._approximations(short):
            for place, scores in enumerate(table):
                stop = start + len(scores)
                errors = self._levels.radius[start:stop] * lengths_of[place]
                errors += np.float32(ROUNDING) * np.abs(scores)
                if bias is not None:
                    errors += np.float32(2 * ROUNDING) * np.abs(bias[start:stop])
                    scores += bias[start:stop]
                if constant:
                    errors += np.float32(2 * ROUNDING * abs(constant))
                    scores += np.float32(constant)
                yield place, Block(start, scores, errors)

    @cached_property
    def _levels(self) -> "Levels":
        """What the scan reads."""
        if self._rows is not None:
            return Levels(None, np.zeros(0, np.float32), radius_of(self._rows, None, None))
        if self._index is None:
            parts = zip(*(quantise(rows) for _, rows in self.blocks()), strict=True)
            return Levels(*map(np.concatenate, parts))
        held = self.items * self.dim <= HELD
        levels = self._index.read(f"{self._name}/levels") if held else None
        return Levels(levels, self._index.read(f"{self._name}/scales"), self._index.read(f"{self._name}/radius"))

    def _approximations(self, vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """First position, and the products (B, n) of vectors (B, d) with the next items."""
        if self._rows is not None:
            yield 0, vectors @ self._rows.T
            return
        step = max(1, SCANNED // self.dim)
        wide, read = np.empty((step, self.dim), np.float32), np.empty((step, self.dim), np.int8)
        table = self._levels
        for start in range(0, self.items, step):
            stop = min(start + step, self.items)
            if table.levels is not None:
                levels = table.levels[start:stop]
            else:
                assert self._index is not None
                levels = read[: stop - start]
                self._index.read_into(f"{self._name}/levels", start, levels)
            np.copyto(wide[: stop - start], levels)
            scores = vectors @ wide[: stop - start].T
            scores *= table.scales[start:stop]
            yield start, scores


@dataclass(frozen=True)
class Levels:
    """levels (items, d) int8, None where a scan reads them in blocks; scales and radius (items,) float32."""

    levels: np.ndarray | None
    scales: np.ndarray
    radius: np.ndarray


def blocks_of(file: TensorFile, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of a float32 tensor, some at a time: the first position and (n, d)."""
    items, dim = file.shape(name)
    step = max(1, SCANNED // max(1, dim))
    for start in range(0, items, step):
        rows = np.empty((min(step, items - start), dim), np.float32)
        file.read_into(name, start, rows)
        yield start, rows
