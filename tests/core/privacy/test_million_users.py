"""A million users, and the same without one: the computed sum moves by that user's own integers, and by no more.

With float32 totals over chunks a population was built in which one user moved the sum by 1.94 clips: the users after
it fell into other chunks, and rounded otherwise. Here they do so, too.
"""

import math

import numpy as np
import pytest
import torch

from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import DenseContribution, SumQuery

USERS, CHUNK = 1_000_000, 65_536
QUERY = SumQuery("sum", (4,), 1.0, 1.0)


def population() -> torch.Tensor:
    """Vectors of very different lengths, which float32 totals would round differently in every order, (users, 4)."""
    drawn = np.random.default_rng(7)
    lengths = 10.0 ** drawn.uniform(-6, 6, (USERS, 1))
    return torch.from_numpy((drawn.normal(size=(USERS, 4)) * lengths).astype(np.float32))


def total(plan: PrivacyPlan, values: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    made = plan.integers(seed=3)
    found = made.zeros(QUERY, 0, torch.device("cpu"))
    for start in range(0, len(values), CHUNK):
        contribution = DenseContribution(values[start : start + CHUNK])
        made.add(found, QUERY, 0, contribution, plan.clip(QUERY, contribution), keys[start : start + CHUNK])
    return found


@pytest.mark.parametrize("trust", ["central", "local"])
@pytest.mark.parametrize(
    "leaves",
    [pytest.param(0, marks=pytest.mark.slow), CHUNK - 1, CHUNK, pytest.param(USERS - 1, marks=pytest.mark.slow)],
)
def test_a_user_of_a_million_who_leaves_moves_the_sum_by_its_own_integers(trust: str, leaves: int) -> None:
    config = PrivacyConfig(epsilon=1.0, delta=1e-7, trust=trust)
    plan = PrivacyPlan.build(config, [(QUERY,)], USERS, 1, "public")
    values, keys = population(), torch.arange(USERS)
    stays = keys != leaves
    whole, less = total(plan, values, keys), total(plan, values[stays], keys[stays])
    alone = total(plan, values[leaves : leaves + 1], keys[leaves : leaves + 1])
    if plan.discrete is None:
        assert torch.equal(whole - less, alone)
        assert float((whole - less).double().norm()) * plan.lattice(QUERY).step <= QUERY.clip_norm
        return
    made = plan.discrete.encoding(0, QUERY.name)
    moved = made.read(((whole - less) & ((1 << made.bits) - 1)).numpy())
    assert np.array_equal(moved, made.read(alone.numpy()))
    assert sum(int(each) ** 2 for each in moved) <= made.squared


def test_float32_totals_over_chunks_would_be_caught() -> None:
    """The test's population is one for which such sums move by more than the user who leaves."""
    values = population()
    values /= values.norm(dim=1, keepdim=True).clamp(min=1.0)
    whole, less = (
        sum((part.sum(0) for part in torch.split(some, CHUNK)), torch.zeros(4)) for some in (values, values[1:])
    )
    assert float((whole - less - values[0]).norm()) > 1e-6
    assert math.isfinite(float(whole.norm()))
