"""Exposure of items in lists, hits or not: its distribution, and the novelty, popularity and similarity of the items.

Each measure needs the users' lists of ten and no scores, so memory is users x 10 for any catalogue.
Popularity is the number of training users who have an item. It is counted without noise, so these measures belong to
simulations and no guarantee covers them.

- gini: inequality of the number of lists that contain each item of the catalogue, 0 (all equal) to 1 - 1/items
  (Gini 1912; in recommenders Fleder and Hosanagar 2009). As RecBole's GiniIndex and LensKit's ListGini.
- novelty: mean self-information of listed items, -log2 of the share of training users who have the item (Zhou et al.
  2010; Castells et al. 2011). An item without users counts as if one user had it.
- popularity: average recommendation popularity, ARP (Yin et al. 2012), the mean popularity of listed items, as
  RecBole's AveragePopularity. popularity-lift: excess of the ARP over the mean popularity of the users' own items, as
  a share of the latter (Abdollahpouri et al. 2020), over users with a history; 0 is no bias.
- tail: share of a list that is not among the most popular fifth of the catalogue, APLT (Abdollahpouri et al. 2019); as
  RecBole's TailPercentage, whose catalogue excludes items without users.
- diversity: 1 - the mean cosine of two items of a list (Smyth and McClave 2001; Ziegler et al. 2005) over public
  features: category and vector blocks, each of unit norm. An item without features is left out.
"""

import numpy as np
import torch
from torch import Tensor

from fedrec.data.catalogue import Catalogue, Categories, Vectors
from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.evaluation.ranking import LIST, Ranks

HEAD = 0.2
"""The part of the catalogue, most popular first, that is not long tail."""
CHUNK = 1 << 22
"""Feature values held at a time."""


def exposure(found: Ranks, split: Split, catalogue: Catalogue | None = None) -> dict[str, float]:
    """Compute the measures above, by name.

    "popularity-lift" needs a user with a history, and "diversity" needs features. Users with an empty list count for
    none of the means.

    Args:
        found: ranks and lists.
        split: the split that was ranked.
        catalogue: the items' public features; None without them.
    """
    counts = popularity(split.train)
    listed = _mean_over_lists(found.lists, counts)
    rare = -(counts.clamp(min=1) / max(len(split.train), 1)).log2()
    result = {
        f"gini@{LIST}": gini(torch.bincount(found.lists[found.lists >= 0].long(), minlength=found.n_items)),
        f"novelty@{LIST}": float(_mean_over_lists(found.lists, rare).nanmean()),
        f"popularity@{LIST}": float(listed.nanmean()),
        f"tail@{LIST}": float(_mean_over_lists(found.lists, (~head(counts, HEAD)).double()).nanmean()),
    }
    had = _mean_over_histories(split.device.select(found.users), counts)
    both = ~(had.isnan() | listed.isnan())
    if bool((had[both] > 0).any()):
        result[f"popularity-lift@{LIST}"] = float(listed[both].mean() / had[both].mean()) - 1
    features = None if catalogue is None else content_rows(catalogue)
    if features is not None:
        spread = diversity(found.lists, features)
        if not bool(spread.isnan().all()):
            result[f"diversity@{LIST}"] = float(spread.nanmean())
    return result


def popularity(train: Histories) -> Tensor:
    """Count the users who have each item, however often, (items,) float64."""
    pairs = np.unique(train.owners.astype(np.int64) * train.n_items + train.items)
    return torch.from_numpy(np.bincount(pairs % train.n_items, minlength=train.n_items).astype(np.float64))


def head(counts: Tensor, part: float) -> Tensor:
    """Mark the most popular `part` of the catalogue, (items,) bool; ties go to the lower position."""
    first = counts.argsort(descending=True, stable=True)[: round(part * len(counts))]
    return torch.zeros(len(counts), dtype=torch.bool).index_fill_(0, first, True)


def gini(counts: Tensor) -> float:
    """Compute the Gini coefficient of `counts` (items,), non-negative; 0 where all are 0."""
    ascending = counts.double().sort().values
    n, total = len(ascending), float(ascending.sum())
    weights = 2 * torch.arange(1, n + 1, dtype=torch.float64) - n - 1
    return float(weights @ ascending) / (n * total) if total else 0.0


def content_rows(catalogue: Catalogue) -> Tensor | None:
    """Return public features, (items, width) float32 of unit norm, 0 for an unknown item, or None."""
    parts = []
    for block in catalogue.blocks:
        if isinstance(block, Categories | Vectors):
            values = block.membership if isinstance(block, Categories) else block.values
            parts.append(_unit(torch.from_numpy(values.astype(np.float32))))
    return _unit(torch.cat(parts, dim=1)) if parts else None


def diversity(lists: Tensor, features: Tensor) -> Tensor:
    """Compute 1 - the mean cosine of two different items of each list, (U,) float64; NaN with fewer than two known.

    With unit rows the sum over pairs is the squared norm of the sum of the rows minus their number: no pair is visited.

    Args:
        lists: (U, k), -1 for no item.
        features: (items, width), rows of unit norm or 0.
    """
    known = (lists >= 0) & features.any(dim=1)[lists.clamp(min=0).long()]
    many = known.sum(dim=1).double()
    sums = []
    for rows in torch.arange(len(lists)).split(max(1, CHUNK // max(1, features.shape[1]))):
        weights = known[rows].to(features.dtype)
        bags = lists[rows].clamp(min=0).long()
        total = torch.nn.functional.embedding_bag(bags, features, mode="sum", per_sample_weights=weights)  # (B, width)
        sums.append(total.double().square().sum(dim=1))
    cosine = (torch.cat(sums) - many) / (many * (many - 1))
    return torch.where(many > 1, 1 - cosine, torch.nan)


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _mean_over_lists(lists: Tensor, of_item: Tensor) -> Tensor:
    valid = lists >= 0
    total = torch.where(valid, of_item[lists.clamp(min=0).long()], 0.0).sum(dim=1)
    return total / valid.sum(dim=1)  # 0 / 0 is NaN: an empty list


def _mean_over_histories(histories: Histories, of_item: Tensor) -> Tensor:
    weights = of_item.numpy()[histories.items]
    total = np.bincount(histories.owners, weights=weights, minlength=len(histories))
    return torch.from_numpy(total) / torch.from_numpy(histories.lengths)
