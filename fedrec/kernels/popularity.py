"""Private popularity: one release, then empirical Bayes against the public metadata.

Each user adds x / sqrt(n) for the n distinct items of the history, a vector of norm exactly 1, so that nothing is lost
to the clip. The noisy sum is denoised under a log-normal prior whose mean is a ridge regression on public features
(EM on a grid); that is post-processing and costs nothing.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.kernels.public import CHUNK, PublicKernels
from fedrec.privacy.queries import PrivateSum, SparseContribution, SumQuery

GRID = 200  # points of the posterior's grid, evenly in the logarithm
CLEAR = 8.0  # a release this many deviations above zero is taken as it is
FLOOR = 0.3  # an item nobody is known to like counts as this many unit-norm users


def popularity_query(items: int, share: float) -> SumQuery:
    """The sum of unit-norm histories, (items,)."""
    return SumQuery("popularity", (items,), clip_norm=1.0, budget_share=share)


def popularity_contribution(users: UserBatch, *, counts: bool = False) -> SparseContribution:
    """x_u / sqrt(n_u) for each user; with `counts`, x_u."""
    owners, items = users.distinct
    lengths = torch.bincount(owners, minlength=len(users))
    values = torch.ones_like(owners, dtype=torch.float32) if counts else lengths[owners].float().rsqrt()
    return SparseContribution(owners, items, values, len(users), (users.n_items,))


def denoise(release: PrivateSum, public: PublicKernels, ridge: float = 3.0, steps: int = 40) -> Tensor:
    """Posterior exp(E[log popularity]) of each item, (items,), all at least `FLOOR`."""
    noisy, sigma = release.value, release.noise_std
    if sigma < FLOOR:
        return noisy.clamp(min=FLOOR)
    items, device = len(noisy), noisy.device
    grid = torch.logspace(0, 1, GRID, device=device) ** (torch.log10(noisy.max().clamp(min=3.0) / FLOOR)) * FLOOR
    log_grid = grid.log()
    kept = list(public.chunks(items, device)) if items <= CHUNK else None  # a large catalogue's rows are made anew

    def rows() -> Iterable[tuple[slice, Tensor]]:
        return public.chunks(items, device) if kept is None else kept

    gram = torch.stack([x.T @ x for _, x in rows()]).double().sum(0)
    penalty = torch.full((len(gram),), ridge, dtype=torch.float64, device=device)
    penalty[-1] = 1e-3
    solver = torch.linalg.cholesky(gram + torch.diag(penalty))
    mean = log_grid.mean().expand(items)
    posterior = torch.zeros(items, device=device)
    variance = 4.0
    for _ in range(steps):
        moment = torch.zeros(len(gram), 1, dtype=torch.float64, device=device)
        spread = torch.zeros(items, device=device)
        for part, x in rows():
            fit = -(((noisy[part, None] - grid) / sigma) ** 2) - (log_grid - mean[part, None]) ** 2 / variance
            weight = torch.softmax(fit / 2, 1)
            expected = weight @ log_grid
            clear = noisy[part] > CLEAR * sigma  # the prior has no say here, and a grid would only make ties
            relative = sigma / noisy[part].clamp(min=sigma)
            posterior[part] = torch.where(clear, noisy[part].clamp(min=sigma).log(), expected)
            spread[part] = torch.where(clear, relative**2, weight @ log_grid**2 - expected**2)
            moment += x.T @ posterior[part, None]
        beta = torch.cholesky_solve(moment, solver).float()
        mean = torch.cat([(x @ beta)[:, 0] for _, x in rows()])
        variance = max(float(((posterior - mean) ** 2 + spread).mean()), 0.3)
    return posterior.exp().clamp(min=FLOOR)
