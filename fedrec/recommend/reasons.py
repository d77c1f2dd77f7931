"""Reasons for an item on a list: the feature groups and the past items that raised its score most.

| reason | measure | models |
|---|---|---|
| feature group | fall of the score when the group's features become those of the average item | with `explain` |
| past item | fall of the score when the item leaves the history and the model is fitted again | all |

Both are exact for the given model: the score is computed again, without an estimate.
"""

from typing import TypeVar

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel

T = TypeVar("T")
NEWEST = 200
"""Most past items, newest first, that are left out one at a time."""


def groups(model: ReleasedModel, person: UserBatch, items: Tensor, most: int = 2) -> list[list[tuple[str, float]]]:
    """Return the feature groups that raised the score of each of `items` (n,) most, with the rise; empty if unknown."""
    if not len(person.items) or not len(items):
        return [[] for _ in items]
    found = model.explain(model.fit(person), items[None])
    if not found:
        return [[] for _ in items]
    names, table = list(found), torch.stack([part[0] for part in found.values()])  # (groups, n)
    return [_largest(names, table[:, place], most) for place in range(len(items))]


def past(model: ReleasedModel, person: UserBatch, items: Tensor, most: int = 2) -> list[list[tuple[int, float]]]:
    """Return the past items without which the score of each of `items` (n,) would fall most, with the fall."""
    if not len(person.items) or not len(items):
        return [[] for _ in items]
    history = list(dict.fromkeys(reversed(person.items.tolist())))[:NEWEST]
    copies = person.take(torch.zeros(len(history), dtype=torch.int64, device=person.device))
    gone = torch.tensor(history, device=person.device)
    without = copies.where(copies.items != gone[copies.owners])
    whole = model.score(model.fit(person), items[None])[0]  # (n,)
    falls = whole - model.score(model.fit(without), items.expand(len(history), -1))  # (history, n)
    return [_largest(history, falls[:, place], most) for place in range(len(items))]


def _largest(names: list[T], falls: Tensor, most: int) -> list[tuple[T, float]]:
    order = falls.argsort(descending=True)[:most].tolist()
    return [(names[place], float(falls[place])) for place in order if float(falls[place]) > 0]
