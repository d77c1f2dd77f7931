"""The released tensors of a model as a device form reads them, with the index where there is one."""

import numpy as np

from fedrec.ondevice.item_table import ItemTable
from fedrec.ondevice.tensor_file import TensorFile


class Source:
    """A model's tensors, and the index file made of them (see `fedrec.ondevice.index_file`)."""

    def __init__(self, file: TensorFile, index: TensorFile | None = None) -> None:
        self.file, self.index = file, index

    def read(self, name: str) -> np.ndarray:
        """Return a whole tensor."""
        return self.file.read(name)

    def table(self, name: str) -> ItemTable:
        """Return the vectors of all items in a tensor (items, d)."""
        return ItemTable(self.file, name, self.index)

    def gram(self, table: ItemTable, name: str) -> np.ndarray:
        """sum over items of x x^T, (d, d) float64, from the index where it has the sum."""
        stored = f"{name}/gram"
        return self.index.read(stored) if self.index is not None and stored in self.index else table.gram()
