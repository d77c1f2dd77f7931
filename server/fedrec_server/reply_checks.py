"""What a server can check of a node's sums, all of it, in one table. Whatever fails one check is not used at all.

What it cannot see: whether a sum of that size was made of honest contributions. A node that hosts n users can move a
sum by n times the clip and no further; without privacy there is no clip, and only the form is checked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec import wire
from fedrec.federation import exchange
from fedrec.privacy.queries import SumQuery
from fedrec.wire import Packet, WireError
from fedrec_server.directory import refused_by_node

ROUNDING = 1e-4
"""Relative: what float32 sums may err by."""


@dataclass(frozen=True)
class Expected:
    """What was asked of one node. users: how many of its users take part. private: whether their parts are clipped."""

    mark: str
    round: int
    queries: Sequence[SumQuery]
    users: int
    private: bool


Check = Callable[[Tensor, SumQuery, Expected], bool]

CHECKS: dict[str, Check] = {
    "dtype": lambda value, *_: value.dtype == torch.float32,
    "shape": lambda value, query, _: tuple(value.shape) == query.shape,
    "not finite": lambda value, *_: bool(value.isfinite().all()),
    "oversize": lambda value, query, asked: (
        not asked.private or float(value.double().norm()) <= asked.users * query.clip_norm * (1 + ROUNDING)
    ),
}
"""Of each sum, in this order: what holds for every honest node."""


def checked_sums(packet: Packet, asked: Expected) -> dict[str, Tensor]:
    """The sums of a node's answer by query. Raises: WireError whose code says which check failed."""
    if packet.kind == exchange.REFUSAL and packet.version == wire.VERSION:
        raise refused_by_node(packet)
    packet.expect(exchange.SUMS, asked.mark, asked.round)
    if packet.facts or packet.tensors.keys() != {query.name for query in asked.queries}:
        raise WireError("names", "an answer to other queries")
    for query in asked.queries:
        for code, holds in CHECKS.items():
            if not holds(packet.tensors[query.name], query, asked):
                raise WireError(code, f"query '{query.name}': a sum that no honest node can send")
    return dict(packet.tensors)
