"""Gradient descent on noisy sums, whose result moves away from its start only as far as the noise leaves evidence.

Momentum, and the average of the last iterates (Polyak and Juditsky 1992). What differs: noise moves a parameter even
where users have nothing to say, and its size is public. So each parameter keeps of its way what exceeds two standard
deviations of that noise, by the positive-part rule of James and Stein 1961. That is post-processing, free of budget.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DEVIATIONS = 2.0  # of the noise, up to which a parameter stays at its start
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
        return self._moved(state, gradient, step) | {"start": state["start"], "noise": noise}

    def _moved(self, state: State, gradient: Tensor, step: int) -> State:
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
            state = self._moved(state, impulse, number)
        return float(state["average"].norm())

    @staticmethod
    def evident(state: State) -> Tensor:
        """The average, each entry drawn back to its start by what noise alone explains, (n,)."""
        moved = state["average"] - state["start"]
        doubt = DEVIATIONS * state["noise"] / moved.abs().clamp(min=torch.finfo(moved.dtype).tiny)
        return torch.where(doubt < 1, state["average"] - moved * doubt**2, state["start"])
