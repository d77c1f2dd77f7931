"""What a device trains on in one round: some of its events, each with negatives, counted by item."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from fedrec import draws
from fedrec.algorithms.ragged import padded_lengths
from fedrec.data.users import UserBatch

_EVENT, _NEGATIVE = 0x80, 0x81


@dataclass(frozen=True)
class Examples:
    """items: (B, m) int64, each once a user, -1 for none; events, examples: (B, m), how often an item is there as
    an event, and in all. Binary cross-entropy needs no more: an item has one score, however often it was drawn."""

    items: Tensor
    events: Tensor
    examples: Tensor

    @classmethod
    def draw(cls, users: UserBatch, events: int, negatives: int, round_index: int) -> "Examples":
        """Up to `events` events of each user at random, each with uniform negatives from outside the history."""
        (drawn,) = cls.parts(users, events, negatives, round_index, 1)
        return drawn

    @classmethod
    def parts(cls, users: UserBatch, events: int, negatives: int, round_index: int, parts: int) -> list["Examples"]:
        """As `draw`, dealt out in turn to so many disjoint parts."""
        seeds = draws.mix(users.keys + round_index)
        place = torch.arange(len(users.items), device=users.device) - users.offsets[:-1][users.owners]
        value = draws.uniform(draws.mix(seeds[users.owners] + place), _EVENT, 1)[:, 0]
        order = torch.argsort(users.owners + value)  # within each user, shuffled
        events = min(events, max(1, int(users.lengths.max()))) if len(users) else events
        chosen = place < events  # and `place` is also the position in the shuffled history
        owner, slot = users.owners[chosen], place[chosen]
        items = torch.full((len(users), events, 1 + negatives), -1, dtype=torch.int64, device=users.device)
        drawn = users.negatives(events * negatives, _NEGATIVE + (round_index << 8)).view(len(users), events, negatives)
        items[owner, slot, 0] = users.items[order][chosen]
        items[owner, slot, 1:] = drawn[owner, slot]
        return [cls._counted(items[:, first::parts]) for first in range(parts)]

    @classmethod
    def _counted(cls, items: Tensor) -> "Examples":
        """Of items (B, T, 1 + N), an event and its negatives, -1 for none."""
        label = torch.zeros(items.shape, device=items.device)
        label[:, :, 0] = 1
        ordered = items.flatten(1).sort(dim=1, descending=True)  # so that none comes last
        values = ordered.values
        new = torch.ones_like(values)
        new[:, 1:] = (values[:, 1:] != values[:, :-1]).long()
        rank = new.cumsum(1) - 1
        width = int(rank.max()) + 1 if rank.numel() else 0
        distinct = values.new_full((len(values), width), -1).scatter_(1, rank, values)
        there = (values >= 0).float()
        zero = there.new_zeros(distinct.shape)
        events = zero.scatter_add(1, rank, label.flatten(1).gather(1, ordered.indices) * there)
        return cls(distinct, events, zero.scatter_add(1, rank, there))

    @cached_property
    def lengths(self) -> Tensor:
        """Number of each user's items, (B,) int64; they come before the places without one."""
        return (self.items >= 0).sum(1)

    def take(self, users: Tensor, width: int) -> "Examples":
        """The users at these positions, (b, width) each; none of them has more items."""
        more = max(0, width - self.items.shape[1])
        parts = (pad(self.items, (0, more), value=-1), pad(self.events, (0, more)), pad(self.examples, (0, more)))
        return Examples(*(part[:, :width].index_select(0, users) for part in parts))

    def rows(self, table: Tensor) -> Tensor:
        """The table's rows (B, m, w) at the items; where there is none, some row, which no example weighs."""
        return torch.nn.functional.embedding(self.items.clamp(min=0), table)

    def error(self, scores: Tensor) -> Tensor:
        """Slope (B, m) of each user's mean binary cross-entropy in the scores (B, m)."""
        count = self.examples.sum(1, keepdim=True).clamp(min=1)
        return (self.examples * torch.sigmoid(scores) - self.events) / count


def groups(parts: Sequence[Examples], most: int) -> list[tuple[Tensor, int]]:
    """(positions, width) of all users, at most `most` positions at a time: those together whose width is the same.

    A user's width is the padded number of items in the longest of the user's own `parts`.
    """
    lengths = torch.stack([part.lengths for part in parts]).amax(0)
    ascending = padded_lengths(lengths).sort(stable=True)
    widths, counts = torch.unique_consecutive(ascending.values, return_counts=True)
    alike = zip(ascending.indices.split(counts.tolist()), widths.tolist(), strict=True)
    return [(part, width) for users, width in alike for part in users.split(most)]
