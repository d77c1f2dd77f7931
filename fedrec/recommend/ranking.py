"""The list of one user: the best items of a released model without the excluded ones, optionally diverse.

Diversity is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) over a pool of the best items. Each place
is for the item with the largest (1 - d) * score - d * similarity to the items already on the list. Scores are scaled
to 0..1 within the pool; similarity is the cosine of two items' rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.model import ReleasedModel

Rows = Callable[[Tensor], Tensor]
POOL, LEAST_POOL = 10, 100
"""Size of the pool of a diverse list: items a place, and smallest pool."""


def best(
    model: ReleasedModel,
    person: UserBatch,
    k: int,
    *,
    seen: bool = False,
    exclude: Tensor | None = None,
    diversity: float = 0.0,
    rows: Rows | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the list of one user.

    Args:
        model: the released model.
        person: a batch of one.
        k: most places of the list.
        seen: True if items of the history may be on the list.
        exclude: (n,) int64 positions of items that must not be on the list.
        diversity: 0 for the best scores, towards 1 for dissimilar items.
        rows: function from items (n,) to their rows (n, width), whose cosine is the similarity; or None.

    Returns:
        (m,) int64 item positions and their scores, m <= k.

    Raises:
        InputError: when k or diversity is out of range, or a diverse list has no rows to compare items.
    """
    if k < 1:
        raise InputError(f"k = {k}: must be at least 1")
    if not 0 <= diversity < 1:
        raise InputError(f"diversity = {diversity:g}: must be at least 0 and below 1")
    if diversity and rows is None:
        raise InputError(
            "diversity: neither the model nor the catalogue has features to compare items; leave it out, or give a "
            "catalogue with categories"
        )
    exclude = torch.zeros(0, dtype=torch.int64) if exclude is None else exclude
    wanted = max(POOL * k, LEAST_POOL) if diversity else k
    found, scores = model.recommend(person, min(person.n_items, wanted + len(exclude)), seen=seen)
    kept = (found[0] >= 0) & ~torch.isin(found[0], exclude.to(found.device))
    items, values = found[0][kept][:wanted], scores[0][kept][:wanted]
    if diversity and rows is not None and len(items):
        order = _diverse(values, rows(items), k, diversity)
        items, values = items[order], values[order]
    return items[:k], values[:k]


def _diverse(scores: Tensor, rows: Tensor, k: int, diversity: float) -> Tensor:
    """Choose items one after the other; return their positions within the pool, in order, (min(k, pool),) int64."""
    low, high = scores.min(), scores.max()
    relevance = (scores - low) / (high - low).clamp(min=1e-12)
    rows = torch.nn.functional.normalize(rows.float(), dim=1)
    closest = torch.zeros_like(relevance)
    taken = torch.zeros(len(scores), dtype=torch.bool)
    order: list[int] = []
    for _ in range(min(k, len(scores))):
        worth = ((1 - diversity) * relevance - diversity * closest).masked_fill(taken, -torch.inf)
        place = int(worth.argmax())
        order.append(place)
        taken[place] = True
        likeness = rows @ rows[place]
        closest = likeness if len(order) == 1 else torch.maximum(closest, likeness)
    return torch.tensor(order, dtype=torch.int64)
