"""Each user's gradient of the loss of a sequence tower, in all its parameters.

The slopes in the vectors that a user computes with come first, and the item part turns them into its own gradient: what
an item costs is paid once for all users. Users are computed together whose histories have the same padded length, so a
user's bits do not depend on the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from fedrec.algorithms.ragged import padded_lengths
from fedrec.algorithms.sequence_examples import Examples
from fedrec.rowwise import bmm
from fedrec.sequences.tower import SequenceTower, taste
from fedrec.towers.losses import user_losses

_NUMBERS_AT_ONCE = 1 << 23
NEVER = -1e9
"""Offset of the score of a negative that does not count."""


class Slopes(NamedTuple):
    """What a loss gives back to the tower.

    Attributes:
        of_predicted: (B, T, d) slopes in the predictions.
        of_targets: (B, T, d) slopes in the vectors of the targets; None where the loss does not use them.
        own: by name, each user's gradient in other parameters (B, *shape), or what is added to it.
    """

    of_predicted: Tensor
    of_targets: Tensor | None
    own: Mapping[str, Tensor]


class Output(Protocol):
    """A loss of predictions."""

    def slopes(self, tower: SequenceTower, vectors: Tensor, predicted: Tensor, examples: Examples) -> Slopes:
        """Compute the slopes of each user's loss; predicted: (B, T, d)."""


@dataclass(frozen=True)
class Score:
    """score = scale * <prediction, item vector> + level.

    Attributes:
        scale: of the inner product.
        level: (items,), constant: the weighted logarithm of popularity, less the logarithm of the chance of a draw.
        loss: a name in `fedrec.towers.losses.LOSSES`.
    """

    scale: float
    level: Tensor
    loss: str

    def slopes(self, tower: SequenceTower, vectors: Tensor, predicted: Tensor, examples: Examples) -> Slopes:
        """As `Output`: of targets among negatives."""
        level = torch.where(examples.outside, self.level[examples.negatives], NEVER)[:, None]  # (B, 1, N)
        offsets = (self.level[examples.targets][:, :, None], level)
        return against_negatives(tower, vectors, predicted, examples, offsets, self.scale, self.loss)


def against_negatives(
    tower: SequenceTower,
    vectors: Tensor,
    predicted: Tensor,
    examples: Examples,
    offsets: tuple[Tensor, Tensor],
    scale: float,
    loss: str,
) -> Slopes:
    """Compute the slopes of each user's loss of targets among negatives.

    Args:
        tower: as of `gradients`, like `vectors` and `examples`.
        predicted: (B, T, d).
        offsets: constants that are added to the scores of targets, (B, T, 1), and of negatives, (B, 1 or T, N).
        scale: of <prediction, item vector> in a score.
        loss: a name in `fedrec.towers.losses.LOSSES`.
    """
    target, negative = vectors[examples.targets], vectors[examples.negatives]
    of_target = (predicted * target).sum(-1, keepdim=True) * scale + offsets[0]
    of_negatives = bmm(predicted, negative.mT) * scale + offsets[1]
    scores = torch.cat([of_target, of_negatives], 2).detach().requires_grad_()
    with torch.enable_grad():
        losses = user_losses(loss, scores, None, examples.valid)  # a user's depends on its own scores alone
        (slopes,) = torch.autograd.grad(losses.sum(), scores)
    slopes = slopes * scale
    of_target, of_negatives = slopes[:, :, :1], slopes[:, :, 1:]
    others = tower.items.pulled_back_products(examples.negatives, of_negatives, predicted, examples.shared)
    own = {f"items.{name}": value for name, value in others.items()}
    return Slopes(of_target * target + bmm(of_negatives, negative), of_target * predicted, own)


def gradients(tower: SequenceTower, vectors: Tensor, examples: Examples, output: Output) -> Tensor:
    """Compute the gradients of B users, (B, P) float32, parameters in the order of `tower.named_parameters()`.

    Args:
        tower: holds the parameters.
        vectors: (items, d) of all items, made from these parameters.
        examples: of the users.
        output: the loss.
    """
    found = vectors.new_zeros(len(examples), tower.size)
    lengths = padded_lengths((examples.inputs >= 0).sum(1))
    ascending = lengths.sort(stable=True)
    widths, counts = torch.unique_consecutive(ascending.values, return_counts=True)
    for rows, width in zip(ascending.indices.split(counts.tolist()), widths.tolist(), strict=True):
        if not width:
            continue
        used = width + examples.targets.shape[1] + examples.negatives.shape[1]
        one = used * (tower.items.width + 2 * vectors.shape[1])
        for some in rows.split(max(1, _NUMBERS_AT_ONCE // one)):
            found[some] = _gradients(tower, vectors, examples.take(some, width), output)
    return found


def _gradients(tower: SequenceTower, vectors: Tensor, examples: Examples, output: Output) -> Tensor:
    """As `gradients`, for users of one padded length.

    The slopes of the losses in the predictions come first. One pass back through the encoder gives the slopes in its
    parameters and in the vectors of the events.
    """
    parameters = {name: value.detach() for name, value in tower.encoder.named_parameters()}
    mask, inputs = examples.inputs >= 0, examples.inputs.clamp(min=0)
    known = bool(examples.ordered.all())

    def encode(own: dict[str, Tensor], events: Tensor, mask: Tensor, at: Tensor, ordered: Tensor) -> Tensor:
        def call(*given: Tensor) -> Tensor:
            made: Tensor = functional_call(tower.encoder, own, given)
            return made

        return taste(call, events, mask, at, None if known else ordered)

    def weighed(
        own: dict[str, Tensor], events: Tensor, mask: Tensor, at: Tensor, ordered: Tensor, slope: Tensor
    ) -> Tensor:
        return (encode(own, events[None], mask[None], at[None], ordered[None])[0] * slope).sum()

    given = (vectors[inputs], mask, examples.at, examples.ordered)
    predicted = encode(parameters, *given)  # (B, T, d)
    made = output.slopes(tower, vectors, predicted, examples)
    own, of_events = vmap(grad(weighed, argnums=(0, 1)), in_dims=(None, *[0] * 5))(
        parameters, *given, made.of_predicted
    )
    if made.of_targets is not None:
        inputs, of_events = torch.cat([inputs, examples.targets], 1), torch.cat([of_events, made.of_targets], 1)
    parts = {f"items.{name}": value for name, value in tower.items.pulled_back(inputs, of_events).items()}
    parts |= {f"encoder.{name}": value for name, value in own.items()}
    for name, value in made.own.items():
        parts[name] = parts[name] + value if name in parts else value
    return torch.cat([parts[name].flatten(1) for name, _ in tower.named_parameters()], 1)
