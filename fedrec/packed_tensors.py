"""Float32 tensors in fewer bytes: int8 or 4-bit levels with scales, and masks for entries that are zero.

| form | parts of a tensor of rows (n, d) | value |
|---|---|---|
| int8 | levels (n, d) int8, scales (n,) float32 | level x scale |
| int4 | levels (n, ceil(d / 2)) uint8, the lower half first; scales (n, ceil(d / 32)) float16 | (half - 8) x scale |
| masked | mask (n, ceil(d / 8)) uint8, values of the entries that are kept, row by row | zero elsewhere |

A value is one product of float32 numbers, and packing rounds to nearest, ties to even: both give the same bits on every
machine. A tensor of one dimension is packed as rows of 64 numbers. All parts of a tensor NAME are named `NAME@PART`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

GROUP = 32
"""Numbers of a row that share a scale, of 4-bit levels."""
LINE = 64
"""Numbers of a row, of a tensor of one dimension."""
PARTS = {"int8": ("levels", "scales"), "int4": ("levels", "scales"), "float32": ()}
_MASKED = {"int8": ("mask", "values", "scales"), "float32": ("mask", "values")}


@dataclass(frozen=True)
class Packing:
    """How a tensor is packed.

    Attributes:
        form: of its values.
        shape: of the tensor.
        masked: whether only some entries are kept.
    """

    form: Literal["float32", "int8", "int4"]
    shape: tuple[int, ...]
    masked: bool = False

    @classmethod
    def read(cls, about: Any) -> "Packing":
        """Return it from a manifest. Raises: ValueError for what is none."""
        if not isinstance(about, dict) or set(about) != {"form", "shape", "masked"}:
            raise ValueError("a packed tensor has form, shape and masked")
        form, shape, masked = about["form"], about["shape"], about["masked"]
        if form not in PARTS or not isinstance(masked, bool) or not isinstance(shape, list) or not shape:
            raise ValueError("an unknown packing")
        if any(type(side) is not int or not 0 <= side < 1 << 40 for side in shape) or (masked and form not in _MASKED):
            raise ValueError("an impossible packing")
        return cls(form, tuple(shape), masked)

    @property
    def about(self) -> dict[str, Any]:
        """The same for a manifest."""
        return {"form": self.form, "shape": list(self.shape), "masked": self.masked}

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its parts."""
        return _MASKED[self.form] if self.masked else PARTS[self.form]

    @property
    def rows(self) -> tuple[int, int]:
        """The shape of its rows."""
        if len(self.shape) == 1:
            return -(-self.shape[0] // LINE), LINE
        return int(np.prod(self.shape[:-1], dtype=np.int64)), self.shape[-1]


def pruned(tensor: np.ndarray, part: float) -> np.ndarray:
    """Return the tensor with its `part` of the smallest entries, by magnitude, set to zero; ties are kept."""
    sizes = np.abs(tensor).ravel()
    count = int(part * sizes.size)
    if not count:
        return tensor
    least = np.partition(sizes, count)[count]
    return np.where(np.abs(tensor) < least, np.float32(0), tensor)


def pack(tensor: np.ndarray, packing: Packing) -> dict[str, np.ndarray]:
    """Return the parts of a float32 tensor."""
    count, width = packing.rows
    line = np.zeros(count * width, np.float32)
    line[: tensor.size] = tensor.ravel()
    rows = line.reshape(count, width)
    parts: dict[str, np.ndarray] = {}
    if packing.masked:
        kept = rows != 0
        parts["mask"] = np.packbits(kept, axis=1, bitorder="little")
    if packing.form == "float32":
        values = rows
    elif packing.form == "int8":
        parts["scales"] = _scale(rows, 127).astype(np.float32)
        values = _levels(rows, parts["scales"][:, None], 127).astype(np.int8)
    else:
        groups = -(-width // GROUP)
        wide = np.zeros((count, groups * GROUP), np.float32)
        wide[:, :width] = rows
        scales = _scale(wide.reshape(count, groups, GROUP), 7).astype(np.float16)
        scales = np.where(np.isfinite(scales), scales, np.finfo(np.float16).max)
        each = np.repeat(scales.astype(np.float32), GROUP, axis=1)[:, :width]
        halves = np.zeros((count, width + width % 2), np.uint8)
        halves[:, :width] = _levels(rows, each, 7) + 8
        return parts | {"levels": halves[:, ::2] | halves[:, 1::2] << 4, "scales": scales}
    return parts | ({"values": values[kept]} if packing.masked else {"levels": values})


def unpack_rows(parts: Mapping[str, np.ndarray], packing: Packing) -> np.ndarray:
    """Return the float32 rows of parts that hold the same rows each, (n, width). Raises: ValueError if they differ."""
    width = packing.rows[1]
    if packing.form == "int4":
        levels, scales = parts["levels"], parts["scales"].astype(np.float32)
        halves = np.stack([levels & 15, levels >> 4], axis=2).reshape(len(levels), -1)[:, :width]
        return (halves.astype(np.float32) - 8) * np.repeat(scales, GROUP, axis=1)[:, :width]
    if packing.masked:
        kept = np.unpackbits(parts["mask"], axis=1, bitorder="little", count=width).astype(bool)
        found = np.zeros(kept.shape, np.float32)
        found[kept] = parts["values"]
    else:
        found = parts["levels"].astype(np.float32)
    return found if packing.form == "float32" else found * parts["scales"][:, None]


def unpack(tensors: Mapping[str, np.ndarray], packed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return all tensors of a model, with float32 ones in the place of packed ones.

    Args:
        tensors: of the file.
        packed: of the manifest, name -> packing.

    Raises:
        ValueError, KeyError: for parts that do not fit.
    """
    found = dict(tensors)
    for name, about in packed.items():
        packing = Packing.read(about)
        parts = {part: found.pop(f"{name}@{part}") for part in packing.parts}
        rows = unpack_rows(parts, packing)
        found[name] = rows.ravel()[: int(np.prod(packing.shape, dtype=np.int64))].reshape(packing.shape)
    return found


def _scale(rows: np.ndarray, most: int) -> np.ndarray:
    found: np.ndarray = np.abs(rows).max(-1, initial=0.0) / np.float32(most)
    return found


def _levels(rows: np.ndarray, scales: np.ndarray, most: int) -> np.ndarray:
    wide = scales.astype(np.float32)
    found: np.ndarray = np.rint(rows / np.where(wide > 0, wide, np.float32(1))).clip(-most, most)
    return np.where(wide > 0, found, 0).astype(np.int16)
