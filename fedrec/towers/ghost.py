"""One gradient step of each user on a shared tower, without a gradient per user: ghost clipping.

Source: Li, Tramer, Liang, Hashimoto 2022 (ghost clipping), in Opacus (`GradSampleHooksFastGradientClipping`), with the
USER as the sample: dimension 0 is the user, dimension 1 the items of that user's targets and negatives, so the norm is
that of the whole contribution over all parameters. Different from Opacus' loop: the weighted sum is not a second
backward over users x items, but one over the catalogue. The tower works item by item, so the users' gradients are
first added up where they meet, at the items' vectors.
"""

import warnings
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from fedrec.errors import PrivacyError
from fedrec.privacy.queries import Contribution
from fedrec.towers.base import ItemTower
from fedrec.towers.layers import ItemLinear, RowTable
from fedrec.towers.objective import Objective


def flat(tensors: Any) -> Tensor:
    """Tensors as one vector, in their order."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class GhostContribution(Contribution):
    """The gradients of users' losses in all parameters of the tower, (P,) each; `tower` in float64."""

    def __init__(self, tower: ItemTower, objective: Objective) -> None:
        _proven(tower)
        self.tower, self.objective = tower, objective

    @cached_property
    def _norms(self) -> Tensor:
        norms = torch.zeros(len(self.objective), dtype=torch.float64, device=self.objective.vectors.device)
        hooks = _ghost_hooks()(self.tower.train(), loss_reduction="sum", strict=False)
        try:
            for users, objective in self.objective.chunks(torch.arange(len(norms), device=norms.device)):
                chosen = objective.targets.items
                items = self.tower(chosen.flatten(1)).unflatten(1, chosen.shape[1:])
                with warnings.catch_warnings():  # item positions have no gradient, and PyTorch remarks on it
                    warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
                    objective.losses(items).sum().backward()
                norms[users] = hooks.get_norm_sample().detach()
        finally:
            hooks.cleanup()
            self.tower.zero_grad(set_to_none=True)
        return norms

    def norms(self) -> Tensor:
        return self._norms

    def unit_weights(self) -> Tensor:
        return torch.ones(len(self.objective), dtype=torch.float64, device=self.objective.vectors.device)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        device = self.objective.vectors.device
        table = self.tower(torch.arange(self.tower.items, device=device))
        leaf = table.detach().requires_grad_()
        for users, objective in self.objective.chunks((weights != 0).nonzero()[:, 0]):
            losses = objective.losses(embedding(objective.targets.items, leaf))
            (weights[users].double() * losses).sum().backward()
        upper = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        return flat(torch.autograd.grad(table, tuple(self.tower.parameters()), upper)).float()

    def dense(self, row: int) -> Tensor:
        alone = self.objective.take(torch.tensor([row], device=self.objective.vectors.device))
        loss = alone.losses(self.tower(alone.targets.items)).sum()
        return flat(torch.autograd.grad(loss, tuple(self.tower.parameters()))).float()


def _proven(tower: ItemTower) -> None:
    """Opacus has norms for other layers too, which take an item's dimension for another sample: they come out too
    small, and the clip would hold nothing. Raises: PrivacyError for a tower with any."""
    for name, layer in tower.named_modules():
        if not isinstance(layer, RowTable | ItemLinear) and next(layer.parameters(recurse=False), None) is not None:
            raise PrivacyError(
                f"tower '{tower.name}': the norm of a user's gradient is not proven for the parameters of "
                f"{name or 'itself'} ({type(layer).__name__}); make it of RowTable and ItemLinear"
            )


@lru_cache(maxsize=1)
def _ghost_hooks() -> Any:
    """Opacus' ghost clipping, with samplers for the towers' layers. Imported late: it takes a second and 100 MB, and
    a device that only recommends needs none of it."""
    from opacus.grad_sample import GradSampleHooksFastGradientClipping
    from opacus.grad_sample.embedding import compute_embedding_grad_sample
    from opacus.grad_sample.linear import compute_linear_grad_sample, compute_linear_norm_sample
    from opacus.grad_sample.utils import register_grad_sampler, register_norm_sampler

    def table_norms(layer: RowTable, inputs: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
        """A user's gradient in a row is the sum over all places where the user has that item, then squared."""
        users = torch.arange(len(inputs[0]), device=backprops.device)[:, None]
        pair = users * layer.num_embeddings + inputs[0].flatten(1)
        pairs, inverse = torch.unique(pair, return_inverse=True)
        rows = backprops.new_zeros(len(pairs), backprops.shape[-1])
        rows.index_add_(0, inverse.flatten(), backprops.flatten(0, -2))
        squares = backprops.new_zeros(len(users))
        squares.index_add_(0, pairs // layer.num_embeddings, rows.square().sum(1))
        return {layer.weight: squares.sqrt()}

    def linear_norms(layer: ItemLinear, inputs: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
        """All pairs of a user's items (Opacus), or that user's gradient in this one layer, whichever is smaller."""
        if backprops.shape[1] ** 2 < layer.in_features * layer.out_features:
            pairs: dict[nn.Parameter, Tensor] = compute_linear_norm_sample(layer, inputs, backprops)
            return pairs
        norms: dict[nn.Parameter, Tensor] = {layer.weight: torch.bmm(backprops.mT, inputs[0]).flatten(1).norm(dim=1)}
        if layer.bias is not None:
            norms[layer.bias] = backprops.sum(1).norm(dim=1)
        return norms

    register_grad_sampler(RowTable)(compute_embedding_grad_sample)
    register_grad_sampler(ItemLinear)(compute_linear_grad_sample)
    register_norm_sampler(RowTable)(table_norms)
    register_norm_sampler(ItemLinear)(linear_norms)
    return GradSampleHooksFastGradientClipping
