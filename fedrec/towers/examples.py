"""Training examples of a user: some events of the history as targets, each with local negatives.

The private vector is fitted to a history without the targets, or it would already contain them.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.users import UserBatch

_CUT, _EVENT, _NEGATIVE, _COLD = 0x70, 0x71, 0x72, 0x73


@dataclass(frozen=True)
class Targets:
    """Targets of B users with their negatives.

    Attributes:
        items: (B, T, 1 + N) int64, the target first.
        labels: (B, T) ratings, or None.
        valid: (B, T) bool, false where a user has fewer than T targets.
    """

    items: Tensor
    labels: Tensor | None
    valid: Tensor


def hold_out(
    users: UserBatch, count: int, negatives: int, rule: Literal["random", "next"], round_index: int
) -> tuple[UserBatch, Targets]:
    """Split users into histories without targets, and targets, drawn anew each round from the users' own keys.

    Negatives come from everything outside the user's whole history: no held-out item of an evaluation is used here.

    Args:
        users: B users.
        count: most targets of a user (T).
        negatives: of each target (N).
        rule: `random` takes any events, at most half of a history. `next` cuts the second half of the history at
            random and takes the events after the cut.
        round_index: number of the round, from 0.
    """
    seeds = draws.mix(users.keys + round_index)
    place = users.lengths[users.owners] - 1 - users.lags  # 0 for a user's oldest event
    if rule == "next":
        half = (users.lengths + 1) // 2
        cut = torch.where(users.lengths > 1, half, users.lengths)
        cut = cut + draws.integers(seeds, _CUT, (users.lengths - cut).clamp(min=1), 1)[:, 0]
        first = cut[users.owners]
        kept, chosen = place < first, (place >= first) & (place < first + count)
    else:
        value = draws.uniform(draws.mix(seeds[users.owners] + place), _EVENT, 1)[:, 0]
        shuffled = torch.empty_like(place)
        shuffled[torch.argsort(users.owners + value)] = place  # each event's place in its user's shuffled history
        chosen = shuffled < (users.lengths // 2).clamp(max=count)[users.owners]
        kept = ~chosen
    owner = users.owners[chosen]
    taken = torch.bincount(owner, minlength=len(users))
    slot = torch.arange(len(owner), device=users.device) - (taken.cumsum(0) - taken)[owner]
    items = torch.zeros(len(users), count, 1 + negatives, dtype=torch.int64, device=users.device)
    items[owner, slot, 0] = users.items[chosen]
    own = UserBatch(users.items, users.lengths, users.n_items, seeds, avoid=users.avoid, disliked=users.disliked)
    drawn = own.negatives(count * negatives, _NEGATIVE)
    items[:, :, 1:] = drawn.view(len(users), count, negatives)
    labels = None
    if users.ratings is not None:
        labels = users.ratings.new_zeros(len(users), count)
        labels[owner, slot] = users.ratings[chosen]
    valid = torch.arange(count, device=users.device) < taken[:, None]
    return users.where(kept), Targets(items, labels, valid)


def without_history(users: UserBatch, share: float, round_index: int) -> UserBatch:
    """Return the users, about `share` of them without any event: drawn anew each round from their own keys."""
    cold = draws.uniform(draws.mix(users.keys + round_index), _COLD, 1)[:, 0] < share
    return users.where(~cold[users.owners])
