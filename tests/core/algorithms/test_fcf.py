"""`fcf` keeps the contract; its item gradient is that of autograd on the objective."""

import pytest
import torch

from fedrec.algorithms.fcf import FCF, FCFConfig, ItemGradient
from fedrec.algorithms.server_optimizer import FIRST, SECOND, ServerOptimizer, start_moments
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows


class TestFCF(AlgorithmContract):
    def make(self, facts):
        return FCF(FCFConfig(dim=8, rounds=25), facts)


class TestFedMF(AlgorithmContract):
    def make(self, facts):
        return FCF(FCFConfig(dim=8, rounds=25, optimizer="sgd", learning_rate=1.0), facts)


@pytest.mark.parametrize("alpha0", [0.1, 0.7])
def test_the_item_gradient_is_that_of_the_objective(alpha0):
    users = batch_of(edge_rows())
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(len(users), 5, generator=generator)
    items = torch.randn(ITEMS, 5, generator=generator).requires_grad_()
    part = ItemGradient(vectors, items.detach(), users, alpha0)
    for row in range(len(users)):
        mine = users.slice(row, row + 1).items.unique()
        scores = items @ vectors[row]
        loss = (1 - scores[mine]).square().sum() + alpha0 * scores.square().sum()
        (expected,) = torch.autograd.grad(loss, items)
        assert torch.allclose(part.dense(row), expected, rtol=1e-4, atol=1e-4), row


def test_adam_on_the_server_is_that_of_pytorch():
    value = torch.linspace(-1, 1, 7)
    reference = value.clone().requires_grad_()
    optimizer = torch.optim.Adam([reference], lr=0.1, betas=(FIRST, SECOND))
    state = start_moments(value)
    for round_index in range(5):
        gradient = torch.sin(value * (round_index + 1))
        reference.grad = torch.sin(reference.detach() * (round_index + 1))
        value, state = ServerOptimizer("adam", 0.1).step(value, gradient, state, round_index)
        optimizer.step()
    assert torch.allclose(value, reference.detach(), atol=1e-6)


def test_a_block_under_noise_shares_one_spread():
    """The first step of a block is the gradient over its root mean square; another block's size plays no part."""
    gradient = torch.tensor([3.0, -4.0, 0.0, 100.0, 300.0])
    value = torch.zeros(5)
    adam, state = ServerOptimizer("adam", 0.1), start_moments(value)
    after, _ = adam.step(value, gradient, state, 0, (3, 2))
    for part in (slice(0, 3), slice(3, 5)):
        root_mean_square = gradient[part].square().mean().sqrt()
        assert torch.allclose(after[part], -0.1 * gradient[part] / root_mean_square, rtol=1e-5)
    without_network, _ = adam.step(value, gradient, state, 0, (5, 0))
    assert without_network.isfinite().all()
