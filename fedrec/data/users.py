"""UserBatch: the users of one computation. A phone is a batch of one, a simulation a batch of thousands."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.people import People

_Places = Tensor | slice


@dataclass(frozen=True)
class UserBatch:
    """The private histories of B users as tensors on one device, events oldest first within a user.

    Attributes:
        items: (E,) int64, positions in the catalogue.
        lengths: (B,) int64, events of each user.
        keys: (B,) int64, seed of each user's own randomness.
        ratings: (E,) float32, NaN where unknown; or None.
        ordered: False if the order of events is unknown or ignored.
        tied: (B,) bool, True for users of an ordered batch whose events all have one time, so that their order is
            unknown; None without such users.
        memory: values that the device keeps between rounds, e.g. derived features. It never leaves the device and may
            be empty at any time: an algorithm recomputes missing values, to the same bits.
        avoid: (B,) int64, one further item each that is never a negative, -1 for none. None unless a simulation
            reproduces published leaks on purpose (`evaluation.leaky_negatives`).
        disliked: (B, L) int64, items that the user rated too low, padded with -1; or None. Every other negative is one
            of them (`data.dropped_as_negatives`).
        times: (E,) float64 seconds since 1970, NaN where unknown; or None. They stay on the device.
        people: private attributes of the users; or None. They stay on the device.
    """

    items: Tensor
    lengths: Tensor
    n_items: int
    keys: Tensor
    ratings: Tensor | None = None
    ordered: bool = True
    memory: dict[str, Tensor] = field(default_factory=dict)
    avoid: Tensor | None = None
    tied: Tensor | None = None
    disliked: Tensor | None = None
    times: Tensor | None = None
    people: People | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.items.device

    @cached_property
    def owners(self) -> Tensor:
        """The user (0..B-1) of each event, (E,) int64."""
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.device), self.lengths, output_size=len(self.items)
        )

    @cached_property
    def offsets(self) -> Tensor:
        """(B + 1,) int64."""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @cached_property
    def lags(self) -> Tensor:
        """(E,) int64: 0 for a user's newest event, 1 for the one before, ..."""
        return self.offsets[1:][self.owners] - 1 - torch.arange(len(self.items), device=self.device)

    def recency(self, decay: float) -> Tensor:
        """The weight per step back in a history, (B,) float32: `decay`, 1 for users whose order is unknown."""
        rates = torch.full((len(self),), decay if self.ordered else 1.0, device=self.device)
        return rates if self.tied is None else rates.masked_fill(self.tied, 1.0)

    @cached_property
    def distinct(self) -> tuple[Tensor, Tensor]:
        """Owners and items of the events, int64 each, without repeats, sorted by owner, then item."""
        pair = torch.unique(self.owners * self.n_items + self.items)
        return pair // self.n_items, pair % self.n_items

    @property
    def held_bytes(self) -> int:
        """Bytes of all tensors of the batch: its fields, values derived from them, and `memory`."""
        found: list[Tensor] = list(self.memory.values())
        found += [] if self.people is None else [self.people.values]
        for value in vars(self).values():
            found += [part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Tensor)]
        distinct = {(tensor.data_ptr(), tensor.numel()): tensor for tensor in found}
        return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())

    def without_repeats(self) -> "UserBatch":
        """Return each user's history with only the first event of each item."""
        if len(self.distinct[1]) == len(self.items):
            return self
        order = torch.argsort(self.owners * self.n_items + self.items, stable=True)
        pair = (self.owners * self.n_items + self.items)[order]
        first = torch.ones_like(pair, dtype=torch.bool)
        first[1:] = pair[1:] != pair[:-1]
        return self.where(torch.zeros_like(first).scatter_(0, order, first))

    def where(self, keep: Tensor) -> "UserBatch":
        """Return the same users with only the events for which `keep` (E,) is true."""
        return replace(
            self,
            memory={},
            items=self.items[keep],
            lengths=torch.bincount(self.owners[keep], minlength=len(self)),
            ratings=None if self.ratings is None else self.ratings[keep],
            times=None if self.times is None else self.times[keep],
        )

    def unordered(self) -> "UserBatch":
        """Return the same users with the order and the times of events declared unknown."""
        return replace(self, ordered=False, memory={}, times=None)

    def rated(self) -> "UserBatch":
        """Return the same users with only the events that have a rating."""
        unknown = None if self.ratings is None else self.ratings.isnan()
        return self if unknown is None or not unknown.any() else self.where(~unknown)

    def without_newest(self, count: Tensor) -> "UserBatch":
        """Return each user's history without its `count` (B,) newest events."""
        return self.where(self.lags >= count[self.owners])

    def newest(self, lag: int) -> Tensor:
        """Return the item at `lag` from the end for each user, (B,) int64; -1 where the history is too short."""
        position = self.offsets[1:] - 1 - lag
        valid = self.lengths > lag
        picked = self.items[torch.where(valid, position, 0)] if len(self.items) else torch.zeros_like(position)
        return torch.where(valid, picked, -1)

    def take(self, rows: Tensor) -> "UserBatch":
        """Return the users at positions `rows` (R,); a user may occur several times, e.g. with several prefixes."""
        lengths = self.lengths[rows]
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = torch.repeat_interleave(self.offsets[:-1][rows] - starts[:-1], lengths)
        events = shift + torch.arange(len(shift), device=self.device)
        return replace(self, lengths=lengths, **self._parts(rows, events))

    def slice(self, start: int, stop: int) -> "UserBatch":
        """Return the users at positions start..stop-1."""
        stop = min(stop, len(self))
        events = slice(int(self.offsets[start]), int(self.offsets[stop]))
        return replace(self, lengths=self.lengths[start:stop], **self._parts(slice(start, stop), events))

    def _parts(self, rows: _Places, events: _Places) -> dict[str, Any]:
        """Return the fields of the users at `rows`, whose events are at `events`, but for the lengths."""

        def some(values: Tensor | None, chosen: _Places) -> Tensor | None:
            return None if values is None else values[chosen]

        return {
            "memory": {},
            "items": self.items[events],
            "ratings": some(self.ratings, events),
            "times": some(self.times, events),
            "keys": self.keys[rows],
            "avoid": some(self.avoid, rows),
            "disliked": some(self.disliked, rows),
            "tied": some(self.tied, rows),
            "people": None if self.people is None else self.people.take(rows),
        }

    def negatives(self, count: int, stream: int) -> Tensor:
        """Draw uniformly from the items OUTSIDE each user's events, (B, count) int64, with replacement.

        The held-out item is drawn like any other: training has no access to it. A user who has every item gets uniform
        draws over the catalogue. With dislikes, every other draw is one of them.
        """
        outside = self.n_items - self._known
        full = outside <= 0
        drawn = draws.integers(self.keys, stream, torch.where(full, self.n_items, outside), count)  # (B, count)
        drawn = torch.where(full[:, None], drawn, self._outside(drawn))
        if self.disliked is not None and self.disliked.shape[1]:
            many = (self.disliked >= 0).sum(1, keepdim=True)
            u = draws.uniform(draws.mix(self.keys), stream, count // 2)
            picked = self.disliked.gather(1, (u * many).long().minimum(many - 1).clamp(min=0))
            drawn[:, 1::2] = torch.where(many > 0, picked, drawn[:, 1::2])
        return drawn

    def has(self, items: Tensor) -> Tensor:
        """Return whether each of `items` (B, C) is never a negative: the user has or avoids it. (B, C) bool."""
        owners, known = self.closed
        pairs = owners * self.n_items + known
        wanted = torch.arange(len(self), device=self.device)[:, None] * self.n_items + items
        if not len(pairs):
            return torch.zeros_like(wanted, dtype=torch.bool)
        return pairs[torch.searchsorted(pairs, wanted).clamp(max=len(pairs) - 1)] == wanted

    def distinct_negatives(self, count: int, stream: int) -> Tensor:
        """Draw negatives without replacement (Floyd's sampling). Each user must lack at least `count` items."""
        top = self.n_items - self._known - count  # (B,)
        u = draws.uniform(self.keys, stream, count)
        ranks = torch.full((len(self), count), -1, dtype=torch.int64, device=self.device)
        for j in range(count):
            drawn = (u[:, j] * (top + j + 1)).long().clamp(max=top + j)
            ranks[:, j] = torch.where((ranks == drawn[:, None]).any(1), top + j, drawn)
        return self._outside(ranks)

    @cached_property
    def closed(self) -> tuple[Tensor, Tensor]:
        """Owners and items of the pairs that are never negatives, in the order of `distinct`."""
        if self.avoid is None:
            return self.distinct
        rows = (self.avoid >= 0).nonzero()[:, 0]
        pair = self.distinct[0] * self.n_items + self.distinct[1]
        pair = torch.unique(torch.cat([pair, rows * self.n_items + self.avoid[rows]]))
        return pair // self.n_items, pair % self.n_items

    @cached_property
    def _known(self) -> Tensor:
        return torch.bincount(self.closed[0], minlength=len(self))  # different items of each user, (B,)

    def _outside(self, ranks: Tensor) -> Tensor:
        """Return the item at each rank (B, count) among those outside a user's events, without rejection.

        The r-th item outside a sorted set s is r + #{j : s_j - j <= r}.
        """
        owners, items = self.closed
        starts = torch.cat([self._known.new_zeros(1), self._known.cumsum(0)])
        position = torch.arange(len(owners), device=self.device) - starts[owners]
        gaps = items - position + owners * (self.n_items + 1)  # non-decreasing
        rows = torch.arange(len(self), device=self.device)[:, None]
        return ranks + torch.searchsorted(gaps, ranks + rows * (self.n_items + 1), right=True) - starts[:-1, None]
