"""UserBatch: the users that one computation serves. A phone is a batch of one, a simulation a batch of thousands."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fedrec import draws


@dataclass(frozen=True)
class UserBatch:
    """The private histories of B users as tensors on one device, events oldest first within a user.

    items: (E,) int64, positions in the catalogue. lengths: (B,) int64. keys: (B,) int64, each user's own
    randomness. ratings: (E,) float32 or None. ordered: False when the order of events is unknown or ignored.
    """

    items: Tensor
    lengths: Tensor
    n_items: int
    keys: Tensor
    ratings: Tensor | None = None
    ordered: bool = True

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.items.device

    @cached_property
    def owners(self) -> Tensor:
        """The user (0..B-1) of each event, (E,) int64."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.lengths)

    @cached_property
    def offsets(self) -> Tensor:
        """(B + 1,) int64."""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @cached_property
    def lags(self) -> Tensor:
        """(E,) int64: 0 for a user's newest event, 1 for the one before, ..."""
        return self.offsets[1:][self.owners] - 1 - torch.arange(len(self.items), device=self.device)

    def unordered(self) -> "UserBatch":
        """The same users with the order of events declared unknown."""
        return replace(self, ordered=False)

    def without_newest(self, count: Tensor) -> "UserBatch":
        """Each user's history without its `count` (B,) newest events."""
        keep = self.lags >= count[self.owners]
        return replace(
            self,
            items=self.items[keep],
            lengths=(self.lengths - count).clamp(min=0),
            ratings=None if self.ratings is None else self.ratings[keep],
        )

    def newest(self, lag: int) -> Tensor:
        """The item at `lag` from the end for each user, (B,) int64; -1 where the history is too short."""
        position = self.offsets[1:] - 1 - lag
        valid = self.lengths > lag
        picked = self.items[torch.where(valid, position, 0)] if len(self.items) else torch.zeros_like(position)
        return torch.where(valid, picked, -1)

    def take(self, rows: Tensor) -> "UserBatch":
        """The users at positions `rows` (R,), repeats allowed (a user's several prefixes, say)."""
        lengths = self.lengths[rows]
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = torch.repeat_interleave(self.offsets[:-1][rows] - starts[:-1], lengths)
        events = shift + torch.arange(len(shift), device=self.device)
        return replace(
            self,
            items=self.items[events],
            lengths=lengths,
            keys=self.keys[rows],
            ratings=None if self.ratings is None else self.ratings[events],
        )

    def slice(self, start: int, stop: int) -> "UserBatch":
        """The users at positions start..stop-1."""
        stop = min(stop, len(self))
        events = slice(int(self.offsets[start]), int(self.offsets[stop]))
        return replace(
            self,
            items=self.items[events],
            lengths=self.lengths[start:stop],
            keys=self.keys[start:stop],
            ratings=None if self.ratings is None else self.ratings[events],
        )

    def negatives(self, count: int, stream: int) -> Tensor:
        """Uniform draws from everything OUTSIDE each user's events, (B, count) int64, with replacement.

        Exact, without rejection: the r-th item outside a sorted set s is r + #{j : s_j - j <= r}. The held-out
        item is drawn like any other: training never knows which item that is. A user who has every item
        gets uniform draws over the catalogue.
        """
        pair = torch.unique(self.owners * self.n_items + self.items)  # sorted, each item once a user
        owner = pair // self.n_items
        counts = torch.bincount(owner, minlength=len(self))
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        rank = torch.arange(len(pair), device=self.device) - starts[owner]
        gaps = pair % self.n_items - rank + owner * (self.n_items + 1)  # non-decreasing
        full = counts >= self.n_items
        outside = torch.where(full, self.n_items, self.n_items - counts)
        drawn = draws.integers(self.keys, stream, outside, count)  # (B, count)
        rows = torch.arange(len(self), device=self.device)[:, None]
        below = torch.searchsorted(gaps, drawn + rows * (self.n_items + 1), right=True) - starts[:-1, None]
        return torch.where(full[:, None], drawn, drawn + below)
