"""The same metrics for groups of users and items: does a model serve all groups equally well?

Activity: users by number of events on their device, in thirds. Popularity: held-out items by the number of training
users who have them, in tiers of the catalogue. The last tier is the long tail of Abdollahpouri et al. 2019: everything
but the most popular fifth. Both need true counts, so they belong to simulations and no guarantee covers them.
"""

import numpy as np
import torch
from torch import Tensor

from fedrec.data.splits import Split
from fedrec.evaluation.exposure import HEAD, head, popularity
from fedrec.evaluation.metrics import Placed, measure
from fedrec.evaluation.ranking import Ranks

NAMES = ("hr@10", "ndcg@10", "recall@20")
ACTIVITY = ("low", "medium", "high")
TOP = 0.05
"""The part of the catalogue that is the first tier of items; the second ends where the long tail begins."""
POPULARITY = ("top", "middle", "tail")


def by_group(found: Ranks, split: Split, names: tuple[str, ...] = NAMES) -> dict[str, dict[str, dict[str, object]]]:
    """Return `{"activity": {"low": {"full": {"hr@10": ...}, "users": n}, ...}, "popularity": {"top": ..., ...}}`.

    An empty tier is left out. A tier of items counts its own held-out items alone, with their ranks among all items;
    "users" are those who have one.

    Args:
        found: the ranks.
        split: the split that was ranked.
        names: names of the metrics.
    """
    active = activity_tiers(split.device.lengths[found.users])
    tiers = item_tiers(popularity(split.train))
    result: dict[str, dict[str, dict[str, object]]] = {"activity": {}, "popularity": {}}
    for tier, name in enumerate(ACTIVITY):
        _add(result["activity"], name, found, (active == tier)[found.owners], names)
    for tier, name in enumerate(POPULARITY):
        _add(result["popularity"], name, found, (tiers == tier)[found.targets], names)
    return result


def activity_tiers(lengths: np.ndarray) -> Tensor:
    """Return each user's third by number of events, 0 the least active, (U,) int64; equal numbers share a third."""
    ascending = np.sort(lengths)
    fewer, no_more = (np.searchsorted(ascending, lengths, side=side) for side in ("left", "right"))
    return torch.from_numpy(3 * (fewer + no_more) // (2 * len(lengths)))  # by the middle of the place that equals share


def item_tiers(counts: Tensor) -> Tensor:
    """Return the tier of each item, (items,) int64: 0 for the top twentieth, 1 for the rest of the head, 2: tail."""
    return 2 - head(counts, HEAD).long() - head(counts, TOP).long()


def _add(tiers: dict[str, dict[str, object]], name: str, found: Ranks, kept: Tensor, names: tuple[str, ...]) -> None:
    if not bool(kept.any()):
        return
    users, owners = found.owners[kept].unique_consecutive(return_inverse=True)
    placed = {"full": found.full, "sampled-99": found.sampled}
    tiers[name] = {
        protocol: measure(Placed(ranks[kept], owners), names) for protocol, ranks in placed.items() if ranks is not None
    } | {"users": len(users)}
