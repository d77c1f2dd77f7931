"""Metrics of a summary from ranks: by protocol, and further ones on request.

The keys "full", "sampled-99", "rule" and "users" are a contract; further metrics are below "more".
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fedrec.data.catalogue import Catalogue
from fedrec.data.splits import Split
from fedrec.evaluation.exposure import exposure
from fedrec.evaluation.groups import by_group
from fedrec.evaluation.kept import save_ranks
from fedrec.evaluation.metrics import coverage, measure
from fedrec.evaluation.ranking import LIST, Ranks, ranks
from fedrec.evaluation.ratings import RatingModel, rating_errors
from fedrec.model import ReleasedModel

FULL = ("hr@10", "ndcg@10", "hr@20", "recall@20", "hr@50", "ndcg@50", "ndcg@100", "precision@10", "mrr@10")
SAMPLED = ("hr@10", "ndcg@10")
MORE = ("recall@10", "f1@10", "map@10", "auc", "gauc")
LEAKY_RULE = "ties count against the model; LEAKY NEGATIVES: those of training avoided the held-out item on purpose"
RULE = "ties count against the model; training negatives, if any, come from everything outside a user's training items"


def evaluate(
    model: ReleasedModel,
    split: Split,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    order_free: bool = False,
    users: np.ndarray | None = None,
    extended: bool = False,
    catalogue: Catalogue | None = None,
    keep: Path | None = None,
    metrics: Sequence[str] = (),
) -> dict[str, object]:
    """Compute the metrics by protocol: "full", "sampled-99" where the split has negatives, "rule" and "users".

    A model that predicts ratings also gets "ratings" (`fedrec.evaluation.ratings`), where rated events are held out.

    Args:
        model: as in `ranks`, like every argument that is not listed here.
        split: as in `ranks`.
        extended: True to add "more" (see `more`).
        catalogue: the items' public features, which diversity needs.
        keep: file for the ranks, which are private data of the users (`fedrec.evaluation.kept`); None keeps none.
        metrics: further metrics of full ranking by name and cut-off, also of other packages; they are below "more".

    Raises:
        InputError: when no user has a target.
        FedrecError: on NaN scores.
    """
    found = ranks(model, split, device=device, seed=seed, order_free=order_free, users=users)
    if keep is not None:
        save_ranks(found, keep)
    result = summarise(found, split, order_free=order_free)
    if isinstance(model, RatingModel) and split.many is not None and split.many.ratings is not None:
        result["ratings"] = rating_errors(model, split, found.users, device=device, seed=seed, order_free=order_free)
    named = measure(found.protocols["full"], metrics)
    if not extended:
        return result | ({"more": named} if named else {})
    return result | {"more": named | more(found, split, catalogue)}


def summarise(found: Ranks, split: Split, *, order_free: bool = False) -> dict[str, object]:
    """Compute the contract's metrics of `found`, which `ranks` made of `split`."""
    rule = f"{split.rule}; {LEAKY_RULE if split.leaky else RULE}"
    if order_free:
        rule += "; the device ignores the order of its events"
    placed = found.protocols
    result: dict[str, object] = {"full": measure(placed["full"], FULL) | {f"coverage@{LIST}": coverage(found.listed)}}
    if "new-items" in placed:
        result["new-items"] = measure(placed["new-items"], FULL)
    if "sampled-99" in placed:
        result["sampled-99"] = measure(placed["sampled-99"], SAMPLED)
    return result | {"rule": rule, "users": len(found.users)}


def more(found: Ranks, split: Split, catalogue: Catalogue | None = None) -> dict[str, object]:
    """Compute further metrics of full ranking, of the lists (`exposure`), and by "groups" (`by_group`)."""
    return {
        **measure(found.protocols["full"], MORE),
        **exposure(found, split, catalogue),
        "groups": by_group(found, split),
    }
