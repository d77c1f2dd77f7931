"""What a round of secure aggregation follows from, for parties without PyTorch: nodes, server and helper."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrec.secagg.vectors import word


def least_nodes(nodes: int, dropout: float) -> int:
    """Return the fewest nodes whose sum is revealed."""
    return max(2, nodes - int(dropout * nodes + 1e-9))


def model_digest(question: str, counts: Sequence[int], queries: Sequence[tuple[str, int, tuple[int, ...]]]) -> bytes:
    """Return the field `model` of a round, 32 bytes.

    Args:
        question: digest (hex) of what all nodes are asked.
        counts: users of each node who are asked, in the order of the roster.
        queries: name, bits of the modulus and shape of each sum, in the order of the round.
    """
    return hashlib.sha256(json.dumps([question, list(counts), list(queries)]).encode()).digest()


def one_vector(parts: Sequence[tuple[NDArray[Any], int]], bits: int) -> NDArray[Any]:
    """Return the one vector of all sums of a round, modulo 2^bits.

    A sum modulo 2^b is multiplied by 2^(bits - b), so that adding modulo 2^bits shows nothing but the sum modulo 2^b.

    Args:
        parts: each sum, whole numbers from 0 to 2^b - 1 of any shape, and its b.
        bits: of the vector's modulus, at least every b.
    """
    scaled = [sums.reshape(-1).astype("<u8") << np.uint64(bits - b) for sums, b in parts]
    return np.concatenate(scaled).astype(word(bits))
