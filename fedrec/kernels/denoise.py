"""Denoising the private co-occurrence against public content: post-processing, free of budget.

Model of the release: G_ij = E_ij (1 + b . K_ij + f_i' D f_j) + noise, with E the popularity product, K the public
kernels, D a signature (taste attracts, taste repels) and f = e + X W: item factors that the content X predicts, so that
items of the tail, which the release does not hold, get factors too. What is left over per pair is kept as far as
its variance in comparable pairs exceeds that of noise.

A pair's release varies for two reasons: the noise that was added, and which users happened to be there. The second part
is that of a sum of small independent numbers: in proportion to what is expected of the pair. Its scale is known, since
every user's squares sum to one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec.progress import step

RESIDUAL_RANK = 256
LEAST = 1e-9  # variance of a pair that nobody is expected to have


@dataclass(frozen=True)
class Lift:
    """factors (head, k), content (features, k) with f = e + X W, signs (k,); residual (head, head), what is left of
    the lift; cosine (head, head), the denoised co-occurrence over the root of both expected counts."""

    factors: Tensor
    content: Tensor
    signs: Tensor
    residual: Tensor
    cosine: Tensor


def fit_lift(
    release: Tensor,
    noise_std: float,
    popularity: Tensor,
    kernels: list[Tensor],
    features: Tensor,
    *,
    users: float,
    copies: float = 1.0,
    rank: int = 48,
    ridge: float = 4.0,
    content_ridge: float = 0.05,
    steps: int = 200,
    rate: float = 0.03,
    seed: int = 0,
) -> Lift:
    """Fit the model by alternating a closed form for b with Adam on e and W.

    Args:
        release: noisy sum of unit-norm pair vectors, (head, head), symmetric, zero diagonal.
        noise_std: standard deviation of its noise.
        popularity: of the head items, (head,) > 0.
        kernels: public kernels on the head, each (head, head).
        features: content of the head items, (head, features).
        users: expected number of users in the sum.
        copies: pairs that share a number of a sketch, and so its noise.
    """
    head = len(popularity)
    off = 1.0 - torch.eye(head, device=release.device)
    expected = popularity[:, None] * popularity[None] * off
    level = (release * expected).sum() / (expected * expected).sum()
    expected = level.clamp(min=0) * expected  # noise alone may fit a level below zero, but counts are not
    variance = noise_std**2 + sampling_variance(release, expected, users)
    predicted = _kernel_part(release, expected, kernels) * off

    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(features.shape[1], rank, generator=generator, device="cpu")
    content = (0.1 * drawn).to(release.device).requires_grad_()
    own = torch.zeros(head, rank, device=release.device, requires_grad=True)
    signs = torch.ones(rank, device=release.device)
    signs[rank * 3 // 4 :] = -1
    optimizer = torch.optim.Adam([own, content], lr=rate)
    rest = release - expected * (1 + predicted)
    weight = expected / variance
    with step("fitting the lift of pairs", steps) as advance:
        for done in range(steps):
            with torch.no_grad():
                factors = own + features @ content
                error = (rest - expected * ((factors * signs) @ factors.T)) * weight
                gradient = -(error @ (factors * signs))
                own.grad = gradient + ridge * own
                content.grad = features.T @ gradient + content_ridge * head**0.5 * content
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - done / steps) + 0.002
            advance()
    with torch.no_grad():
        factors = own + features @ content
        predicted = predicted + ((factors * signs) @ factors.T) * off
        residual = _shrunk_residual(release, expected, predicted, variance, generator, copies)
        cosine = expected.sqrt() * (1 + predicted + residual) * off
    return Lift(factors.detach(), content.detach(), signs, residual, cosine)


def sampling_variance(release: Tensor, expected: Tensor, users: float) -> Tensor:
    """Variance of each pair that comes from which users took part, (head, head), above 0.

    A user adds a vector of norm 1, so the squares of all that users add sum to `users` at most. They fall on the pairs
    as the counts do, hence the variance of a pair is its expected count times users over the sum of the release.

    Args:
        release: noisy sum, (head, head).
        expected: expected count of each pair without any lift, (head, head).
        users: expected number of users in the sum.
    """
    total = (release.sum() / 2).clamp(min=users)  # a vector of norm 1 with entries >= 0 sums to 1 at least
    return users / total * expected + LEAST


def _kernel_part(release: Tensor, expected: Tensor, kernels: list[Tensor]) -> Tensor:
    if not kernels:
        return torch.zeros_like(release)
    weighted = torch.stack([(expected * kernel).flatten() for kernel in kernels])  # (kernels, head * head)
    gram = weighted @ weighted.T
    gram = gram + 1e-2 * torch.diag(torch.diag(gram)) + 1e-6 * torch.eye(len(gram), device=gram.device)
    beta = torch.linalg.solve(gram, weighted @ (release - expected).flatten())
    total = torch.zeros_like(release)
    for weight, kernel in zip(beta, kernels, strict=True):
        total += weight * kernel
    return total


def _shrunk_residual(
    release: Tensor, expected: Tensor, predicted: Tensor, variance: Tensor, generator: torch.Generator, copies: float
) -> Tensor:
    """Posterior mean of each pair's left-over lift: its prior variance is estimated among pairs of like expected count
    and like predicted lift, less two standard errors, so that pure noise gives zero."""
    head = len(release)
    row, column = torch.triu_indices(head, head, 1, device=release.device)
    count, lift = expected[row, column], predicted[row, column]
    left, variance = release[row, column] - count * (1 + lift), variance[row, column]
    sample = torch.randint(len(count), (500_000,), generator=generator, device="cpu").to(release.device)
    count_edges = count[sample].quantile(torch.linspace(0, 1, 13, device=release.device)[1:-1].pow(0.4))
    lift_edges = lift[sample].quantile(torch.tensor([0.5, 0.8, 0.95, 0.99, 0.997], device=release.device))
    bins = torch.bucketize(count, count_edges) * 6 + torch.bucketize(lift, lift_edges)
    squares = (count * count).double()
    zero = torch.zeros(72, dtype=torch.float64, device=release.device)
    excess = zero.index_add(0, bins, (left.double() ** 2 - variance) * squares)
    mass = zero.index_add(0, bins, squares * squares).clamp(min=1e-12)
    chance = zero.index_add(0, bins, 2 * copies * (variance * squares) ** 2)
    prior = (excess / mass - 2 * chance.sqrt() / mass).clamp(min=1e-3)[bins].float()
    posterior = count * left * prior / (count * count * prior + variance)
    residual = torch.zeros_like(release)
    residual[row, column] = posterior
    return residual + residual.T


def low_rank(matrix: Tensor, rank: int, seed: int = 0, passes: int = 4) -> tuple[Tensor, Tensor]:
    """(values (n, rank), signs (rank,)) with (values * signs) @ values.T near the best approximation of that rank.

    Randomised subspace iteration (Halko, Martinsson, Tropp 2011) for a symmetric matrix (n, n).
    """
    rank = min(rank, len(matrix))
    width = min(rank + 16, len(matrix))
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(len(matrix), width, generator=generator, device="cpu").to(matrix.device)
    with step("leading directions of pairs", passes) as advance:
        for _ in range(passes):
            basis, _ = torch.linalg.qr(matrix @ basis)
            advance()
    eigenvalues, vectors = torch.linalg.eigh(basis.T @ matrix @ basis)
    keep = eigenvalues.abs().topk(rank).indices
    return basis @ vectors[:, keep] * eigenvalues[keep].abs().sqrt(), eigenvalues[keep].sign()
