"""Gradient steps of each user on a private copy of the tower: one, or several.

A user copies the rows of its targets and negatives from parameters with a row an item, and the other parameters whole.
The contribution is (start - end) / step size, the sum of the gradients along the way: with one step it is the gradient.
The sum has an entry for every parameter, touched or not, so that it does not reveal which rows a user copied.

Each user's gradient is computed on its own, a few users at a time, once for its norm and once for the sum. So the sum
contains exactly the measured gradient, for any layers of the tower. Ghost clipping (Li, Tramer, Liang, Hashimoto 2022)
would save the second gradient. But its sum is the gradient of a weighted loss, a float sum whose rounding grows with
the population, so that one user can move it by more than the clip.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import Contribution, add_rows
from fedrec.towers.base import ItemTower
from fedrec.towers.losses import user_losses
from fedrec.towers.objective import Objective
from fedrec.towers.people import TowerWithPeople


class LocalContribution(Contribution):
    """Sums of local gradients over all parameters of the tower, (P,) each.

    Args:
        tower: in float64.
        objective: the users' losses.
        steps: gradient steps of each user.
        step_size: of each step.
    """

    def __init__(
        self, tower: ItemTower | TowerWithPeople, objective: Objective, steps: int = 1, step_size: float = 1.0
    ) -> None:
        self.tower, self.objective = tower, objective
        self.steps, self.step_size = steps, step_size
        self.parameters = {name: parameter.detach() for name, parameter in tower.named_parameters()}

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(parameter.numel() for parameter in self.parameters.values()),)

    def norms(self) -> Tensor:
        everybody = torch.arange(len(self.objective), device=self.objective.vectors.device)
        squares = torch.zeros(len(everybody), dtype=torch.float64, device=everybody.device)
        for users, _, slopes in self._slopes(everybody):
            squares[users] = sum(slope.square().flatten(1).sum(1) for slope in slopes.values())
        return squares.sqrt()

    def unit_weights(self) -> Tensor:
        return torch.ones(len(self.objective), dtype=torch.float64, device=self.objective.vectors.device)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        for users, items, slopes in self._slopes((weights != 0).nonzero()[:, 0]):
            done = 0
            for name, slope in slopes.items():
                shape = self.parameters[name].shape
                into = total[done : done + shape.numel()].view(shape)
                done += shape.numel()
                if name in self.tower.tables:
                    weighted = lattice.whole(slope * weights[users].double().view(-1, *[1] * (slope.ndim - 1)))
                    part = torch.zeros(shape, dtype=torch.float64, device=total.device)
                    add_whole(into, part.index_add_(0, items.flatten(), weighted.flatten(0, 1)))
                else:
                    add_rows(into, slope, weights[users], lattice)

    def dense(self, row: int) -> Tensor:
        weights = torch.zeros(len(self.objective), dtype=torch.float64, device=self.objective.vectors.device)
        weights[row] = 1.0
        return self.weighted_sum(weights)

    def _slopes(self, users: Tensor) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Yield (positions, items (b, m), gradients by parameter), some of `users` at a time.

        The gradient of a table is (b, m, d), for the rows `items`. An item that occurs twice has it at its first place,
        and zero at the other.
        """
        if not len(users):
            return
        whole = sum(value.numel() for name, value in self.parameters.items() if name not in self.tower.tables)
        for some, objective in self.objective.chunks(users, at_least=whole):
            yield some, objective.targets.items.flatten(1).sort(dim=1).values, self._descend(objective)

    def _descend(self, objective: Objective) -> dict[str, Tensor]:
        chosen = objective.targets.items
        items = chosen.flatten(1).sort(dim=1).values
        rows = torch.searchsorted(items, chosen.flatten(1)).view(chosen.shape)  # each item's first place
        start = {
            name: value[items] if name in self.tower.tables else value.expand(len(objective), *value.shape)
            for name, value in self.parameters.items()
        }
        labels = None if objective.targets.labels is None else objective.targets.labels.double()
        bias = objective.bias.double()[chosen]
        people = None if objective.people is None else (objective.people.double(), _given(objective.shrink).double())

        def loss(
            own: dict[str, Tensor],
            items: Tensor,
            rows: Tensor,
            vector: Tensor,
            bias: Tensor,
            valid: Tensor,
            label: Tensor | None,
            person: tuple[Tensor, Tensor] | None,
        ) -> Tensor:
            if person is None:
                found = functional_call(self.tower, own, (items, rows))
            else:
                found, shift = functional_call(self.tower, own, (items, rows, person[0]))
                vector = vector + person[1] * shift
            scores = objective.scale * (found @ vector) + bias
            return user_losses(objective.loss, scores, label, valid)

        over = (0, 0, 0, 0, 0, 0, None if labels is None else 0, None if people is None else 0)
        slopes = vmap(grad(loss), in_dims=over)
        given = (chosen, rows, objective.vectors.double(), bias, objective.targets.valid, labels, people)
        if self.steps == 1:
            found: dict[str, Tensor] = slopes(start, *given)
            return found
        own = start
        for _ in range(self.steps):
            slope = slopes(own, *given)
            own = {name: own[name] - self.step_size * slope[name] for name in own}
        return {name: (start[name] - own[name]) / self.step_size for name in own}


def _given(values: Tensor | None) -> Tensor:
    assert values is not None
    return values
