"""A cap on rows around any algorithm that asks for sums with a row for each item; see `fedrec.privacy.row_cap`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared, Wrapper, layers
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.plugins import is_own
from fedrec.privacy.clipping import measured
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.privacy.row_cap import CappedRows
from fedrec.settings import Settings


class RowCapConfig(Settings):
    """The cap."""

    cap: float
    """Largest L2 norm of an item's row of a user's part, in clips."""


class RowCapped(Wrapper):
    """`inner` whose users cut each item's row of their parts, before the clip on the whole part.

    Raises:
        InputError: when no sum has a row for each item.
    """

    name: ClassVar[str] = "row-cap"
    Config = RowCapConfig
    own_names = "row-cap."
    config: RowCapConfig

    def __init__(self, inner: Algorithm, config: RowCapConfig) -> None:
        super().__init__(inner, config, inner.facts)
        if not any(query.row_cap for number in range(inner.rounds) for query in self.queries(number)):
            raise InputError(f"privacy.row_cap: no sum of '{inner.name}' has a row for each item; leave it out")

    @property
    def rounds(self) -> int:
        return self.inner.rounds

    @property
    def preparation(self) -> int:
        return self.inner.preparation

    @property
    def server_only(self) -> frozenset[str]:
        return self.inner.server_only

    def initial(self) -> Shared:
        return self.inner.initial()

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        items, cap = len(self.facts.catalogue), self.config.cap
        return tuple(
            replace(query, row_cap=cap) if query.shape[0] == items else query
            for query in self.inner.queries(round_index)
        )

    def adds(self, keys: Tensor, round_index: int) -> Tensor | None:
        return self.inner.adds(keys, round_index)

    def for_devices(self, shared: Shared, round_index: int) -> Shared:
        return self.inner.for_devices(shared, round_index)

    def fault(self, shared: Shared, round_index: int) -> str:
        return self.inner.fault(shared, round_index)

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        given = self.inner.contribute(shared, users, round_index)
        ours = all(is_own(type(each)) for each in layers(self.inner))
        for query in self.queries(round_index):
            if query.row_cap is not None:
                own = ours and is_own(type(given[query.name]))
                part = measured(given[query.name], len(users), query.shape, own=own)
                given[query.name] = CappedRows(part, query.row_cap * query.clip_norm, len(users), query, own=own)
        return given

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        return self.inner.update(shared, sums, round_index)

    def rebuilt(self, facts: Any) -> Algorithm:
        return RowCapped(self.inner.rebuilt(facts), self.config)
