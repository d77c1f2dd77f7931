"""The server's checks of a node's sums, all in one table. A reply that fails one check is not used at all.

The server cannot check whether honest contributions make up a sum of the right size. A node that hosts n users can
move a sum by n times the clip and no further, and under a cap on rows each row by n caps. Without privacy there
is no clip, and only the form is checked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec import wire
from fedrec.federation import exchange
from fedrec.privacy.discrete.encoding import Encoding
from fedrec.privacy.fixed_point import ROOM
from fedrec.privacy.integers import total_shape
from fedrec.privacy.queries import SumQuery
from fedrec.privacy.row_cap import longest_row
from fedrec.wire import Packet, WireError
from fedrec_server.flower.nodes import refused_by_node

ROUNDING = 1e-9
"""Relative error of the norm of a sum, computed in float64. The sum itself is exact."""


@dataclass(frozen=True)
class Expected:
    """The reply that the server expects of one node.

    Attributes:
        mark: hash of the run's description.
        round: position of the round, from 0.
        queries: the queries of the round.
        users: number of the node's users who take part.
        private: whether their contributions are clipped.
        population: users of the whole run, from which the lattice of the sums follows.
        encodings: of each query's integers, where users add the noise; None in trust model `central`.
        noised: whether the node must have added its users' noise.
    """

    fingerprint: str
    round: int
    queries: Sequence[SumQuery]
    users: int
    private: bool
    population: int
    encodings: Mapping[str, Encoding] | None = None
    noised: bool = False


Check = Callable[[Tensor, SumQuery, Expected], bool]


def _length(value: Tensor, query: SumQuery, expected: Expected) -> float:
    return float(query.decode(value, query.lattice(expected.population)).norm())


def _row(value: Tensor, query: SumQuery, expected: Expected) -> float:
    return longest_row(query.decode(value, query.lattice(expected.population)))


CHECKS: dict[str, Check] = {
    "dtype": lambda value, *_: value.dtype == torch.int64,
    "shape": lambda value, query, _: tuple(value.shape) == query.shape,
    "overflow": lambda value, *_: not value.numel() or -(1 << ROOM) < int(value.min()) <= int(value.max()) < 1 << ROOM,
    "oversize": lambda value, query, expected: (
        not expected.private or _length(value, query, expected) <= expected.users * query.clip_norm * (1 + ROUNDING)
    ),
    "row": lambda value, query, expected: (
        query.row_cap is None
        or _row(value, query, expected) <= expected.users * query.row_cap * query.clip_norm * (1 + ROUNDING)
    ),
}
"""Checks of each sum of trust model `central`, in this order, which every honest node passes."""


def _integers(expected: Expected, query: SumQuery) -> Encoding:
    assert expected.encodings is not None
    return expected.encodings[query.name]


INTEGER_CHECKS: dict[str, Check] = {
    "dtype": CHECKS["dtype"],
    "shape": lambda value, query, expected: tuple(value.shape) == total_shape(query, _integers(expected, query)),
    "overflow": lambda value, query, expected: (
        not value.numel() or 0 <= int(value.min()) <= int(value.max()) < 1 << _integers(expected, query).bits
    ),
}
"""Checks of each sum to which users add the noise. The modulus hides its size, so no check bounds what a node adds."""


def checked_sums(packet: Packet, expected: Expected) -> dict[str, Tensor]:
    """Return the sums of a node's answer, by query. Raises: WireError, with the failed check as its code."""
    if packet.kind == exchange.REFUSAL and packet.version == wire.VERSION:
        raise refused_by_node(packet)
    packet.expect(exchange.SUMS, expected.fingerprint, expected.round)
    known, checks = {exchange.RECEIPT, exchange.NONCE}, CHECKS
    if expected.encodings is not None:
        known, checks = known | {exchange.NOISED}, INTEGER_CHECKS
        if packet.facts.get(exchange.NOISED) is not expected.noised:
            raise WireError("noise", "an answer whose noise is missing, or added where one draw is for all")
    if packet.facts.keys() - known or packet.tensors.keys() != {query.name for query in expected.queries}:
        raise WireError("names", "an answer to other queries")
    for query in expected.queries:
        for code, holds in checks.items():
            if not holds(packet.tensors[query.name], query, expected):
                raise WireError(code, f"query '{query.name}': a sum that no honest node can send")
    return dict(packet.tensors)
