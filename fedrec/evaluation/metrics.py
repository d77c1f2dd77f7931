"""Ranking metrics from ranks: one held-out item per user, rank 0 is the best.

With one relevant item per user the ideal DCG is 1, so ndcg@k is the discount at the item's rank, and recall@k equals
hr@k. Every function takes ranks (users,) int64 and a cut-off k >= 1 and gives the mean over users; the sums are in
float64. `coverage` alone looks at the lists rather than at the ranks.

Source: Jarvelin and Kekalainen 2002 (DCG); He et al. 2017 (hr and ndcg with one held-out item).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fedrec.errors import InputError, nearest


def gains(ranks: Tensor, k: int) -> Tensor:
    """Each user's own hr@k and ndcg@k, (users, 2) float64."""
    hit = (ranks < k).double()
    return torch.stack([hit, hit / (ranks.double() + 2).log2()], dim=1)


def hr(ranks: Tensor, k: int) -> float:
    """Hit ratio: the share of users whose held-out item is among the first k."""
    return float(gains(ranks, k)[:, 0].mean())


def ndcg(ranks: Tensor, k: int) -> float:
    """Normalised discounted cumulative gain: mean of 1 / log2(rank + 2) where rank < k, else 0."""
    return float(gains(ranks, k)[:, 1].mean())


def recall(ranks: Tensor, k: int) -> float:
    """Share of a user's held-out items among the first k; equals `hr` because a user has exactly one."""
    return hr(ranks, k)


def precision(ranks: Tensor, k: int) -> float:
    """Share of the first k that is held out: `hr` / k, at most 1 / k."""
    return hr(ranks, k) / k


def mrr(ranks: Tensor, k: int) -> float:
    """Mean reciprocal rank: mean of 1 / (rank + 1) where rank < k, else 0."""
    return float(((ranks < k).double() / (ranks.double() + 1)).mean())


def coverage(listed: Tensor) -> float:
    """Share of the catalogue that stands in at least one user's list; listed (items,) bool."""
    return float(listed.double().mean())


BY_NAME: Mapping[str, Callable[[Tensor, int], float]] = {
    "hr": hr,
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "mrr": mrr,
}


def measure(ranks: Tensor, names: tuple[str, ...]) -> dict[str, float]:
    """The metrics called `names` ("ndcg@10") by name. Raises: InputError for an unknown name or a bad cut-off."""
    result = {}
    for name in names:
        kind, _, cut = name.partition("@")
        if kind not in BY_NAME:
            raise InputError(f"unknown metric '{name}'.{nearest(kind, BY_NAME)}")
        if not cut.isdecimal() or int(cut) < 1:
            raise InputError(f"metric '{name}': needs a cut-off of at least 1, as in '{kind}@10'")
        result[name] = BY_NAME[kind](ranks, int(cut))
    return result
