"""The popularity denoiser of a large catalogue: the values of the slow one, for a tenth of the work."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrec.data.catalogue import Catalogue, Categories
from fedrec.kernels import posterior
from fedrec.kernels.popularity import FLOOR, denoise
from fedrec.kernels.posterior import CLEAR, GRID, LogPosterior
from fedrec.kernels.public import PublicKernels, public_kernels
from fedrec.privacy.queries import PrivateSum


def slow_moments(noisy: Tensor, sigma: float, mean: Tensor, variance: float, top: float) -> tuple[Tensor, Tensor]:
    """The oracle: every item on the grid, in double precision."""
    log_grid = torch.linspace(math.log(FLOOR), math.log(top), GRID, dtype=torch.float64)
    fit = -(((noisy[:, None].double() - log_grid.exp()) / sigma) ** 2) - (log_grid - mean[:, None]) ** 2 / variance
    weight = torch.softmax(fit / 2, 1)
    expected = weight @ log_grid
    return expected, weight @ log_grid**2 - expected**2


def slow_denoise(release: PrivateSum, public: PublicKernels, steps: int) -> Tensor:
    """EM as the formulas say it: residuals item by item, no table, no sufficient statistics."""
    noisy, sigma = release.value, release.noise_std
    top = max(float(noisy.max()), 10 * FLOOR)
    rows = public.rows(torch.arange(len(noisy))).double()
    penalty = torch.full((rows.shape[1],), 3.0, dtype=torch.float64)
    penalty[-1] = 1e-3
    mean = torch.full((len(noisy),), (math.log(FLOOR) + math.log(top)) / 2, dtype=torch.float64)
    variance, expected = 4.0, mean
    for _ in range(steps):
        expected, spread = slow_moments(noisy, sigma, mean, variance, top)
        clear = noisy > CLEAR * sigma
        expected = torch.where(clear, noisy.clamp(min=sigma).log().double(), expected)
        spread = torch.where(clear, (sigma / noisy.clamp(min=sigma)).double() ** 2, spread)
        mean = rows @ torch.linalg.solve(rows.T @ rows + torch.diag(penalty), rows.T @ expected)
        variance = max(float(((expected - mean) ** 2 + spread).mean()), 0.3)
    return expected.exp().clamp(min=FLOOR)


def shop(items: int) -> tuple[PublicKernels, Tensor]:
    """A catalogue whose labels predict popularity, and that popularity."""
    generator = np.random.default_rng(0)
    group = generator.integers(8, size=items)
    block = Categories("genre", tuple("abcdefgh"), np.eye(8, dtype=bool)[group])
    truth = np.exp(generator.normal(0, 0.6, items) + np.linspace(-1, 5, 8)[group])
    catalogue = Catalogue(tuple(map(str, range(items))), blocks=(block,))
    return public_kernels(catalogue, 8, products=False), torch.from_numpy(truth).float()


def noisy(truth: Tensor, std: float) -> PrivateSum:
    return PrivateSum(truth + std * torch.randn(len(truth), generator=torch.Generator().manual_seed(1)), std)


@pytest.mark.parametrize("sigma", [1.0, 10.0])
@pytest.mark.parametrize("variance", [0.3, 4.0])
def test_a_table_of_the_posterior_gives_the_moments_of_the_slow_oracle(sigma: float, variance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values = sigma * torch.cat([3 * torch.randn(30_000, generator=generator), torch.linspace(-20, 60, 1000)])
    mean = 1.2 * torch.randn(len(values), generator=generator)
    expected, spread = slow_moments(values, sigma, mean, variance, float(values.max()))
    below = values <= CLEAR * sigma
    for table in (True, False):
        found = LogPosterior(values, sigma, FLOOR, table=table).moments(slice(0, len(values)), mean, variance)
        for fast, slow in zip(found, (expected, spread), strict=True):
            error = (fast - slow)[below].abs()
            assert error.mean() < 1e-4
            assert error.max() < 0.05 if table else error.max() < 1e-3  # worst where two modes weigh the same


def test_values_beyond_the_clear_limit_are_taken_as_they_are() -> None:
    values = torch.tensor([90.0, 700.0, 3.0])
    expected, spread = LogPosterior(values, 10.0, FLOOR).moments(slice(0, 2), torch.zeros(2), 1.0)
    torch.testing.assert_close(expected, values[:2].log())
    torch.testing.assert_close(spread, (10.0 / values[:2]) ** 2)


@pytest.mark.parametrize(("items", "std"), [(600, 4.0), (12_000, 4.0), (12_000, 30.0)])
def test_denoising_equals_the_slow_oracle(items: int, std: float) -> None:
    public, truth = shop(items)
    release = noisy(truth, std)
    error = (denoise(release, public, steps=4).log() - slow_denoise(release, public, steps=4).log()).abs()
    assert error.mean() < 1e-3
    assert error.max() < 0.02


def test_a_large_catalogue_costs_a_tenth_of_its_items_on_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = []
    exact = LogPosterior._exact

    def counted(self: LogPosterior, noisy: Tensor, mean: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        evaluated.append(len(noisy))
        return exact(self, noisy, mean, variance)

    monkeypatch.setattr(posterior.LogPosterior, "_exact", counted)
    _, truth = shop(50_000)
    blind = public_kernels(Catalogue(tuple(map(str, range(len(truth))))), 8)
    denoise(noisy(truth, 10.0), blind, steps=2)
    assert 0 < sum(evaluated) < 2 * len(truth) / 10
