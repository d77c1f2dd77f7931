"""`spectral` keeps the contract; its packing and shrinkage against explicit matrices."""

import math

import pytest
import torch

from fedrec.algorithms.spectral import Spectral, SpectralConfig
from fedrec.algorithms.spectral_sums import pack, unpack
from fedrec.kernels.public import public_kernels
from fedrec.kernels.shrinkage import content_basis, extended_basis, shrunk_eigenvalues, shrunk_gram
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows, planted_catalogue


class TestGram(AlgorithmContract):
    def make(self, facts):
        return Spectral(SpectralConfig(method="gram", rank=12, content_rank=6), facts)


class TestSubspace(AlgorithmContract):
    def make(self, facts):
        return Spectral(SpectralConfig(method="subspace", subspace_rank=8), facts)

    def test_norms_use_the_clip_and_never_exceed_it(self):
        algo = self.make(self.facts())
        part = algo.contribute(algo.initial(), batch_of(edge_rows()), 1)["projection"]
        assert part.norms().max() <= 1 + 1e-5


def wigner(n, noise_std, seed):
    generator = torch.Generator().manual_seed(seed)
    return unpack(noise_std * torch.randn(n * (n + 1) // 2, generator=generator), n)


def planted(n=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors, _ = torch.linalg.qr(torch.randn(n, 3, generator=generator))
    return vectors, (vectors * torch.tensor([60.0, 90.0, 150.0])) @ vectors.T


def test_packing_keeps_norms_and_comes_back():
    _, matrix = planted(17)
    assert torch.allclose(unpack(pack(matrix), 17), matrix, atol=1e-5)
    assert math.isclose(float(pack(matrix).norm()), float(matrix.norm()), rel_tol=1e-5)


@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_a_spike_is_shrunk_as_in_the_spiked_model_and_noise_to_almost_nothing(noise):
    _, signal = planted()
    values = torch.linalg.eigvalsh(signal + wigner(300, noise, 1))
    radius = noise * math.sqrt(2 * 300)
    shrunk = shrunk_eigenvalues(values, noise)
    top = values[-1]
    assert torch.isclose(shrunk[-1], (top**2 - radius**2).sqrt(), rtol=0.03)
    alone = torch.linalg.eigvalsh(wigner(300, noise, 2))
    assert alone.abs().max() > 0.9 * radius, "the noise is not what the formula is told"
    assert shrunk_eigenvalues(alone, noise).max() < 0.3 * radius


def test_shrinkage_brings_a_noisy_gram_matrix_nearer_to_the_signal_and_content_nearer_still():
    vectors, signal = planted()
    noisy = signal + wigner(300, 3.0, 1)

    def error(content):
        values, found = shrunk_gram(noisy, 3.0, content, 300)
        return float(((found * values) @ found.T - signal).norm())

    plain, helped = error(torch.zeros(300, 0)), error(vectors)
    assert helped < 0.5 * plain < 0.5 * float((noisy - signal).norm())


def test_subspace_iteration_finds_the_eigenvectors_of_a_matrix_that_it_never_sees():
    vectors, signal = planted()
    basis, _ = torch.linalg.qr(torch.randn(300, 6, generator=torch.Generator().manual_seed(5)))
    for _ in range(6):
        values, basis = extended_basis(signal @ basis, 0.0, basis)
    assert torch.allclose(values[-3:], torch.tensor([60.0, 90.0, 150.0]), rtol=1e-3)
    assert torch.allclose((basis.T @ vectors).norm(dim=0), torch.ones(3), atol=1e-3)


def test_under_heavy_noise_the_subspace_stays_where_it_was():
    basis, _ = torch.linalg.qr(torch.randn(300, 6, generator=torch.Generator().manual_seed(5)))
    noise = 100 * torch.randn(300, 6, generator=torch.Generator().manual_seed(6))
    _, moved = extended_basis(noise, 100.0, basis)
    assert (basis.T @ moved).norm() > 0.8 * math.sqrt(6)


def test_the_content_basis_spans_the_labels():
    public = public_kernels(planted_catalogue(), products=False)
    basis = content_basis(public, torch.ones(ITEMS), 10)
    assert torch.allclose(basis.T @ basis, torch.eye(10), atol=1e-4)
    taste = torch.eye(4)[torch.arange(ITEMS) % 4]
    assert torch.allclose(basis @ (basis.T @ taste), taste, atol=0.05)
