"""Ranks of each user's held-out items, among the whole catalogue and among the split's sampled negatives.

Source: Krichene and Rendle 2020 (why the full catalogue comes first). Differs from the usual code in two rules:
ties count against the model (a constant score is the worst model, not a perfect one), and a NaN is an error.
`max_scores` bounds the memory for any number of users, and no result depends on it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.data.users import UserBatch
from fedrec.errors import FedrecError, InputError
from fedrec.evaluation.metrics import Placed
from fedrec.model import ReleasedModel
from fedrec.progress import step

LIST = 10
MAX_SCORES = 1 << 22
"""Scores held at a time: 16 MiB of float32. Fewer cost more time in small steps than they save in memory."""
COUNTED = 16
"""Up to so many targets of a row are each compared with all its scores; for more the row is sorted."""
STRIPE = 16
"""Columns whose maximum represents them in the search for the best ones."""


@dataclass(frozen=True)
class Ranks:
    """The ranks of each user's held-out items, 0 = first; all on the CPU.

    Attributes:
        users: (U,) int64, positions of the users that have a target.
        owners: (T,) int64, ascending, the row of `users` of each target.
        targets: (T,) int64, the items.
        full: (T,) int64, the rank of each among all unseen items.
        sampled: (T,) int64 among the split's negatives; None without them, and with several held-out items a user.
        new: (T,) int64 among the new items alone, of a split that holds out items; None for any other.
        others: (U,) int64, the number of unseen items that are no targets.
        lists: (U, 10) int32, each user's best unseen items, ascending by position; -1 first where there are fewer.
        n_items: size of the catalogue.
    """

    users: np.ndarray
    owners: Tensor
    targets: Tensor
    full: Tensor
    sampled: Tensor | None
    others: Tensor
    lists: Tensor
    n_items: int
    new: Tensor | None = None

    @cached_property
    def listed(self) -> Tensor:
        """True for each item that is in the list of at least one user, (items,) bool."""
        found = torch.zeros(self.n_items, dtype=torch.bool)
        found[self.lists[self.lists >= 0].long()] = True
        return found

    @property
    def protocols(self) -> dict[str, Placed]:
        """The ranks by protocol: "full", and "sampled-99" and "new-items" where there are any."""
        found = {"full": Placed(self.full, self.owners, self.others)}
        if self.new is not None:
            found["new-items"] = Placed(self.new, self.owners)
        return found if self.sampled is None else found | {"sampled-99": Placed(self.sampled, self.owners)}


def ranks(
    model: ReleasedModel,
    split: Split,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    order_free: bool = False,
    users: np.ndarray | None = None,
    max_scores: int = MAX_SCORES,
) -> Ranks:
    """Rank each user's held-out items; `fedrec.evaluation.report` makes metrics of the ranks.

    Args:
        model: on `device`.
        split: training data and held-out items.
        device: where the scores are computed.
        seed: of the users' local randomness.
        order_free: True if the model ignores the order of a device's events.
        users: positions to rank, None for all; users without a target are left out.
        max_scores: most scores in memory at a time.

    Raises:
        InputError: when no user has a target.
        FedrecError: on NaN scores.
    """
    held = held_out(split)
    chosen = np.arange(len(held)) if users is None else np.asarray(users, dtype=np.int64)
    chosen = chosen[held.lengths[chosen] > 0]
    if split.new_items is not None:
        model = model.with_new_items(split.new_items).to(device)
    if not len(chosen):
        raise InputError("evaluation: none of the users has a held-out item; use a split that holds one out")
    owners, targets, full, sampled, others, lists, new = [], [], [], [], [], [], []
    done = 0
    with step("ranking users", len(chosen)) as advance:
        for rows in _chunks(len(chosen), held.n_items, max_scores):
            part = chosen[rows]
            batch = split.device.batch(part, seed, device)
            state = model.fit(batch.unordered() if order_free else batch)
            target = held.batch(part, seed, device).distinct
            scores = _checked(model, model.score(state))
            seen = _seen(split.seen.batch(part, seed, device), target)
            owners.append(target[0].cpu() + done)
            targets.append(target[1].cpu())
            full.append(_rank(scores, target, seen).cpu())
            others.append((held.n_items - torch.bincount(torch.cat([target[0], seen[0]]), minlength=len(part))).cpu())
            lists.append(_lists(scores, seen, LIST).cpu())
            if split.negatives is not None and split.many is None:
                drawn = torch.from_numpy(split.negatives[part].astype(np.int64)).to(device)
                pool = torch.cat([target[1][:, None], drawn], dim=1)  # (B, 1 + negatives)
                found = _checked(model, model.score(state, pool))
                sampled.append(((found[:, 1:] >= found[:, :1]) & (drawn != target[1][:, None])).sum(dim=1).cpu())
            if split.new_items is not None:
                fresh = torch.from_numpy(split.new_items.new).to(device)
                place, hidden = fresh.cumsum(0) - 1, fresh[seen[1]]
                alone = seen[0][hidden], place[seen[1][hidden]]
                new.append(_rank(scores[:, fresh].contiguous(), (target[0], place[target[1]]), alone).cpu())
            done += len(part)
            advance(len(part))
    return Ranks(
        users=chosen,
        owners=torch.cat(owners),
        targets=torch.cat(targets),
        full=torch.cat(full),
        sampled=torch.cat(sampled) if sampled else None,
        others=torch.cat(others),
        lists=torch.cat(lists),
        n_items=held.n_items,
        new=torch.cat(new) if new else None,
    )


def held_out(split: Split) -> Histories:
    """Return the held-out items of every user as rows, whether the split holds out one a user or several."""
    if split.many is not None:
        return split.many
    has = split.targets >= 0
    offsets = np.concatenate([[0], np.cumsum(has)]).astype(np.int64)
    return Histories(offsets, split.targets[has].astype(np.int32), split.device.n_items)


def rank_newest(model: ReleasedModel, users: UserBatch, max_scores: int = MAX_SCORES) -> Tensor:
    """Rank each user's newest event among the items outside the rest of its history, (B,) int64.

    The model is fitted on the rest. Users with fewer than two events have nothing to rank or to fit: -1. Where the
    order of events is unknown, "newest" is any one of them.

    Args:
        model: on the device of `users`.
        users: B users.
        max_scores: most scores in memory at a time.
    """
    rest = users.without_newest(torch.ones_like(users.lengths))
    result = torch.full_like(users.lengths, -1)
    able = (users.lengths >= 2).nonzero().squeeze(1)
    for rows in _chunks(len(able), users.n_items, max_scores):
        part = able[rows]
        history, targets = rest.take(part), users.newest(0)[part]
        scores = _checked(model, model.score(model.fit(history)))
        target = torch.arange(len(part), device=users.device), targets
        result[part] = _rank(scores, target, _seen(history, target))
    return result


def _chunks(users: int, items: int, max_scores: int) -> Iterator[slice]:
    size = max(1, max_scores // max(1, items))
    return (slice(start, start + size) for start in range(0, users, size))


def _checked(model: ReleasedModel, scores: Tensor) -> Tensor:
    if bool(scores.sum().isnan()) and bool(scores.isnan().any()):  # the sum is cheap, and NaN too where inf meets -inf
        raise FedrecError(
            f"model '{model.called}': NaN among its scores, so nothing can be ranked; "
            "its training diverged (a lower learning rate or a stronger regulariser may help)"
        )
    return scores.contiguous()


def _seen(histories: UserBatch, target: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return (rows, items) to leave out, each pair once; never a target, even where it occurred before."""
    rows, items = histories.distinct
    pairs, kept = rows * histories.n_items + items, target[0] * histories.n_items + target[1]
    others = ~torch.isin(pairs, kept)
    return rows[others], items[others]


