"""The same metrics for parts of the users and of the items: does a model serve the few as well as the many?

Activity: users by how much their device knows, in thirds. Popularity: held-out items by how many training users have
them, in tiers of the catalogue; the long tail (everything but the most popular fifth) is what Abdollahpouri et al. 2019
call so. Both need true counts, so they belong to simulations and no guarantee covers them.
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
    """`{"activity": {"low": {"full": {"hr@10": ...}, "users": n}, ...}, "popularity": {"top": ..., ...}}`.

    An empty tier is left out. A tier of items asks for its own held-out items alone: their ranks are those among
    everything, and "users" are those who have one.
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
    """The third that each user is in by number of events, 0 the least active, (U,) int64; equals stay together."""
    ascending = np.sort(lengths)
    fewer, no_more = (np.searchsorted(ascending, lengths, side=side) for side in ("left", "right"))
    return torch.from_numpy(3 * (fewer + no_more) // (2 * len(lengths)))  # by the middle of the place that equals share


def item_tiers(counts: Tensor) -> Tensor:
    """0 for the most popular twentieth of the catalogue, 1 for the rest of the head, 2 for the tail, (items,) int64."""
    return 2 - head(counts, HEAD).long() - head(counts, TOP).long()


def _add(tiers: dict[str, dict[str, object]], name: str, found: Ranks, kept: Tensor, names: tuple[str, ...]) -> None:
    if not bool(kept.any()):
        return
    users, owners = found.owners[kept].unique_consecutive(return_inverse=True)
    placed = {"full": found.full, "sampled-99": found.sampled}
    tiers[name] = {
        protocol: measure(Placed(ranks[kept], owners), names) for protocol, ranks in placed.items() if ranks is not None
    } | {"users": len(users)}
