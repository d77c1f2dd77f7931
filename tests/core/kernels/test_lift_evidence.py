"""The mean squared lift of pairs: what is estimated, and its error."""

import math

import pytest
import torch

from fedrec.kernels.denoise import sampling_variance
from fedrec.kernels.lift_evidence import squared_lift

HEAD, USERS = 60, 500.0
POPULARITY = 40.0 / torch.arange(1, HEAD + 1) ** 0.3


def release(lift: float, noise: float, seed: int, factor: float = 0.0) -> torch.Tensor:
    """A noisy co-occurrence of independent pairs whose lifts have this deviation, and items a factor of their own."""
    generator = torch.Generator().manual_seed(seed)

    def drawn() -> torch.Tensor:
        upper = torch.randn(HEAD, HEAD, generator=generator).triu(1)
        return upper + upper.T

    expected = (0.02 * POPULARITY[:, None] * POPULARITY[None]).fill_diagonal_(0.0)
    own = factor * torch.randn(HEAD, generator=generator)
    counts = expected * (1 + lift * drawn() + (own[:, None] + own[None]) / 2)
    return counts + (sampling_variance(counts, expected, USERS) + noise**2).sqrt() * drawn()


@pytest.mark.parametrize("factor", [0.0, 0.4])
@pytest.mark.parametrize("lift", [0.0, 0.7])
def test_the_estimate_is_near_the_truth_within_its_error(lift: float, factor: float) -> None:
    """Items' own factors, as of long histories, are no lift."""
    found = [squared_lift(release(lift, 1.0, seed, factor), 1.0, POPULARITY, USERS) for seed in range(60)]
    values = torch.tensor([value for value, _ in found], dtype=torch.float64)
    assert float(values.mean()) == pytest.approx(lift**2, abs=0.1 if lift else 0.012)
    if not lift:
        typical = torch.tensor([error for _, error in found], dtype=torch.float64).mean()
        assert 2 / 3 < float(values.std() / typical) < 3 / 2


def test_more_noise_is_a_larger_error_and_no_pairs_an_infinite_one() -> None:
    quiet, loud = (squared_lift(release(0.0, noise, 0), noise, POPULARITY, USERS)[1] for noise in (0.5, 5.0))
    assert 4 * quiet < loud
    assert squared_lift(-release(0.0, 1.0, 0), 1.0, POPULARITY, USERS) == (0.0, math.inf)
