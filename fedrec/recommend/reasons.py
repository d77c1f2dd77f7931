"""Why an item is on a list: the groups of features that carried its score, and the past items that it rests on.

| reason | how it is found | models |
|---|---|---|
| feature group | how much the score falls when the group's features become those of the average item | with `explain` |
| past item | how much the score falls when the item is taken out of the history and the model is fitted again | all |

Both are exact for the model as it is: the score is computed again, and nothing is estimated.
"""

from typing import TypeVar

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel

T = TypeVar("T")
NEWEST = 200
"""Past items, newest first, that are taken out one at a time."""


def groups(model: ReleasedModel, person: UserBatch, items: Tensor, most: int = 2) -> list[list[tuple[str, float]]]:
    """For each of `items` (n,) the feature groups that raised its score most, with by how much; empty where unknown."""
    if not len(person.items) or not len(items):
        return [[] for _ in items]
    found = model.explain(model.fit(person), items[None])
    if not found:
        return [[] for _ in items]
    names, table = list(found), torch.stack([part[0] for part in found.values()])  # (groups, n)
    return [_largest(names, table[:, place], most) for place in range(len(items))]


def past(model: ReleasedModel, person: UserBatch, items: Tensor, most: int = 2) -> list[list[tuple[int, float]]]:
    """For each of `items` (n,) the past items without which its score would fall most, with by how much."""
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
