"""Ranking metrics from ranks: one or several held-out items a user, rank 0 is the best.

Each metric is a value for every user, (users,) float64, and its mean over users. With one held-out item a user the
ideal DCG is 1. Then ndcg@k is the discount at the item's rank, recall@k equals hr@k, and map@k equals mrr@k.
`coverage` alone is computed from lists rather than ranks; `fedrec.evaluation.exposure` has further measures of lists.
Other packages add metrics by entry points of the group `fedrec.metrics`.

Sources: Jarvelin and Kekalainen 2002 (DCG); He et al. 2017 (hr and ndcg with one held-out item); Manning, Raghavan and
Schutze 2008, chapter 8 (precision, recall, F1, MAP); Rendle et al. 2009 (AUC, a mean over users); Zhu et al. 2017
(GAUC). Differs from the usual code in that a tie counts against the model, in AUC too, where others count a half.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from fedrec import plugins
from fedrec.errors import FedrecError, InputError, first_line


@dataclass(frozen=True)
class Placed:
    """The ranks of the held-out items of U users.

    Attributes:
        ranks: (T,) int64, 0 = first; those of one user differ.
        owners: (T,) int64, ascending, the user 0..U-1 of each; every user has at least one.
        others: (U,) int64, the number of ranked items that are not held out; for auc and gauc only.
    """

    ranks: Tensor
    owners: Tensor
    others: Tensor | None = None

    @classmethod
    def one(cls, ranks: Tensor) -> "Placed":
        """Make the ranks (U,) int64 of one held-out item a user."""
        return cls(ranks, torch.arange(len(ranks)))

    @cached_property
    def counts(self) -> Tensor:
        """Held-out items of each user, (U,) int64."""
        return torch.bincount(self.owners)

    @cached_property
    def single(self) -> bool:
        """True if every user has exactly one held-out item."""
        return len(self.counts) == len(self.ranks)

    @cached_property
    def before(self) -> Tensor:
        """Number of the user's other held-out items before each, (T,) int64."""
        order = self.ranks.argsort(stable=True)
        order = order[self.owners[order].argsort(stable=True)]
        starts = self.counts.cumsum(0) - self.counts
        return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)) - starts[self.owners[order]])

    def total(self, values: Tensor) -> Tensor:
        """Sum `values` (T,) over each user's items, (U,) float64."""
        return values if self.single else values.new_zeros(len(self.counts)).index_add_(0, self.owners, values)


def gains(ranks: Tensor, k: int) -> Tensor:
    """Return each item's hit and discounted gain among the first k, (T, 2) float64: hr@k and ndcg@k if it is alone."""
    hit = (ranks < k).double()
    return torch.stack([hit, hit / (ranks.double() + 2).log2()], dim=1)


def _hits(placed: Placed, k: int) -> Tensor:
    return placed.total((placed.ranks < k).double())


def hr(placed: Placed, k: int) -> Tensor:
    """Hit ratio: 1 where a held-out item is among the first k."""
    return (_hits(placed, k) > 0).double()


def ndcg(placed: Placed, k: int) -> Tensor:
    """Normalised discounted cumulative gain: the sum of 1 / log2(rank + 2) over ranks < k, over the most it can be."""
    gain = placed.total(gains(placed.ranks, k)[:, 1])
    if placed.single:
        return gain
    ideal = (1 / (torch.arange(k).double() + 2).log2()).cumsum(0)
    return gain / ideal[placed.counts.clamp(max=k) - 1]


def recall(placed: Placed, k: int) -> Tensor:
    """Share of a user's held-out items among the first k."""
    return _hits(placed, k) / placed.counts


def precision(placed: Placed, k: int) -> Tensor:
    """Share of the first k that is held out."""
    return _hits(placed, k) / k


def f1(placed: Placed, k: int) -> Tensor:
    """Harmonic mean of a user's precision and recall, 2 hits / (k + held-out items); averaged after, not before."""
    return 2 * _hits(placed, k) / (k + placed.counts)


def mrr(placed: Placed, k: int) -> Tensor:
    """Reciprocal rank, 1 / (rank + 1), of the first held-out item where that is among the first k, else 0."""
    first = (placed.ranks < k) & (placed.before == 0)
    return placed.total(first.double() / (placed.ranks.double() + 1))


def average_precision(placed: Placed, k: int) -> Tensor:
    """The precision at each held-out item among the first k, summed, over the most items that could be there."""
    at_item = (placed.before + 1).double() / (placed.ranks.double() + 1)
    return placed.total((placed.ranks < k).double() * at_item) / placed.counts.clamp(max=k)


