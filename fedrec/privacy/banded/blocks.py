"""Who takes part in which step of a stream: each user in one of every `separation` steps, by a public draw.

The guarantee counts no amplification: the blocks are known to everybody, and each user's block is the same throughout
a run, so that two participations are exactly `separation` steps apart.
"""

import hashlib

import numpy as np
import torch

from fedrec import draws


def blocks(users: int, separation: int, label: str) -> np.ndarray:
    """Return each user's block (users,) int64, from 0: sizes differ by at most one user.

    Args:
        users: the public size of the population.
        separation: number of blocks.
        label: public text that the draw follows from.
    """
    seed = int.from_bytes(hashlib.sha256(f"fedrec participation\0{label}".encode()).digest()[:8], "little") >> 1
    order = torch.argsort(draws.keys(seed, torch.arange(users))).numpy()
    found = np.empty(users, dtype=np.int64)
    found[order] = np.arange(users) % separation
    return found
