"""The features of a catalogue from which devices make the kernels of `kernel-rank`."""

import numpy as np

from fedrec.data.catalogue import Catalogue, Categories, Numbers, Texts
from fedrec.kernels.public import text_map
from fedrec.ondevice.kernel_items import CATEGORIES, NUMBERS, TEXTS, KernelBlock, KernelItems


def kernel_items(catalogue: Catalogue) -> KernelItems | None:
    """Return the features of the items, for `KernelItems.write`; None for a catalogue with vectors.

    Words are counted here, and a device gets their sparse rows.
    """
    blocks = []
    for block in catalogue.blocks:
        if isinstance(block, Categories):
            made = KernelBlock(block.name, CATEGORIES, {"member": np.asarray(block.membership, bool)})
        elif isinstance(block, Numbers):
            made = KernelBlock(block.name, NUMBERS, {"values": np.asarray(block.values, np.float64)})
        elif isinstance(block, Texts):
            words = text_map(block)
            if words is None:
                continue
            made = KernelBlock(block.name, TEXTS, {name: part.numpy() for name, part in words.tensors().items()})
        else:
            return None
        blocks.append(made)
    return KernelItems(catalogue.digest, len(catalogue), tuple(blocks))