def _rank(scores: Tensor, target: tuple[Tensor, Tensor], seen: tuple[Tensor, Tensor]) -> Tensor:
    """Compute the rank of each target (row, item) among its row's unseen items, (T,) int64; rows ascending.

    Ties count against the model; among the targets of one row their order does not matter, and the first comes first.
    """
    rows, items = target
    own = scores[rows, items]
    apart = torch.cat([rows, seen[0]]), torch.cat([items, seen[1]])
    with _set(scores, apart, torch.inf):  # as good as any target, so that they can be taken off again
        ahead = _at_least(scores, rows, own)
    hidden = torch.bincount(apart[0], minlength=len(scores))
    return ahead - hidden[rows] + _place(rows, own)


def _place(rows: Tensor, own: Tensor) -> Tensor:
    """Count the targets of its own row that come before each, (T,) int64."""
    order = own.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]
    starts = torch.searchsorted(rows, rows)
    return torch.empty_like(rows).scatter_(0, order, torch.arange(len(rows), device=rows.device) - starts)


def _at_least(scores: Tensor, rows: Tensor, own: Tensor) -> Tensor:
    """Count the scores of its row that reach each target's `own`, (T,) int64; rows ascending."""
    return _counted_by_row(scores, rows, own) if scores.device.type == "cpu" else _counted(scores, rows, own)


