"""Counter draws: uniform, and the same whatever batch they are made in."""

import math

import torch

from fedrec import draws


def test_uniform_in_range_and_flat() -> None:
    u = draws.uniform(draws.keys(5, torch.arange(2000)), stream=3, count=200)
    assert u.shape == (2000, 200)
    assert 0 <= u.min() <= u.max() < 1
    n = u.numel()
    assert abs(u.mean().item() - 0.5) < 5 / math.sqrt(12 * n)
    counts = torch.histc(u.float(), bins=50, min=0, max=1).double()
    chi_square = ((counts - n / 50) ** 2 / (n / 50)).sum().item()
    assert abs(chi_square - 49) < 5 * math.sqrt(2 * 49)


def test_users_streams_and_positions_are_uncorrelated() -> None:
    keys = draws.keys(5, torch.arange(1000))
    u = draws.uniform(keys, 0, 100) - 0.5
    others = [
        draws.uniform(keys, 1, 100) - 0.5,
        draws.uniform(keys.roll(1), 0, 100) - 0.5,
        u.roll(1, dims=1),
        draws.uniform(draws.keys(6, torch.arange(1000)), 0, 100) - 0.5,
    ]
    for other in others:
        assert abs((u * other).mean().item()) < 5 / 12 / math.sqrt(u.numel())


def test_a_user_draws_the_same_in_any_batch() -> None:
    users = torch.arange(50)
    whole = draws.uniform(draws.keys(9, users), 2, 7)
    parts = torch.cat([draws.uniform(draws.keys(9, part), 2, 7) for part in users.split(8)])
    assert torch.equal(whole, parts)
    assert torch.equal(whole[13], draws.uniform(draws.keys(9, torch.tensor([13])), 2, 7)[0])
    assert torch.equal(whole[:, :3], draws.uniform(draws.keys(9, users), 2, 3))


def test_integers_stay_below_their_bound_and_reach_all() -> None:
    keys = draws.keys(1, torch.arange(3))
    high = torch.tensor([1, 2, 10])
    drawn = draws.integers(keys, 0, high, 2000)
    assert drawn[0].unique().tolist() == [0]
    assert drawn[1].unique().tolist() == [0, 1]
    assert drawn[2].unique().tolist() == list(range(10))
    assert torch.bincount(drawn[2]).min() > 130


def test_normal_moments() -> None:
    sample = draws.normal(draws.keys(2, torch.arange(1000)), 0, 200).double()
    n = sample.numel()
    assert abs(sample.mean().item()) < 5 / math.sqrt(n)
    assert abs(sample.square().mean().item() - 1) < 5 * math.sqrt(2 / n)
    assert abs(sample.pow(4).mean().item() - 3) < 5 * math.sqrt(96 / n)
