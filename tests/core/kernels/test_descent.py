"""Noisy gradient descent reports the noise of its result."""

import pytest
import torch
from torch import Tensor

from fedrec.kernels.descent import Descent, State

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


def test_a_plan_of_no_steps_stays_at_its_start() -> None:
    state = Descent(0, 0.3, 0.8).begin(torch.arange(4.0))
    assert torch.equal(state["average"], torch.arange(4.0))
    assert float(state["noise"]) == 0