def _counted(scores: Tensor, rows: Tensor, own: Tensor) -> Tensor:
    """Compute `_at_least` by comparisons of as many rows at a time as `scores` has."""
    parts = torch.arange(len(rows), device=rows.device).split(max(1, len(scores)))
    return torch.cat([(scores[rows[part]] >= own[part, None]).sum(dim=1) for part in parts])


def _counted_by_row(scores: Tensor, rows: Tensor, own: Tensor) -> Tensor:
    """Compute `_at_least` in NumPy: rows stay in the CPU's cache, and its loops use vector instructions.

    A row with many targets is sorted instead.
    """
    table, levels = scores.numpy(), own.numpy()
    starts = np.searchsorted(rows.numpy(), np.arange(len(table) + 1))
    found, reached = np.empty(len(levels), dtype=np.int64), np.empty(table.shape[1], dtype=bool)
    for row, first, last in zip(table, starts, starts[1:], strict=False):
        if last - first > COUNTED:
            found[first:last] = len(row) - np.searchsorted(np.sort(row), levels[first:last])
            continue
        for place in range(first, last):
            np.greater_equal(row, levels[place], out=reached)
            found[place] = np.count_nonzero(reached)
    return torch.from_numpy(found)


@contextmanager
def _set(scores: Tensor, where: tuple[Tensor, Tensor], value: float) -> Iterator[None]:
    """Set `scores` (contiguous) to `value` at the pairs `where`, each pair once, and restore them afterwards.

    A copy of the scores would take a fifth of the whole time.
    """
    kept = scores[where]
    scores[where] = value
    try:
        yield
    finally:
        scores[where] = kept


def _lists(scores: Tensor, seen: tuple[Tensor, Tensor], k: int) -> Tensor:
    """Find the k best unseen items of each row, ascending by position, (B, k) int32; -1 where there are fewer.

    A score of -inf is never listed. At the edge of a list, ties go to the lower position: `topk` breaks them by the
    shape of the batch, and the lists would depend on the chunk.
    """
    with _set(scores, seen, -torch.inf):
        return _best(scores, k)


def _best(scores: Tensor, k: int) -> Tensor:
    values, best = _top(scores, min(k + 1, scores.shape[1]))
    edge = values[:, :k][:, -1:]
    tied = (values[:, k:] == edge).any(dim=1)
    lists = torch.full((len(scores), k), -1, dtype=torch.int32, device=scores.device)
    lists[:, : min(k, scores.shape[1])] = torch.where(values[:, :k] > -torch.inf, best[:, :k], -1).int()
    scores, edge = scores[tied], edge[tied]
    above, level = scores > edge, (scores == edge) & (edge > -torch.inf)
    chosen = above | (level & (level.cumsum(dim=1) <= k - above.sum(dim=1, keepdim=True)))
    rows, items = chosen.nonzero(as_tuple=True)
    place = chosen.cumsum(dim=1)[rows, items] - 1
    corrected = lists.new_full((len(scores), k), -1)
    corrected[rows, place] = items.int()
    lists[tied] = corrected
    return lists.sort(dim=1).values


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest values of each row, descending, and their places, (B, k) each; much faster than `topk`.

    Columns `width` apart share a stripe. The k stripes with the largest maxima hold the k largest values: a value in
    another stripe is at most that stripe's maximum, so each of the k stripes has one that is no smaller.
    """
    width = scores.shape[1] // STRIPE
    if width < 2 * k:
        found = scores.topk(k, dim=1)
        return found.values, found.indices
    whole = width * STRIPE
    stripes = scores[:, :whole].unflatten(1, (STRIPE, width)).amax(dim=1).topk(k, dim=1).indices
    steps = width * torch.arange(STRIPE, device=scores.device)
    rest = torch.arange(whole, scores.shape[1], device=scores.device).expand(len(scores), -1)
    places = torch.cat([(stripes[:, :, None] + steps).flatten(1), rest], dim=1)
    found = scores.gather(1, places).topk(k, dim=1)
    return found.values, places.gather(1, found.indices)
