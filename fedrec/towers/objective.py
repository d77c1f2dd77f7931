"""Users' losses as a function of item vectors, in float64, a few users at a time.

float64, because a norm that rounding makes too small would break the clip. A few users at a time, because users x items
x dimensions would not fit into memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec.towers.examples import Targets
from fedrec.towers.losses import user_losses

NUMBERS_AT_ONCE = 1 << 22
"""Entries of item vectors that are held at a time."""


@dataclass(frozen=True)
class Objective:
    """The losses of B users: score = scale * <vector, item vector> + bias.

    Attributes:
        vectors: (B, d), constants.
        people: (B, width), columns of the users' attributes for the tower's network; None for a tower without one.
        shrink: (B,), factor of what that network adds to a vector; None without one.
        targets: of these users.
        bias: (items,).
        scale: of the inner product.
        loss: a name in `LOSSES`.
    """

    vectors: Tensor
    targets: Targets
    bias: Tensor
    scale: float
    loss: str
    people: Tensor | None = None
    shrink: Tensor | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, users: Tensor) -> "Objective":
        """Return the objective of the users at these positions."""
        labels = self.targets.labels
        part = Targets(self.targets.items[users], None if labels is None else labels[users], self.targets.valid[users])
        people = None if self.people is None else self.people[users]
        shrink = None if self.shrink is None else self.shrink[users]
        return Objective(self.vectors[users], part, self.bias, self.scale, self.loss, people, shrink)

    def chunks(self, users: Tensor, at_least: int = 1) -> Iterator[tuple[Tensor, "Objective"]]:
        """Yield (positions, their objective) for few enough users at a time.

        Args:
            users: positions, int64.
            at_least: numbers a user that must fit into memory in addition to the item vectors.
        """
        one = max(self.targets.items[0].numel() * self.vectors.shape[1], at_least) if len(self) else 1
        for some in users.split(max(NUMBERS_AT_ONCE // one, 1)):
            yield some, self.take(some)

    def losses(self, items: Tensor) -> Tensor:
        """Compute each user's loss (B,) from the vectors (B, T, 1 + N, d) of the targets' items."""
        labels = None if self.targets.labels is None else self.targets.labels.to(items.dtype)
        scores = self.scale * torch.einsum("btcd,bd->btc", items, self.vectors.to(items.dtype))
        scores = scores + self.bias.to(items.dtype)[self.targets.items]
        return user_losses(self.loss, scores, labels, self.targets.valid)
