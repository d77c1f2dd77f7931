"""The part of fitted weights that chance explains: its size in simulated descents, and the part that a group keeps."""

import pytest
import torch
from torch import Tensor

from fedrec.kernels.descent import Descent
from fedrec.kernels.evidence import Chance, evident

PLAN = Descent(rounds=40, rate=0.7, momentum=0.8)
WIDTH, USERS = 6, 400
GROUPS = [slice(0, 1), slice(1, 4), slice(4, 6)]


def population(generator: torch.Generator, users: int = USERS) -> Tensor:
    """Scores of users of a logistic model at its true weights, (users, K): correlated, of unlike scales."""
    mix = torch.tensor([1.0, 0.5, 2.0, 0.7, 0.2, 1.5]) * torch.eye(WIDTH) + 0.3
    features = torch.randn(users, WIDTH, generator=generator) @ mix
    return features * (torch.rand(users, 1, generator=generator) - 0.5)


def cut(scores: Tensor) -> Tensor:
    return scores / scores.norm(dim=1, keepdim=True).clamp(min=1)


def walked(scores: Tensor, slope: Tensor, plan: Descent, noise_std: float, generator: torch.Generator) -> Tensor:
    """Averages of weights that start at the truth and follow the same users' clipped gradients.

    Args:
        scores: of the users of each descent, (descents, users, K).
        slope: how a mean clipped gradient answers to the weights, (K, K).
        plan: the steps.
        noise_std: standard deviation of the noise of each entry of each step.
        generator: of that noise.

    Returns:
        (descents, K)
    """
    mean = torch.stack([cut(one).double().mean(0) for one in scores])
    state = plan.begin(torch.zeros_like(mean))
    for step in range(plan.rounds):
        noise = noise_std * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        state |= plan.moved(state, state["parameters"] @ slope.T + mean + noise, step)
    return state["average"]


@pytest.mark.parametrize("noise_std", [0.0, 0.02])
@pytest.mark.parametrize("plan", [PLAN, Descent(5, 0.3, 0.0), Descent(200, 2.0, 0.9)])
def test_the_covariance_is_that_of_many_descents(plan: Descent, noise_std: float) -> None:
    generator = torch.Generator().manual_seed(0)
    large = population(generator, 100_000)
    chance = Chance.of(large, cut(large), USERS, 1.0)
    scores = torch.stack([population(generator) for _ in range(1500)])
    ways = walked(scores, chance.slope, plan, noise_std, generator)
    noise = noise_std * plan.gain(plan.rounds - 1)
    expected, found = chance.covariance(plan, noise), torch.cov(ways.T)
    if not noise_std:
        assert torch.dist(found, expected) < 0.12 * expected.norm()
        assert torch.dist(found, expected * 9 / 4) > 0.12 * expected.norm(), "the test must see a wrong scale"
    excess = expected.diagonal() / found.diagonal()  # slopes shorten the way of noise, which is left out on purpose
    assert excess.min() > 0.85


def test_fewer_users_leave_more_to_chance() -> None:
    scores = population(torch.Generator().manual_seed(1), 5000)
    few, many = (Chance.of(scores, cut(scores), users, 1.0).covariance(PLAN, 0.0) for users in (100, 10_000))
    torch.testing.assert_close(few, 100 * many)


def test_chance_alone_leaves_hardly_anything() -> None:
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    covariance = root @ root.T
    ways = torch.randn(4000, WIDTH, generator=generator, dtype=torch.float64) @ root.T
    kept = torch.stack([evident(way, covariance, GROUPS) for way in ways])
    for group in GROUPS:
        assert 0.02 < float((kept[:, group] != 0).any(1).double().mean()) < 0.08  # chi-square, 2 deviations
        assert kept[:, group].square().sum() < 0.05 * ways[:, group].square().sum()


def test_a_way_that_many_users_agree_on_is_kept() -> None:
    way, covariance = torch.linspace(1, 2, WIDTH), 1e-4 * torch.eye(WIDTH, dtype=torch.float64)
    kept = evident(way, covariance, GROUPS)
    assert (kept / way).min() > 0.99
    assert torch.equal(evident(way, 0 * covariance, GROUPS), way)


def test_groups_are_judged_apart_and_others_are_kept() -> None:
    way, covariance = torch.tensor([0.1, 5.0, 5.0, 5.0, 0.1, 0.1]), torch.eye(WIDTH, dtype=torch.float64)
    kept = evident(way, covariance, GROUPS[1:])
    assert kept[0] == way[0]
    assert (kept[1:4] > 4).all()
    assert not kept[4:].any()
    assert not evident(torch.zeros(WIDTH), 0 * covariance, GROUPS).any()
