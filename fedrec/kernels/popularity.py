"""Private popularity: one release, then empirical Bayes against the public metadata.

Each user adds x / sqrt(n) for the n distinct items of the history, a vector of norm exactly 1, so that nothing is lost
to the clip. The noisy sum is denoised under a log-normal prior whose mean is a ridge regression on public features
(EM on a grid); that is post-processing and costs nothing.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from fedrec.data.catalogue import Catalogue
from fedrec.data.users import UserBatch
from fedrec.kernels.posterior import LogPosterior
from fedrec.kernels.public import CHUNK, PublicKernels, public_kernels
from fedrec.privacy.queries import PrivateSum, SparseContribution, SumQuery
from fedrec.progress import step

FLOOR = 0.3  # an item nobody is known to like counts as this many unit-norm users


def popularity_query(items: int, share: float) -> SumQuery:
    """The sum of unit-norm histories, (items,)."""
    return SumQuery("popularity", (items,), clip_norm=1.0, budget_share=share)


def popularity_contribution(users: UserBatch, *, counts: bool = False, size: int | None = None) -> SparseContribution:
    """x_u / sqrt(n_u) for each user; with `counts`, x_u. `size`: entries of a sum longer than the catalogue."""
    owners, items = users.distinct
    lengths = torch.bincount(owners, minlength=len(users))
    values = torch.ones_like(owners, dtype=torch.float32) if counts else lengths[owners].float().rsqrt()
    return SparseContribution(owners, items, values, len(users), (size or users.n_items,))


def mean_popularity(
    before: Tensor, release: PrivateSum, round_index: int, catalogue: Catalogue
) -> tuple[Tensor, Tensor]:
    """Popularity from item counts that every round releases anew: post-processing, which costs nothing.

    Args:
        before: (items,) mean of the counts of the rounds before.
        release: (items,) the counts of this round.
        round_index: this round, from 0.
        catalogue: the public items.

    Returns:
        (items,) the mean of all rounds, and (items,) what `denoise` makes of it; without noise the mean itself.
    """
    mean = before + (release.value - before) / (round_index + 1)
    if not release.noise_std:
        return mean, mean
    public = public_kernels(catalogue, products=False).to(mean.device)
    return mean, denoise(PrivateSum(mean, release.noise_std / (round_index + 1) ** 0.5), public)


def denoise(release: PrivateSum, public: PublicKernels, ridge: float = 3.0, steps: int = 40) -> Tensor:
    """Posterior exp(E[log popularity]) of each item, (items,), all at least `FLOOR`.

    Args:
        release: noisy sum of unit-norm histories, (items,).
        public: kernels of the catalogue; their rows predict the logarithm of popularity.
        ridge: penalty on each coefficient of that regression.
        steps: iterations of EM. Each makes the catalogue's rows once.
    """
    noisy, sigma = release.value, release.noise_std
    if sigma < FLOOR:
        return noisy.clamp(min=FLOOR)
    items, device = len(noisy), noisy.device
    posterior = LogPosterior(noisy, sigma, FLOOR)
    kept = list(public.chunks(items, device)) if items <= CHUNK else None  # a large catalogue's rows are made anew

    def rows() -> Iterable[tuple[slice, Tensor]]:
        return public.chunks(items, device) if kept is None else kept

    gram = torch.stack([x.T @ x for _, x in rows()]).double().sum(0)
    penalty = torch.full((len(gram),), ridge, dtype=torch.float64, device=device)
    penalty[-1] = 1e-3
    solver = torch.linalg.cholesky(gram + torch.diag(penalty))
    coefficients = torch.zeros(len(gram), 1, dtype=torch.float64, device=device)
    coefficients[-1] = posterior.middle
    variance, expected = 4.0, torch.zeros(items, device=device)
    with step("denoising popularity", steps) as advance:
        for _ in range(steps):
            moment = torch.zeros_like(coefficients)
            scatter = 0.0
            for part, x in rows():
                mean, spread = posterior.moments(part, (x @ coefficients.float())[:, 0], variance)
                expected[part] = mean
                moment += x.T @ mean[:, None]
                scatter += float((mean.double() ** 2).sum() + spread.double().sum())
            coefficients = torch.cholesky_solve(moment, solver)
            # The regression's squared residuals follow from its sufficient statistics: no second pass over the rows.
            explained = float(2 * (coefficients * moment).sum() - (coefficients * (gram @ coefficients)).sum())
            variance = max((scatter - explained) / items, 0.3)
            advance()
    return expected.exp().clamp(min=FLOOR)
