"""Gradient descent on noisy sums, with the noise of its result.

Momentum, and the average of the last iterates (Polyak and Juditsky 1992). Noise moves a parameter even where users have
no preference, and its size is public: the state contains it, for `fedrec.kernels.evidence`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

AVERAGED = 0.4  # part of the iterates, the last ones
State = dict[str, Tensor]


@dataclass(frozen=True)
class Descent:
    """A plan of steps.

    Attributes:
        rounds: number of steps.
        rate: length of a step, times the gradient.
        momentum: of the gradients, in [0, 1).
    """

    rounds: int
    rate: float
    momentum: float

    def begin(self, parameters: Tensor) -> State:
        """The state before the first step, at `parameters` (n,)."""
        zero = torch.zeros_like(parameters)
        places = dict.fromkeys(("start", "parameters", "average"), parameters)
        return places | {"velocity": zero, "noise": zero.sum()}

    def step(self, state: State, gradient: Tensor, noise_std: float, step: int) -> State:
        """The state after step 0 <= `step` < rounds.

        Args:
            state: what `begin` or the last step gave.
            gradient: of the loss, with noise, (n,).
            noise_std: standard deviation of the noise of each entry, the same in every step.
            step: number of the step.
        """
        noise = torch.tensor(noise_std * self.gain(step), dtype=gradient.dtype, device=gradient.device)
        return self.moved(state, gradient, step) | {"start": state["start"], "noise": noise}

    def moved(self, state: State, gradient: Tensor, step: int) -> State:
        """Parameters, velocity and average after one step along `gradient`, of the shape of the parameters."""
        velocity = self.momentum * state["velocity"] + (1 - self.momentum) * gradient
        parameters = state["parameters"] - self.rate * velocity / (1 - self.momentum ** (step + 1))
        kept = max(0, step + 1 - math.ceil((1 - AVERAGED) * self.rounds))
        average = state["average"] + (parameters - state["average"]) / kept if kept else parameters
        return {"parameters": parameters, "velocity": velocity, "average": average}

    def gain(self, step: int) -> float:
        """Standard deviation of the average after `step` where gradients are nothing but noise of deviation 1."""
        impulses = torch.eye(step + 1, dtype=torch.float64, device="cpu")
        state = self.begin(torch.zeros_like(impulses[0]))
        for number, impulse in enumerate(impulses):
            state = self.moved(state, impulse, number)
        return float(state["average"].norm())
