"""What is released of an exact sum: integers with integer noise, and nothing that they cannot hold."""

import pytest
import torch

from fedrec.errors import PrivacyError
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery
from tests.core.privacy.test_plan import nothing, plan, query


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32])
def test_a_sum_that_is_not_exact_is_not_released(dtype: torch.dtype) -> None:
    ours = plan([(query(),)])
    ours.charge(0)
    with pytest.raises(PrivacyError, match="only exact sums"):
        ours.privatise(0, query(), torch.zeros(3, dtype=dtype))
    ours.privatise(0, query(), nothing(3))  # the charge is still there


@pytest.mark.parametrize("clip", [1e-3, 1.0, 3.5])
def test_total_and_noise_are_added_as_integers(clip: float) -> None:
    """Totals that differ by a whole number of the grid are released with that difference, to the last bit."""
    asked = SumQuery("sum", (6,), clip, 1.0, packed=3)
    lattice = plan([(asked,)]).lattice(asked)
    for packed in (3, 0):
        asked = SumQuery("sum", (6,), clip, 1.0, packed=packed)
        values = []
        for total in (nothing(6), nothing(6) + (1 << 36)):
            ours = plan([(asked,)], seed=3)
            ours.charge(0)
            values.append(ours.privatise(0, asked, total).value.double())
        units = asked.units(torch.device("cpu")) if packed else torch.ones(6, dtype=torch.float64)
        expected = (1 << 36) * lattice.step * units
        assert torch.allclose(values[1] - values[0], expected, rtol=0 if not packed else 2**-8, atol=0), packed


@pytest.mark.parametrize("users", [2**30, 2**30 + 1])
def test_a_population_that_exact_sums_cannot_hold_is_refused(users: int) -> None:
    def build() -> PrivacyPlan:
        return PrivacyPlan.build(PrivacyConfig(epsilon=1.0, delta=1e-12), [(query(),)], users, 0)

    if users == 2**30:
        assert build().lattice(query()).exponent == -30  # 2^30 users with 2^30 steps each stay below 2^63
        return
    with pytest.raises(PrivacyError, match="exact sums hold at most"):
        build()


def test_noise_that_exact_sums_cannot_hold_is_refused() -> None:
    with pytest.raises(PrivacyError, match=r"is more than exact sums hold; raise privacy\.epsilon"):
        PrivacyPlan.build(PrivacyConfig(epsilon=1e-9, delta=1e-14), [(query(),)], 100, 0)
