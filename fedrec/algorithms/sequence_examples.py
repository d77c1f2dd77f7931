"""Training examples of `sequence`: events to predict, each from the events before it, and negatives.

Negatives come from everything outside the user's training events: an item that is held out for evaluation may be one.
Shared negatives are the same draws for everybody, less each user's own items; local ones are drawn by each user.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.users import UserBatch

_TARGET, _NEGATIVE, _SHARED = 0x90, 0x91, 0x92
_POPULAR = 0.5  # part of the mixed draws that follow popularity


@dataclass(frozen=True)
class Windows:
    """The newest events of B users.

    Attributes:
        items: (B, W) int64, oldest first, then -1.
        counts: (B,) int64 events in the window.
        ordered: (B,) bool, false where the order of a user's events is unknown.
    """

    items: Tensor
    counts: Tensor
    ordered: Tensor

    @classmethod
    def of(cls, users: UserBatch, width: int) -> "Windows":
        """Cut each user's newest `width` events."""
        counts = users.lengths.clamp(max=width)
        place = torch.arange(width, device=users.device)
        inside = place < counts[:, None]
        event = (users.offsets[1:] - counts)[:, None] + place
        known = torch.cat([users.items, users.items.new_full((1,), -1)])
        items = known[torch.where(inside, event, len(users.items))]
        ordered = torch.full((len(users),), users.ordered, device=users.device)
        return cls(items, counts, ordered if users.tied is None else ordered & ~users.tied)

    @property
    def mask(self) -> Tensor:
        """Where there is an event, (B, W) bool."""
        return self.items >= 0


@dataclass(frozen=True)
class NegativeDraws:
    """How negatives are drawn.

    Attributes:
        count: negatives of a user, for all its targets.
        shared: whether all users have the same draws.
        chances: probability of each item in a draw, (items,) float64; None for uniform.
        seed: of shared draws.
    """

    count: int
    shared: bool
    chances: Tensor | None
    seed: int

    def draw(self, users: UserBatch, round_index: int) -> tuple[Tensor, Tensor]:
        """Draw items (B, N) int64, and whether each is outside the user's own events, (B, N) bool."""
        device = users.device
        if self.shared:
            key = draws.mix(draws.keys(self.seed, torch.tensor([round_index], device=device)))
            one = self._items(key, _SHARED, users.n_items)
            items = one.expand(len(users), -1)
        else:
            items = self._items(draws.mix(users.keys + round_index), _NEGATIVE, users.n_items)
        return items, ~users.has(items)

    def _items(self, keys: Tensor, stream: int, items: int) -> Tensor:
        u = draws.uniform(keys, stream, self.count)
        if self.chances is None:
            return (u * items).long().clamp(max=items - 1)
        mass = self.chances.cumsum(0)
        return torch.searchsorted(mass, u * mass[-1], right=True).clamp(max=items - 1)


def mixed_chances(popularity: Tensor) -> Tensor:
    """Return the probability of each item, (items,) float64: half by `popularity` (items,), half uniform.

    Computed on the CPU, where running sums repeat.
    """
    likely = popularity.double().cpu()
    likely = _POPULAR * likely / likely.sum() + (1 - _POPULAR) / len(likely)
    return likely.to(popularity.device)


@dataclass(frozen=True)
class Examples:
    """Examples of B users.

    Attributes:
        inputs: (B, L) int64 events, oldest first, then -1.
        ordered: (B,) bool.
        at: (B, T) int64: the target is the event after this position.
        targets: (B, T) int64 items; 0 where there is none.
        valid: (B, T) bool.
        negatives: (B, N) int64.
        outside: (B, N) bool, false for negatives that are the user's own items; they do not count.
        shared: whether all users have the same negatives.
    """

    inputs: Tensor
    ordered: Tensor
    at: Tensor
    targets: Tensor
    valid: Tensor
    negatives: Tensor
    outside: Tensor
    shared: bool

    @classmethod
    def draw(
        cls, users: UserBatch, length: int, targets: int, newest: int, negatives: NegativeDraws, round_index: int
    ) -> "Examples":
        """Draw examples anew for a round, from the users' own keys.

        Args:
            users: B users.
            length: events before a target that are used.
            targets: most targets of a user.
            newest: targets are among so many of the newest events.
            negatives: how they are drawn.
            round_index: number of the round.
        """
        window = Windows.of(users, length + 1)
        place = torch.arange(length + 1, device=users.device)
        lag = window.counts[:, None] - 1 - place
        may = (place > 0) & (lag >= 0) & (lag < newest)
        u = draws.uniform(draws.mix(users.keys + round_index), _TARGET, length + 1)
        order = torch.where(may, u, 2.0).sort(dim=1)
        count = min(targets, length)
        position, valid = order.indices[:, :count], order.values[:, :count] < 1
        position = torch.where(valid, position, 1)
        items, outside = negatives.draw(users, round_index)
        return cls(
            inputs=window.items[:, :length],
            ordered=window.ordered,
            at=position - 1,
            targets=torch.where(valid, window.items.gather(1, position), 0),
            valid=valid,
            negatives=items,
            outside=outside,
            shared=negatives.shared,
        )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Tensor, length: int) -> "Examples":
        """Return the examples of some users, none of whom has more than `length` inputs."""
        inputs = torch.nn.functional.pad(self.inputs, (0, max(0, length - self.inputs.shape[1])), value=-1)
        return Examples(
            inputs=inputs[rows, :length],
            ordered=self.ordered[rows],
            at=self.at[rows],
            targets=self.targets[rows],
            valid=self.valid[rows],
            negatives=self.negatives[rows],
            outside=self.outside[rows],
            shared=self.shared,
        )
