"""Vectors of items from a public donor log: which items the same people use, as feature columns of another catalogue.

The spectrum of the donor's users x items table, users and items weighted down by their counts (Cremonesi et al. 2010;
the weights follow Shen et al. 2021). A vector is public data like any other feature: it costs no budget, as long as the
donor log is public and its people are not people of the private log (`fedrec.donors.overlap`).
"""

import hashlib

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds

from fedrec.data.histories import Histories
from fedrec.errors import InputError

LEAST_USERS = 2
"""An item that fewer donor users have gets no vector."""
_POWER = -0.25


def spectral(donor: Histories, kept: np.ndarray, place: np.ndarray, items: int, width: int) -> np.ndarray:
    """Compute the vectors of the items of another catalogue, (items, width) float32, 0 where the donor knows none.

    Args:
        donor: the public log.
        kept: (donor users,) bool, whose events count.
        place: (donor items,) position of each donor item in the other catalogue, -1 for none.
        items: size of the other catalogue.
        width: numbers a vector.

    Raises:
        InputError: for a donor with too few users or items in common.
    """
    owners = np.repeat(np.arange(len(donor)), donor.lengths)
    at = place[donor.items]
    used = kept[owners] & (at >= 0)
    table = csr_matrix((np.ones(int(used.sum())), (owners[used], at[used])), shape=(len(donor), items))
    table.data[:] = 1.0
    of_user, of_item = np.asarray(table.sum(1)).ravel(), np.asarray(table.sum(0)).ravel()
    if min(int((of_user > 0).sum()), int((of_item > 0).sum())) <= width:
        raise InputError(
            f"the donor has {int((of_user > 0).sum())} users and {int((of_item > 0).sum())} items in common with the "
            f"catalogue, too few for {width} numbers a vector; give a smaller --width"
        )
    weighted = diags(np.maximum(of_user, 1) ** _POWER) @ table @ diags(np.maximum(of_item, 1) ** _POWER)
    start = np.ones(min(weighted.shape))
    _, values, right = svds(weighted.tocsc(), k=width, v0=start)
    order = np.argsort(-values)
    vectors = (right[order] * values[order, None]).T
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(width)])  # the same on every machine
    vectors = (vectors * signs).astype(np.float32)
    vectors[of_item < LEAST_USERS] = 0.0
    return vectors


def digest(donor: Histories, ids: tuple[str, ...], kept: np.ndarray) -> str:
    """Return the SHA-256 (hex) of the kept events: items' ids, and each user's items without order."""
    found = hashlib.sha256("\n".join(ids).encode())
    for user in np.flatnonzero(kept):
        rows = np.sort(donor.items[donor.offsets[user] : donor.offsets[user + 1]]).astype("<i8")
        found.update(len(rows).to_bytes(8, "little") + rows.tobytes())
    return found.hexdigest()
