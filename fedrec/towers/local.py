"""Several gradient steps of each user on a copy of the tower that is that user's own.

Of parameters with a row an item a user copies the rows that the targets and negatives touch, of the others all. What
is added is (start - end) / step size, the sum of the gradients along the way: with one step it is the gradient. The
sum has an entry for every parameter, touched or not, so that which rows a user copied is never seen.
"""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from fedrec.privacy.queries import Contribution
from fedrec.towers.base import ItemTower
from fedrec.towers.losses import user_losses
from fedrec.towers.objective import Objective


class LocalContribution(Contribution):
    """Sums of local gradients: rows of the tables (B, m, d) with where they belong, and the rest (B, ...).

    `tower` in float64.
    """

    def __init__(self, tower: ItemTower, objective: Objective, steps: int, step_size: float) -> None:
        self.tower = tower
        self.objective, self.steps, self.step_size = objective, steps, step_size
        self.names = [name for name, _ in tower.named_parameters()]
        self.items = (
            objective.targets.items.flatten(1).sort(dim=1).values
        )  # (B, m); a row's first place is the one used
        device = objective.vectors.device
        parts = [self._descend(part) for _, part in objective.chunks(torch.arange(len(objective), device=device))]
        shapes = {name: parameter.shape for name, parameter in tower.named_parameters()}
        self.shapes = shapes
        self.values = {
            name: torch.cat([part[name] for part in parts])
            if parts
            else torch.zeros(0, *(self.items.shape[1:] if name in tower.tables else ()), *shapes[name], device=device)
            for name in self.names
        }

    def _descend(self, objective: Objective) -> dict[str, Tensor]:
        chosen = objective.targets.items
        items = chosen.flatten(1).sort(dim=1).values
        rows = torch.searchsorted(items, chosen.flatten(1)).view(chosen.shape)  # each item's first place
        start = {
            name: parameter.detach()[items]
            if name in self.tower.tables
            else parameter.detach().expand(len(objective), *parameter.shape)
            for name, parameter in self.tower.named_parameters()
        }
        labels = objective.targets.labels
        bias = objective.bias.double()[chosen]

        def loss(
            own: dict[str, Tensor],
            items: Tensor,
            rows: Tensor,
            vector: Tensor,
            bias: Tensor,
            valid: Tensor,
            label: Tensor | None,
        ) -> Tensor:
            scores = objective.scale * (functional_call(self.tower, own, (items, rows)) @ vector) + bias
            return user_losses(objective.loss, scores, label, valid)

        slopes = vmap(grad(loss), in_dims=(0, 0, 0, 0, 0, 0, None if labels is None else 0))
        own = start
        for _ in range(self.steps):
            label = None if labels is None else labels.double()
            slope = slopes(own, chosen, rows, objective.vectors.double(), bias, objective.targets.valid, label)
            own = {name: own[name] - self.step_size * slope[name] for name in own}
        return {name: ((start[name] - own[name]) / self.step_size).float() for name in own}

    def norms(self) -> Tensor:
        squares = torch.zeros(len(self.objective), dtype=torch.float64, device=self.items.device)
        for value in self.values.values():
            squares += value.double().square().flatten(1).sum(1)
        return squares.sqrt()

    def unit_weights(self) -> Tensor:
        return torch.ones(len(self.objective), dtype=torch.float64, device=self.items.device)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        return self._sum((weights != 0).nonzero()[:, 0], weights)

    def dense(self, row: int) -> Tensor:
        one = torch.ones(len(self.objective), device=self.items.device)
        return self._sum(torch.tensor([row], device=self.items.device), one)

    def _sum(self, users: Tensor, weights: Tensor) -> Tensor:
        parts, weights = [], weights[users].double()
        for name in self.names:
            value = self.values[name][users]
            total = torch.zeros(self.shapes[name], dtype=torch.float64, device=value.device)
            if name in self.tower.tables:
                weighted = weights.view(-1, *[1] * (value.ndim - 1)) * value
                total.index_add_(0, self.items[users].flatten(), weighted.flatten(0, 1))
            else:
                total = torch.tensordot(weights, value.double(), dims=1)
            parts.append(total.flatten())
        return torch.cat(parts).float()
