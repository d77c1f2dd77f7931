"""Eigenvalues that carry noise, shrunk to what they would be without: post-processing, free of budget.

The noise of a packed symmetric release (standard deviation s on the diagonal, s / sqrt(2) off it) is a Wigner matrix,
whose eigenvalues fill [-r, r], r = s sqrt(2 n). Bun, Allez, Bouchaud, Potters 2016 give the best eigenvalues for the
noisy eigenvectors whatever the signal is; for single spikes above the noise they are those of the spiked model,
sqrt(y^2 - r^2), but logs have a slope of small eigenvalues rather than a few spikes. A release of shape items x rank
has rectangular noise; there the singular values are shrunk as in Gavish and Donoho 2017.
"""

import math

import torch
from torch import Tensor

from fedrec import draws
from fedrec.kernels.public import PublicKernels
from fedrec.progress import step

_AT_ONCE = 512  # rows of the table of differences between eigenvalues


def shrunk_eigenvalues(values: Tensor, noise_std: float) -> Tensor:
    """The best eigenvalues (n,) of a positive semi-definite signal for the noisy eigenvectors.

    values: (n,) eigenvalues of signal plus noise; noise_std: of a diagonal entry, sqrt(2) times that of the others.
    """
    if noise_std == 0:
        return values.clamp(min=0)
    width = noise_std / math.sqrt(2)  # of the smoothing: the noise's radius over 2 sqrt(n), some eigenvalues' spacing
    shifts = []
    for some in values.split(_AT_ONCE):
        gaps = (some[:, None] - values) / width
        shifts.append((gaps / (gaps**2 + 1)).sum(1) / width)
    return (values - noise_std**2 * torch.cat(shifts)).clamp(min=0)


def shrunk_singular_values(values: Tensor, noise_std: float, rows: int) -> Tensor:
    """The best singular values (r,) in Frobenius norm for a matrix (rows, r) with noise on each entry."""
    if noise_std == 0:
        return values
    ratio = len(values) / rows
    scaled = values / (noise_std * math.sqrt(rows))
    inside = (scaled**2 - ratio - 1).square() - 4 * ratio
    shrunk = inside.clamp(min=0).sqrt() / scaled.clamp(min=1e-9) * noise_std * math.sqrt(rows)
    return torch.where(scaled > 1 + math.sqrt(ratio), shrunk, 0.0)


def shrunk_gram(gram: Tensor, noise_std: float, content: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(values (rank,), vectors (items, rank)) of a noisy Gram matrix (items, items), largest last.

    content: (items, c) orthonormal columns; the part between them is shrunk apart from the rest, since its noise is
    that of a c x c matrix.
    """
    with step("eigenvectors of the Gram matrix", 3) as advance:
        if noise_std > 0:
            inner = content.T @ gram @ content
            signal = _denoised(inner, noise_std)
            advance()
            gram = content @ signal @ content.T + _denoised(gram - content @ inner @ content.T, noise_std)
            advance()
        values, vectors = torch.linalg.eigh(gram)
    return values[-rank:], vectors[:, -rank:].contiguous()


def extended_basis(product: Tensor, noise_std: float, basis: Tensor) -> tuple[Tensor, Tensor]:
    """One step of noisy subspace iteration: (values (rank,), vectors (items, rank)), largest last.

    product: (items, rank), the Gram matrix times `basis`, and noise; basis: (items, rank) orthonormal columns. The part
    inside the basis is shrunk as a rank x rank matrix; what leads out of it, as a rectangular one.
    """
    rank = basis.shape[1]
    inner = basis.T @ product
    with step("extending the basis", 2) as advance:
        left, values, right = torch.linalg.svd(product - basis @ inner, full_matrices=False)
        outer = left * shrunk_singular_values(values, noise_std, len(basis)) @ right
        advance()
        joint, parts = torch.linalg.qr(torch.cat([basis, outer], dim=1))
    known, new = parts.split(rank, dim=1)
    cross = new @ known.T
    inside = _denoised((inner + inner.T) / 2, noise_std)
    values, vectors = torch.linalg.eigh(known @ inside @ known.T + cross + cross.T)
    return values[-rank:], joint @ vectors[:, -rank:]


def content_basis(public: PublicKernels, scale: Tensor, rank: int, passes: int = 4) -> Tensor:
    """Orthonormal columns (items, rank) that span the leading directions of the content, item i counting `scale[i]`.

    Directions that the content lacks are random. Randomised range finder (Halko, Martinsson, Tropp 2011), in chunks of
    items.
    """
    items = len(scale)
    key = torch.arange(items, device=scale.device)
    basis, _ = torch.linalg.qr(draws.normal(draws.keys(0, key), 0, rank))
    with step("leading directions of the content", passes) as advance:
        for _ in range(passes):
            parts = public.chunks(items, scale.device, smooth=True)
            image = sum(rows.T @ (scale[part, None] * basis[part]) for part, rows in parts)
            assert isinstance(image, Tensor)
            parts = public.chunks(items, scale.device, smooth=True)
            found = torch.cat([scale[part, None] * (rows @ image) for part, rows in parts])
            found = found / found.norm(dim=0).clamp(min=1e-9)
            basis, _ = torch.linalg.qr(found + 1e-3 * basis)
            advance()
    return basis


def _denoised(matrix: Tensor, noise_std: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * shrunk_eigenvalues(values, noise_std)) @ vectors.T
