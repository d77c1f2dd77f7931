"""The public features of a run's items in the form that a device without tables and torch makes kernels of.

The kernels that `fedrec.kernels.public` factors by drawn pivots follow from the run's seed, which nobody knows before
the run. So the file holds the features, and a device factors the kernels (`fedrec.ondevice.training.public_kernels`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedrec.durable import replace
from fedrec.errors import InputError
from fedrec.ondevice.tensor_file import TensorFile, header_of

CATEGORIES, NUMBERS, TEXTS = "categories", "numbers", "texts"
_OF_KIND = {CATEGORIES: {"member"}, NUMBERS: {"values"}, TEXTS: {"columns", "values", "width"}}


@dataclass(frozen=True)
class KernelBlock:
    """One block of features.

    Attributes:
        name: of the block.
        kind: `categories`, `numbers` or `texts`.
        arrays: member (items, labels) bool; or values (items,) float64, NaN where unknown; or columns and values
            (items, words) and width (1,) of sparse rows.
    """

    name: str
    kind: str
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class KernelItems:
    """The features.

    Attributes:
        digest: of the whole catalogue (`fedrec.data.catalogue.Catalogue.digest`), hex.
        items: size of the catalogue.
        blocks: in catalogue order.
    """

    digest: str
    items: int
    blocks: tuple[KernelBlock, ...]

    def write(self, file: Path) -> None:
        """Write the features to a file, in the place of what was there."""
        arrays = {
            f"{place}/{name}": np.ascontiguousarray(value)
            for place, block in enumerate(self.blocks)
            for name, value in block.arrays.items()
        }
        names = [[block.name, block.kind] for block in self.blocks]
        about = {"digest": self.digest, "items": str(self.items), "blocks": json.dumps(names)}
        head = header_of([(name, value.dtype, value.shape) for name, value in arrays.items()], about)
        replace(file, head + b"".join(value.tobytes() for value in arrays.values()))

    @classmethod
    def read(cls, file: Path, digest: str, items: int) -> "KernelItems":
        """Read a file of `write`.

        Args:
            file: the file.
            digest: of the run's catalogue.
            items: how many it has.

        Raises: InputError where it is none, or of another catalogue.
        """
        found = TensorFile(file)
        try:
            if (found.metadata["digest"], int(found.metadata["items"])) != (digest, items):
                raise ValueError("of another catalogue")
            names = json.loads(found.metadata["blocks"])
            blocks = tuple(
                KernelBlock(str(name), str(kind), found.read_below(f"{place}/"))
                for place, (name, kind) in enumerate(names)
            )
            for block in blocks:
                _check(block, items)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise InputError(f"{file}: no features of this run's items ({error}); `fedrec client items`") from None
        finally:
            found.close()
        return cls(digest, items, blocks)


def features_of(items: Path) -> Path:
    """Return the place of the features of a file of items: the same name, ending in `.features`."""
    return items.with_suffix(".features")


def _check(block: KernelBlock, items: int) -> None:
    arrays = block.arrays
    if set(arrays) != _OF_KIND[block.kind]:
        raise ValueError("another kind of block")
    if any(len(value) != items for name, value in arrays.items() if name != "width"):
        raise ValueError("another number of items")
    if block.kind == CATEGORIES and (arrays["member"].dtype != bool or arrays["member"].ndim != 2):
        raise ValueError("labels of another type")
    if block.kind == NUMBERS and (arrays["values"].dtype != np.float64 or arrays["values"].ndim != 1):
        raise ValueError("numbers of another type")
    if block.kind == TEXTS:
        columns, width = arrays["columns"], int(arrays["width"][0])
        if columns.ndim != 2 or columns.shape != arrays["values"].shape or columns.dtype.kind != "i":
            raise ValueError("words of another shape")
        if not 1 <= width <= 1 << 20 or (columns.size and not 0 <= int(columns.min()) <= int(columns.max()) < width):
            raise ValueError("a word out of range")
