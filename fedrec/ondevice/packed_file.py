"""The tensors of a compressed model, read as if they were float32: whole, some rows, or a block of rows at a time."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.ondevice.tensor_file import TensorFile
from fedrec.packed_tensors import Packing, unpack_rows


class PackedFile(TensorFile):
    """A model's file in which some tensors are packed (`fedrec.packed_tensors`). Only what is asked for is unpacked."""

    def __init__(self, path: Path, packed: Mapping[str, Any]) -> None:
        """Open the file.

        Args:
            path: of the tensors.
            packed: of the manifest, name -> packing.

        Raises:
            InputError: as `TensorFile`, and where a part is missing.
            ValueError: for a packing that does not fit its parts.
        """
        super().__init__(path)
        self._packed = {name: Packing.read(about) for name, about in packed.items()}
        for name, packing in self._packed.items():
            count = packing.rows[0]
            for part in packing.parts:
                if part != "values" and super().shape(f"{name}@{part}")[0] != count:
                    raise ValueError(f"{name}@{part}: has another number of rows")

    def __contains__(self, name: str) -> bool:
        return name in self._packed or super().__contains__(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._packed[name].shape if name in self._packed else super().shape(name)

    def read(self, name: str) -> np.ndarray:
        if name not in self._packed:
            return super().read(name)
        packing = self._packed[name]
        rows = unpack_rows({part: TensorFile.read(self, f"{name}@{part}") for part in packing.parts}, packing)
        return rows.ravel()[: int(np.prod(packing.shape, dtype=np.int64))].reshape(packing.shape)

    def read_below(self, prefix: str) -> dict[str, np.ndarray]:
        names = [name for name in self.places if "@" not in name] + list(self._packed)
        return {name.removeprefix(prefix): self.read(name) for name in names if name.startswith(prefix)}

    def rows(self, name: str, chosen: np.ndarray) -> np.ndarray:
        if name not in self._packed:
            return super().rows(name, chosen)
        packing, parts = self._packed[name], dict[str, np.ndarray]()
        for part in packing.parts:
            if part != "values":
                parts[part] = super().rows(f"{name}@{part}", chosen)
        if packing.masked:
            ends = self._ends[name]
            values = [self._values(name, int(ends[row]), int(ends[row + 1])) for row in chosen.tolist()]
            parts["values"] = np.concatenate([*values, self._values(name, 0, 0)])
        return unpack_rows(parts, packing)

    def read_into(self, name: str, start: int, out: np.ndarray) -> None:
        if name not in self._packed:
            super().read_into(name, start, out)
            return
        packing, parts = self._packed[name], dict[str, np.ndarray]()
        for part in packing.parts:
            if part != "values":
                place = self.place(f"{name}@{part}")
                parts[part] = np.empty((len(out), *place.shape[1:]), place.dtype)
                super().read_into(f"{name}@{part}", start, parts[part])
        if packing.masked:
            ends = self._ends[name]
            parts["values"] = self._values(name, int(ends[start]), int(ends[start + len(out)]))
        out[...] = unpack_rows(parts, packing)

    def _values(self, name: str, first: int, stop: int) -> np.ndarray:
        found = np.empty(stop - first, self.place(f"{name}@values").dtype)
        if len(found):
            super().read_into(f"{name}@values", first, found)
        return found

    @cached_property
    def _ends(self) -> dict[str, np.ndarray]:
        """Masked tensor -> where the values of each row begin, (rows + 1,)."""
        found = {}
        for name, packing in self._packed.items():
            if packing.masked:
                mask = TensorFile.read(self, f"{name}@mask")
                counts = np.bitwise_count(mask).sum(1, dtype=np.int64)
                found[name] = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
                if int(found[name][-1]) != super().shape(f"{name}@values")[0]:
                    raise ValueError(f"{name}: its mask keeps another number of values")
        return found
