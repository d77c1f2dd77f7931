"""Ranks each user's held-out item, against the whole catalogue and against the split's sampled negatives.

Source: Krichene and Rendle 2020 (why the full catalogue comes first). Differs from the usual code in two rules:
ties count against the model (a constant score is the worst model, not a perfect one), and a NaN is an error.
Memory is bounded by `max_scores` whatever the number of users; no result depends on it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedrec.algorithms.base import ReleasedModel
from fedrec.data.splits import Split
from fedrec.data.users import UserBatch
from fedrec.errors import FedrecError, InputError
from fedrec.evaluation.metrics import coverage, measure

FULL = ("hr@10", "ndcg@10", "hr@20", "recall@20", "ndcg@100", "precision@10", "mrr@10")
SAMPLED = ("hr@10", "ndcg@10")
LIST = 10
RULE = "ties count against the model; training negatives, if any, come from everything outside a user's training items"
MAX_SCORES = 1 << 20
"""Scores held at a time: 4 MiB of float32, and a few hundred MiB where a model keeps sixty features a score."""


@dataclass(frozen=True)
class Ranks:
    """Where each user's held-out item came, 0 = first; all on the CPU.

    users: (U,) int64, positions of the users that have a target. full: (U,) int64, among all unseen items.
    sampled: (U,) int64 among the split's negatives, or None without them. listed: (items,) bool, items that stand in
    the top 10 of at least one of these users.
    """

    users: np.ndarray
    full: Tensor
    sampled: Tensor | None
    listed: Tensor


def evaluate(
    model: ReleasedModel,
    split: Split,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    order_free: bool = False,
    users: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, object]:
    """Metrics by protocol: "full", "sampled-99" where the split has negatives, the "rule", and how many "users".

    Arguments as in `ranks`. Raises: InputError when no user has a target; FedrecError on NaN scores.
    """
    found = ranks(model, split, device=device, seed=seed, order_free=order_free, users=users, progress=progress)
    rule = f"{split.rule}; {RULE}"
    if order_free:
        rule += "; the device ignores the order of its events"
    full = measure(found.full, FULL) | {f"coverage@{LIST}": coverage(found.listed)}
    result: dict[str, object] = {"full": full}
    if found.sampled is not None:
        result["sampled-99"] = measure(found.sampled, SAMPLED)
    return result | {"rule": rule, "users": len(found.users)}


def ranks(
    model: ReleasedModel,
    split: Split,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    order_free: bool = False,
    users: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
    max_scores: int = MAX_SCORES,
) -> Ranks:
    """Each user's ranks (for significance tests, say); `evaluate` gives the means.

    device: where the scores are computed; the model must be there. seed: the users' local randomness. order_free: the
    device is told that the order of its events is unknown. users: positions to rank, default all; those without a
    target are left out. progress: called with (users done, users in all) after every chunk.
    Raises: InputError when no user has a target; FedrecError on NaN scores.
    """
    chosen = np.arange(len(split.device)) if users is None else np.asarray(users, dtype=np.int64)
    chosen = chosen[split.targets[chosen] >= 0]
    if not len(chosen):
        raise InputError("evaluation: none of the users has a held-out item; use a split that holds one out")
    full, sampled = [], []
    listed = torch.zeros(split.device.n_items, dtype=torch.bool)
    for rows in _chunks(len(chosen), split.device.n_items, max_scores):
        part = chosen[rows]
        batch = split.device.batch(part, seed, device)
        state = model.fit(batch.unordered() if order_free else batch)
        targets = torch.from_numpy(split.targets[part].astype(np.int64)).to(device)
        scores = _checked(model, model.score(state))
        seen = _seen(split.seen.batch(part, seed, device), targets)
        full.append(_rank(scores, targets, seen).cpu())
        listed |= _listed(scores, seen, LIST).cpu()
        if split.negatives is not None:
            others = torch.from_numpy(split.negatives[part].astype(np.int64)).to(device)
            pool = torch.cat([targets[:, None], others], dim=1)  # (B, 1 + negatives)
            drawn = _checked(model, model.score(state, pool))
            sampled.append(((drawn[:, 1:] >= drawn[:, :1]) & (others != targets[:, None])).sum(dim=1).cpu())
        if progress is not None:
            progress(sum(map(len, full)), len(chosen))
    return Ranks(chosen, torch.cat(full), torch.cat(sampled) if sampled else None, listed)


def rank_newest(model: ReleasedModel, users: UserBatch, max_scores: int = MAX_SCORES) -> Tensor:
    """The rank of each user's newest event among what the rest of its history lacks, (B,) int64.

    The model is fitted on the rest. Users with fewer than two events have nothing to rank or to fit: -1. Where the
    order of events is unknown, "newest" is any one of them.
    """
    rest = users.without_newest(torch.ones_like(users.lengths))
    result = torch.full_like(users.lengths, -1)
    able = (users.lengths >= 2).nonzero().squeeze(1)
    for rows in _chunks(len(able), users.n_items, max_scores):
        part = able[rows]
        history, targets = rest.take(part), users.newest(0)[part]
        scores = _checked(model, model.score(model.fit(history)))
        result[part] = _rank(scores, targets, _seen(history, targets))
    return result


def _chunks(users: int, items: int, max_scores: int) -> Iterator[slice]:
    size = max(1, max_scores // max(1, items))
    return (slice(start, start + size) for start in range(0, users, size))


def _checked(model: ReleasedModel, scores: Tensor) -> Tensor:
    if bool(scores.sum().isnan()) and bool(scores.isnan().any()):  # the sum is cheap, and NaN too where inf meets -inf
        raise FedrecError(
            f"model '{model.kind}': NaN among its scores, so nothing can be ranked; "
            "its training diverged (a lower learning rate or a stronger regulariser may help)"
        )
    return scores


def _seen(histories: UserBatch, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, items) to leave out, each pair once; never the target, even where it was met before."""
    rows, items = histories.distinct
    others = items != targets[rows]
    return rows[others], items[others]


def _rank(scores: Tensor, targets: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:
    rows, items = seen
    own = scores.gather(1, targets[:, None])
    hidden = (scores[rows, items] >= own[rows, 0]).long()
    return (scores >= own).sum(dim=1).index_add_(0, rows, -hidden) - 1  # less the target itself


def _listed(scores: Tensor, seen: tuple[Tensor, Tensor], k: int) -> Tensor:
    """Which items (items,) bool are among the k best unseen of some row; a score of -inf is never listed.

    At the edge of a list, ties go to the lower position: `topk` breaks them by the shape of the batch, and coverage
    would depend on the chunk.
    """
    scores = scores.clone()
    scores[seen] = -torch.inf
    values, best = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    edge = values[:, :k][:, -1:]
    tied = (values[:, k:] == edge).any(dim=1)
    listed = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    listed[best[:, :k][~tied[:, None] & (values[:, :k] > -torch.inf)]] = True
    scores, edge = scores[tied], edge[tied]
    above, level = scores > edge, (scores == edge) & (edge > -torch.inf)
    chosen = above | (level & (level.cumsum(dim=1) <= k - above.sum(dim=1, keepdim=True)))
    return listed | chosen.any(dim=0)
