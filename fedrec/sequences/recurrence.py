"""The states of a gated recurrent unit over histories, with a backward pass written out.

Autograd keeps a graph of every step, and takes ten times as long for histories of 200 events. Here the gates of all
steps are computed at once from the states, and what one step passes back is a product with numbers that are known:

    h_t = (1 - z) h + z n,   z = sigmoid(a_z + h U_z),   n = tanh(a_n + r (h U_n)),   r = sigmoid(a_r + h U_r),

with h = h_{t-1}. The slope of the loss in (h U_z, h U_r, h U_n) is the slope in h_t times (p, q r', s) for
p = (n - h) z (1 - z), s = z (1 - n^2) r, and q r' = z (1 - n^2) (h U_n) r (1 - r).
"""

from typing import Any

import torch
from torch import Tensor


class Recurrence(torch.autograd.Function):
    """(inputs (B, L, 3d): of update, reset, candidate; weights U (d, 3d)) to the states (B, L, d), from zero."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, weights: Tensor) -> Tensor:
        dim = weights.shape[0]
        given = given.transpose(0, 1).contiguous()  # (L, B, 3d): a step is one piece of memory
        states = given.new_empty(*given.shape[:2], dim)
        state, old = given.new_zeros(given.shape[1], dim), given.new_empty(given.shape[1:])
        for step, into in zip(given.unbind(), states.unbind(), strict=True):
            torch.mm(state, weights, out=old)
            gates = torch.sigmoid(old[:, : 2 * dim].add_(step[:, : 2 * dim]))
            new = torch.addcmul(step[:, 2 * dim :], gates[:, dim:], old[:, 2 * dim :]).tanh_()
            torch.lerp(state, new, gates[:, :dim], out=into)
            state = into
        ctx.save_for_backward(given, weights, states)
        return states.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        given, weights, states = ctx.saved_tensors
        dim = weights.shape[0]
        before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
        old = before @ weights  # (L, B, 3d)
        update, reset = torch.sigmoid(given[..., : 2 * dim] + old[..., : 2 * dim]).split(dim, -1)
        new = torch.tanh(given[..., 2 * dim :] + reset * old[..., 2 * dim :])
        of_new = update * (1 - new.square())
        factors = torch.stack(
            [
                (new - before) * update * (1 - update),
                of_new * old[..., 2 * dim :] * reset * (1 - reset),
                of_new * reset,
            ],
            2,
        )  # (L, B, 3, d)
        kept, transposed = 1 - update, weights.t().contiguous()
        inside = torch.empty_like(factors)
        later = slopes[0].transpose(0, 1).clone(memory_format=torch.contiguous_format)
        carried = torch.zeros_like(later[0])  # what later states pass back to each state
        steps = zip(later.unbind(), factors.unbind(), inside.unbind(), kept.unbind(), strict=True)
        for slope, factor, within, keep in reversed(list(steps)):
            slope.add_(carried)
            torch.mul(factor, slope[:, None], out=within)
            carried = torch.addmm(slope * keep, within.view(len(within), -1), transposed)
        inside = inside.flatten(2)
        of_given = inside.clone()
        of_given[..., 2 * dim :] = later * of_new
        return of_given.transpose(0, 1), before.flatten(0, 1).mT @ inside.flatten(0, 1)
