"""recent-counts: how often each item is among a user's newest events; everybody gets the most frequent items.

One round, one query. Each user adds a vector with a one at each of the `newest` last items. fedrec clips that whole
vector, adds the noise, charges the budget and writes the ledger; nothing of that is in this file.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.algorithms.popularity import PopularityModel
from fedrec.data.users import UserBatch
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.settings import Settings


class RecentCountsConfig(Settings):
    """Settings of `recent-counts`."""

    newest: int = Field(5, ge=1)
    """Events of a user that count, the newest ones."""


class RecentCounts(Algorithm):
    """Counts the newest events of each user."""

    name: ClassVar[str] = "recent-counts"
    Config: ClassVar[type[Settings]] = RecentCountsConfig

    @property
    def rounds(self) -> int:
        return 1

    @property
    def server_only(self) -> frozenset[str]:
        """What no device reads; it is not sent."""
        return frozenset({"counts"})

    def initial(self) -> Shared:
        return {"counts": torch.zeros(len(self.facts.catalogue), device=self.facts.device)}

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        """One sum, which may use the whole budget. The clip is the norm of a user with `newest` different items."""
        return (SumQuery("counts", (len(self.facts.catalogue),), self.config.newest**0.5, budget_share=1.0),)

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        """A row for each user, which depends on that user alone."""
        kept = users.lags < self.config.newest
        rows = torch.zeros(len(users), users.n_items, device=users.device)
        rows[users.owners[kept], users.items[kept]] = 1.0
        return {"counts": DenseContribution(rows)}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        """Divides by the expected cohort, which is public, and never by a count of users."""
        return {"counts": sums["counts"].value / self.facts.expected_cohort}

    def release(self, shared: Shared) -> PopularityModel:
        return PopularityModel(shared["counts"]).by(self.name)
