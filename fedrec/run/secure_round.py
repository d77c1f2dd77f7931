"""What a round of secure aggregation follows from, for parties without PyTorch: nodes, server and helper."""

import hashlib
import json
from collections.abc import Sequence


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
