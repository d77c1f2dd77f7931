"""Noisy gradient descent keeps of its way what the noise does not explain."""

import math

import pytest
import torch
from torch import Tensor

from fedrec.kernels.descent import DEVIATIONS, Descent, State

PLAN = Descent(rounds=40, rate=0.7, momentum=0.8)


def walked(gradient: Tensor, std: float, seed: int = 0, plan: Descent = PLAN) -> State:
    """The last state where every gradient is `gradient` plus noise."""
    generator = torch.Generator().manual_seed(seed)
    state = plan.begin(torch.full_like(gradient, 2.0))
    for step in range(plan.rounds):
        noise = std * torch.randn(len(gradient), generator=generator)
        state = plan.step(state, gradient + noise, std, step)
    return state


@pytest.mark.parametrize("plan", [PLAN, Descent(1, 0.3, 0.8), Descent(5, 4.0, 0.0), Descent(80, 4.0, 0.9)])
def test_the_noise_of_the_average_is_what_the_plan_says(plan: Descent) -> None:
    state = walked(torch.zeros(20_000), 0.1, plan=plan)
    moved = float((state["average"] - state["start"]).std())
    assert moved == pytest.approx(float(state["noise"]), rel=0.03)


def test_noise_alone_hardly_moves_anything() -> None:
    state = walked(torch.zeros(20_000), 0.1)
    moved, raw = Descent.evident(state) - state["start"], state["average"] - state["start"]
    assert (moved == 0).float().mean() == pytest.approx(math.erf(DEVIATIONS / 2**0.5), abs=0.01)
    assert moved.square().mean() < 0.05 * raw.square().mean()


def test_without_noise_all_of_the_way_is_kept() -> None:
    state = walked(torch.linspace(-1, 1, 9), 0.0)
    assert torch.equal(Descent.evident(state), state["average"])
    still = walked(torch.zeros(3), 0.0)
    assert torch.equal(Descent.evident(still), still["start"])


def test_evidence_far_above_the_noise_is_kept() -> None:
    state = walked(torch.full((1000,), 0.5), 0.02)
    moved, raw = Descent.evident(state) - state["start"], state["average"] - state["start"]
    assert (moved / raw).min() > 0.99
    assert (raw < 0).all()


def test_a_plan_of_no_steps_stays_at_its_start() -> None:
    state = Descent(0, 0.3, 0.8).begin(torch.arange(4.0))
    assert torch.equal(Descent.evident(state), torch.arange(4.0))
