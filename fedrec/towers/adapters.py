"""Low-rank adapters: a tower that is frozen at its start, and a small correction that users train and send.

| adapter | corrects | numbers at rank r |
|---|---|---|
| `lora` | each linear layer W (out, in) to W + B A, a table T (items, d) to T + A B | r (in + out), r (items + d) |
| `map` | the vector h of any tower to h + B A h | 2 r d |

One factor is random and the other zero, so that the adapted tower is exactly the frozen one at first. A release
contains item vectors, in which the correction is merged: devices need nothing new. The clip is on a user's whole
contribution to all adapters, as it is on all parameters of a tower.

Source: Hu et al. 2021 (LoRA). Different: `map`, whose size depends on no catalogue, for few users or a small epsilon.
The rank follows from users x mu, because every number that is trained gets the same noise.
"""

import math

import torch
from torch import Tensor, nn

from fedrec import draws
from fedrec.errors import InputError
from fedrec.towers.base import ItemTower

SIGNAL = 0.08
"""Measured: signal and noise of a mean gradient balance near (SIGNAL x users x mu)^2 / rounds numbers."""
UNPAID_RANK = 8
"""Rank where there is no noise."""
_STREAM = 0xADA


class LowRankLinear(nn.Module):
    """A frozen linear layer plus a correction of low rank.

    Args:
        layer: its weights become buffers.
        rank: of the correction.
        seed: of the random factor.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear, rank: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().clone())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        self.down = nn.Parameter(_random(rank, layer.in_features, seed).to(layer.weight))
        self.up = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute (..., out) from rows (..., in)."""
        return nn.functional.linear(rows, self.weight, self.bias) + rows @ self.down.mT @ self.up.mT


class AdaptedTower(ItemTower):
    """A frozen tower with a low-rank correction, whose parameters alone are trained; see the module.

    Args:
        base: the tower at its start; it is changed and kept.
        rank: of the correction.
        seed: public seed of the random factors.

    Raises:
        InputError: for `lora` of a tower whose layers it cannot correct.
    """

    def __init__(self, base: ItemTower, rank: int, seed: int) -> None:
        nn.Module.__init__(self)
        self.config, self.items, self.kind = base.config, base.items, base.config.adapter
        if self.kind == "lora" and not base.corrected:
            raise InputError(f"tower '{base.name}' cannot have adapter = 'lora'; take 'map', or leave it out")
        self.table_scale, dim = base.table_scale, base.config.dim
        own: tuple[str, ...] = ()
        if self.kind == "lora":
            for name, layer in [*base.named_modules()]:
                if isinstance(layer, nn.Linear):
                    parent, _, last = name.rpartition(".")
                    setattr(base.get_submodule(parent), last, LowRankLinear(layer, rank, seed))
            if base.tables:
                self.rows = nn.Parameter(torch.zeros(base.items, rank, device="cpu"))
                self.columns = nn.Parameter(_random(rank, dim, seed))
                own = ("rows",)
        else:
            self.down = nn.Parameter(_random(rank, dim, seed))
            self.up = nn.Parameter(torch.zeros(dim, rank, device="cpu"))
        self.tables = own  # type: ignore[misc]  # of this tower alone: it is one of another's
        _freeze(base)
        self.base = base

    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        vectors = self.base.encode(items, items)  # the frozen table has every row
        if self.kind == "map":
            return vectors + vectors @ self.down.mT @ self.up.mT
        return vectors + self.table_scale * (self.rows[rows] @ self.columns) if self.tables else vectors


def adapted(base: ItemTower, users_times_mu: float, rounds: int, seed: int) -> tuple[AdaptedTower, int]:
    """Return the tower with the adapter that its settings ask for, and the rank.

    Args:
        base: the tower at its start; it is changed and kept.
        users_times_mu: signal-to-noise of all rounds together, times users; infinite without privacy.
        rounds: gradient steps that share it.
        seed: public seed of the random factors.

    Raises:
        InputError: as `AdaptedTower`.
    """
    rank = base.config.adapter_rank or paid_rank(base, users_times_mu, rounds)
    return AdaptedTower(base, rank, seed), rank


def paid_rank(base: ItemTower, users_times_mu: float, rounds: int) -> int:
    """Return the largest rank whose numbers the budget can pay for, at least 1 and at most the vectors' length."""
    dim = base.config.dim
    if math.isinf(users_times_mu):
        return min(UNPAID_RANK, dim)
    numbers = (SIGNAL * users_times_mu) ** 2 / rounds
    return max(1, min(dim, int(numbers / numbers_a_rank(base))))


def numbers_a_rank(base: ItemTower) -> int:
    """Return how many numbers a correction of rank 1 has."""
    dim = base.config.dim
    if base.config.adapter == "map":
        return int(2 * dim)
    layers = [layer for layer in base.modules() if isinstance(layer, nn.Linear)]
    tables = base.items + dim if base.tables else 0
    return int(sum(layer.in_features + layer.out_features for layer in layers) + tables)


def _random(rows: int, columns: int, seed: int) -> Tensor:
    """Draw a factor (rows, columns) whose rows have a squared norm near 1; a function of the seed and the shape."""
    keys = draws.keys(seed, torch.arange(rows, device="cpu"))
    return draws.normal(keys, _STREAM, columns) / math.sqrt(columns)


def _freeze(base: nn.Module) -> None:
    """Make buffers of all parameters but those of the corrections."""
    for module in base.modules():
        if isinstance(module, LowRankLinear):
            continue
        for name, parameter in [*module.named_parameters(recurse=False)]:
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
