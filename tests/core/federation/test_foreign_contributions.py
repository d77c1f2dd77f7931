"""An algorithm of another package that reports wrong norms moves no sum by more than the clip."""

import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm
from fedrec.errors import PrivacyError
from fedrec.federation.hosted import HostedUsers, Stopwatch
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, DenseContribution, SparseContribution, SumQuery
from fedrec.settings import Settings
from fedrec.testing.steps import Steps
from fedrec.testing.toy_users import USERS
from tests.core.evaluation.table_model import histories

CLIP, ITEMS = 1.0, 6
ROWS = [[0, 1], [2], [3, 4, 5]]


class Lying(DenseContribution):
    """Norms that are too small."""

    def norms(self):
        return super().norms() * 1e-3


class Adding(DenseContribution):
    """True norms, and a sum that is larger than its rows."""

    def add_to(self, total, weights, lattice):
        super().add_to(total, weights * 100, lattice)


class Changing(DenseContribution):
    """Rows that grow once they were measured."""

    asked = 0

    def dense(self, row):
        self.asked += 1
        return super().dense(row) * self.asked


def twice(values: torch.Tensor) -> Contribution:
    """Coordinates that occur twice, which the norm of sparse parts does not expect."""
    users = len(values)
    places = torch.tensor([0, 0, 0, 0]).repeat(users)
    owners = torch.arange(users).repeat_interleave(4)
    return SparseContribution(owners, places, torch.full((4 * users,), 0.5), users, (ITEMS,))


def more_rows(values: torch.Tensor) -> Contribution:
    return DenseContribution(torch.cat([values, values]))


class Strange(Algorithm):
    name = "strange"
    Config = Settings
    rounds = 1
    make = Lying

    def initial(self):
        return {}

    def queries(self, round_index):
        return (SumQuery("part", (ITEMS,), CLIP, 1.0),)

    def contribute(self, shared, users, round_index):
        values = 1e4 * torch.ones(len(users), ITEMS)
        return {"part": self.make(values)}

    def update(self, shared, sums, round_index):
        return shared

    def release(self, shared):
        raise NotImplementedError


def summed(kind, cohort: list[int]) -> torch.Tensor:
    algorithm = type("Other", (Strange,), {"make": staticmethod(kind)})(Settings(), Steps().facts())
    users = HostedUsers(histories(ROWS, ITEMS), seed=1)
    query = algorithm.queries(0)[0]
    totals = users.clipped_sums(
        algorithm,
        {},
        0,
        np.array(cohort),
        lambda query, part: clip_weights(part, query.clip_norm),
        Stopwatch(torch.device("cpu")),
    )
    return query.decode(totals["part"], Lattice.of(query.clip_norm, USERS))


@pytest.mark.parametrize("kind", [Lying, Adding, twice, DenseContribution])
def test_no_user_moves_the_sum_by_more_than_the_clip(kind):
    whole = summed(kind, [0, 1, 2])
    for leaving in range(3):
        rest = [user for user in range(3) if user != leaving]
        assert (whole - summed(kind, rest)).norm() <= CLIP * (1 + 1e-9)
        assert summed(kind, [leaving]).norm() <= CLIP


@pytest.mark.parametrize(
    ("kind", "reason"), [(Changing, "changed between its measurement and its sum"), (more_rows, "for 3 users")]
)
def test_parts_that_cannot_be_measured_are_refused(kind, reason):
    with pytest.raises(PrivacyError, match=reason):
        summed(kind, [0, 1, 2])