def auc(placed: Placed) -> Tensor:
    """Share of pairs of a held-out item and another that the model orders rightly; 1 where there is no other."""
    if placed.others is None:
        raise InputError("auc: needs to know how many items were ranked; it is for full ranking only")
    behind = placed.total((placed.ranks - placed.before).double())
    return 1 - behind / (placed.counts * placed.others).clamp(min=1)


def gauc(placed: Placed) -> Tensor:
    """AUC weighted by a user's number of held-out items; weights of mean 1, so that the mean is the GAUC."""
    return auc(placed) * placed.counts / placed.counts.double().mean()


def coverage(listed: Tensor) -> float:
    """Share of the catalogue that is in at least one user's list; listed (items,) bool."""
    return float(listed.double().mean())


AT_K: Mapping[str, Callable[[Placed, int], Tensor]] = {
    "hr": hr,
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
    "mrr": mrr,
    "f1": f1,
    "map": average_precision,
}
WHOLE: Mapping[str, Callable[[Placed], Tensor]] = {"auc": auc, "gauc": gauc}
"""Metrics of the whole ranking: without a cut-off."""


GROUP: Final = "fedrec.metrics"
OF_LISTS: Final = frozenset(
    {"coverage", "gini", "novelty", "popularity", "tail", "popularity-lift", "diversity", "groups", "ratings"}
)
"""Further measures of `fedrec.evaluation.report`, which need more than ranks."""


def metric_of(kind: str) -> Callable[..., Tensor]:
    """Return the function of the metric `kind` (its name without the cut-off), built in or installed.

    Raises:
        InputError: for an unknown metric; the line names the nearest one.
        PluginRefused: when this process does not allow it.
    """
    if kind in OF_LISTS:
        raise InputError(f"metric '{kind}' is no metric of ranks; set evaluation.extended=true to have it")
    built_in: dict[str, Callable[..., Tensor]] = {**AT_K, **WHOLE}
    return plugins.discover(GROUP, kind, built_in, _unusable)


def check_metrics(names: Iterable[str]) -> None:
    """Find each metric before a run begins.

    Raises:
        InputError: for an unknown name or a bad cut-off.
    """
    for name in names:
        _found(name)


def values(placed: Placed, name: str) -> Tensor:
    """Compute each user's value of a metric, (U,) float64; the metric is their mean.

    Args:
        placed: the ranks.
        name: with its cut-off, such as "ndcg@10", or "auc".

    Raises:
        InputError: for an unknown name or a bad cut-off, and for a metric of another package that fails.
    """
    function, cut = _found(name)
    if plugins.is_own(function):
        found: Tensor = function(placed, *cut)
        return found
    try:
        found = function(placed, *cut)
    except FedrecError:
        raise
    except Exception as error:  # the code of another package may raise anything
        raise InputError(f"metric '{name}' failed ({type(error).__name__}: {first_line(error)})") from error
    users = len(placed.counts)
    if not isinstance(found, Tensor) or found.shape != (users,) or not bool(found.isfinite().all()):
        raise InputError(f"metric '{name}': returned no finite value for each of the {users:,} users")
    return found.double()


def _found(name: str) -> tuple[Callable[..., Tensor], tuple[int, ...]]:
    """Return the function of the metric `name` and its cut-off, if it has one."""
    kind, at, cut = name.partition("@")
    function = metric_of(kind)
    if _arguments(function) == 1:
        if at:
            raise InputError(f"metric '{name}': has no cut-off; say '{kind}'")
        return function, ()
    if not cut.isdecimal() or int(cut) < 1:
        raise InputError(f"metric '{name}': needs a cut-off of at least 1, as in '{kind}@10'")
    return function, (int(cut),)


def _arguments(function: Callable[..., Tensor]) -> int:
    """Return 2 for a metric of the first k, 1 for one of the whole ranking."""
    return len(inspect.signature(function).parameters)


def _unusable(found: Any, name: str) -> str | None:
    if not inspect.isfunction(found) or _arguments(found) not in (1, 2):
        return "is no function of (placed, k) or (placed)"
    return "has a name with ':' or '@', which cut-off and protocol need" if set(name) & set(":@") else None


def measure(placed: Placed, names: Iterable[str]) -> dict[str, float]:
    """Compute the means over users of the metrics called `names`, by name.

    Raises:
        InputError: as `values`.
    """
    result = {}
    for name in names:
        kind, _, cut = name.partition("@")
        mean = float(values(placed, name).mean())
        # Precision: a mean of whole numbers is exact, so the division comes last.
        result[name] = float(_hits(placed, int(cut)).mean()) / int(cut) if kind == "precision" else mean
    return result
