"""The public features of a catalogue as the file that devices read for filters, likeness and questions."""

import numpy as np

from fedrec.data.catalogue import Catalogue, Categories, Numbers
from fedrec.ondevice.public_items import PublicItems


def public_items(catalogue: Catalogue) -> PublicItems:
    """The categories, numbers and titles of a catalogue, for `PublicItems.write`, without other texts and vectors."""
    categories = [block for block in catalogue.blocks if isinstance(block, Categories)]
    numbers = [block for block in catalogue.blocks if isinstance(block, Numbers)]
    found = PublicItems(
        len(catalogue),
        {block.name: tuple(block.labels) for block in categories},
        {block.name: np.asarray(block.membership, bool) for block in categories},
        {block.name: np.asarray(block.values, np.float64) for block in numbers},
    )
    return found if catalogue.titles is None else found.titled(catalogue.titles)
