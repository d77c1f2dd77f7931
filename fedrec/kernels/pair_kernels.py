"""Kernels of co-occurrence without noise: what pairs of events say about items, from the sums of `pair_sums`.

| kernel | of the table | value for (item of the history, candidate) |
|---|---|---|
| lift | each | log of how much more often the pair occurs than its items predict, from 0 |
| cosine | together | the sum over the root of both items' sums |
| ridge | together | EASE (Steck 2019): how the candidate follows from all items of a history at once |
| ridge | following | a linear autoregression: how the next item follows from the decayed history |
| near | following | EASE of the decayed pairs |
| low rank | together | the leading directions of the normalised pairs |

Different from Steck: a user counts n^(-1/2), and the penalty is the mean of the diagonal, so that it follows the log,
or 50 users where that is less. Where items are too many to invert a table of all, the ridge kernels of it compare the
most popular ones, and `fedrec.kernels.pair_tail` the rest with them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedrec.kernels.pair_table import Pairs, csr, strongest
from fedrec.kernels.pair_tail import tail_weights
from fedrec.progress import step

MOST_INVERTED = 8_000
"""Items of the largest table that is inverted: 0.26 GB, and about 8 seconds of one core. The rest are the tail."""
FEWEST_USERS = 3.0
"""An item of fewer users is left out of it: regressions on so few are chance, and a lift is left."""
LEAST_PENALTY = 50.0
"""Penalty of a regression at least, in users who have an item."""
STRONGEST = {"ridge": 256, "lift": 512}
"""Entries that are kept of a row: of a regression's weights, and of a lift or cosine."""
DENSE = 0.03
"""Part of a table's entries from which on it is multiplied as a dense matrix, which is faster then."""
RANK = 128
"""Leading directions that are kept."""
TABLES: dict[str, float | None] = {"together": None, "following": 0.9, "next": 0.6}
"""The tables, each with its decay for a step between two events; None for all pairs of a history."""
NAMES = (
    "co-occurrence lift",
    "co-occurrence cosine",
    "co-occurrence ridge",
    "co-occurrence following lift",
    "co-occurrence following ridge",
    "co-occurrence near",
    "co-occurrence next lift",
)
"""The kernels that are tables of neighbours, in the order of the features, named as learned ones."""


def pair_kernels(tables: Mapping[str, Pairs]) -> dict[str, Pairs]:
    """Make the kernels of `NAMES` from the tables of `TABLES`, over head items from the most popular to the least."""
    together = tables["together"]
    diagonal, apart = together.diagonal(), together.off_diagonal()
    doubt = _doubt(apart, diagonal)
    with step("kernels of pairs", len(NAMES)) as advance:
        found = {}  # each is cut before the next one is made
        found["co-occurrence lift"] = strongest(lift(apart, doubt), STRONGEST["lift"])
        found["co-occurrence cosine"] = strongest(cosine(apart), STRONGEST["lift"])
        del apart
        advance(2)
        inverse, penalty, known = inverted(together, diagonal, doubt / 2)
        ridge = _pruned(_regression(inverse), together.items)
        if known > len(inverse):
            ridge = ridge.joined(tail_weights(together, inverse, penalty, known, STRONGEST["ridge"]))
        found["co-occurrence ridge"] = strongest(ridge, STRONGEST["lift"])
        advance()
        found["co-occurrence following lift"], found["co-occurrence next lift"] = (
            strongest(lift(tables[name], doubt), STRONGEST["lift"]) for name in ("following", "next")
        )
        advance(2)
        found["co-occurrence following ridge"], found["co-occurrence near"] = _by_order(
            tables["following"], diagonal, penalty, len(inverse)
        )
        advance(2)
    return {name: found[name] for name in NAMES}


def _by_order(following: Pairs, diagonal: Tensor, penalty: float, items: int) -> tuple[Pairs, Pairs]:
    """How the next item follows from the decayed history, and EASE of decayed pairs, of the first `items` items."""
    if not len(following.keys):  # a log without an order
        return following, following
    decay = TABLES["following"]
    assert decay is not None
    near = following.both_ways().dense(items) * decay
    near.diagonal().add_(diagonal[:items] + penalty)
    inverse = _inverse(near)
    after = _pruned(_times(inverse, following), following.items)
    return after, _pruned(_regression(inverse), following.items)


def _times(left: Tensor, right: Pairs) -> Tensor:
    """The product of a symmetric matrix of the first n items with their rows of a table, (n, items)."""
    first = len(left)
    if len(right.keys) > DENSE * right.items**2:
        return left @ right.dense(first, right.items)
    inside = right.rows < first
    keys, order = (right.columns[inside] * first + right.rows[inside]).sort()
    return (csr(keys // first, keys % first, right.values[inside][order], (right.items, first)) @ left).T


def lift(pairs: Pairs, doubt: float) -> Pairs:
    """log((sum + doubt) / (expected + doubt)), where it is above 0."""
    rows, columns = pairs.margins()
    total = rows.sum().clamp(min=1e-9)
    expected = (rows[pairs.rows] * columns[pairs.columns] / total).float()
    return Pairs(pairs.keys, ((pairs.values + doubt) / (expected + doubt)).log().clamp(min=0), pairs.items)


def cosine(pairs: Pairs) -> Pairs:
    """Each sum over the root of the sums of its row and its column."""
    rows, columns = pairs.margins()
    return Pairs(pairs.keys, pairs.values * (rows[pairs.rows] * columns[pairs.columns]).rsqrt().float(), pairs.items)


def inverted(together: Pairs, diagonal: Tensor, user: float) -> tuple[Tensor, float, int]:
    """The inverse of the table of the most popular items plus a penalty, the penalty, and how many items have users
    enough; user: what one counts."""
    known = int((diagonal >= FEWEST_USERS * user).sum())
    items = max(1, min(known, MOST_INVERTED))
    table = together.dense(items)
    used = diagonal[diagonal > 0]
    penalty = max(float(used.mean()) if len(used) else 1.0, LEAST_PENALTY * user)
    table.diagonal().add_(penalty)
    return _inverse(table), penalty, known


def low_rank_rows(together: Pairs, rank: int = RANK, passes: int = 4) -> Tensor:
    """Orthonormal columns (items, rank) that span the leading directions of the normalised table.

    Randomised subspace iteration (Halko, Martinsson, Tropp 2011).
    """
    diagonal = together.diagonal().clamp(min=1e-9)
    scaled = together.values * (diagonal[together.rows] * diagonal[together.columns]).rsqrt()
    table = Pairs(together.keys, scaled, together.items).matrix()
    generator = torch.Generator().manual_seed(0)
    width = min(rank, together.items)
    basis = torch.randn(together.items, width, generator=generator, device="cpu").to(scaled.device)
    with step("leading directions of pairs", passes) as advance:
        for _ in range(passes):
            basis, _ = torch.linalg.qr(table @ basis)
            advance()
    return basis


def _doubt(apart: Pairs, diagonal: Tensor) -> float:
    """About twice what one user adds to a pair: users of n events add n^(-1/2), and long histories make most pairs."""
    events = float(apart.values.double().sum() / diagonal.double().sum().clamp(min=1e-9))
    return 2.0 / (1.0 + events) ** 0.5


def _inverse(table: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(table)
    return torch.linalg.pinv(table, hermitian=True) if bool(failed) else torch.cholesky_inverse(factor)


def _regression(inverse: Tensor) -> Tensor:
    """The weights by which every item follows from the others, with a zero diagonal."""
    weights = -inverse / inverse.diagonal()
    weights.fill_diagonal_(0.0)
    return weights


def _pruned(table: Tensor, items: int) -> Pairs:
    """The strongest entries of the rows of a table of the first items (n, columns), without zeros."""
    most = min(STRONGEST["ridge"], table.shape[1])
    columns = table.abs().topk(most, dim=1).indices.sort(dim=1).values
    rows = torch.arange(len(table), device=table.device)[:, None]
    keys, values = (rows * items + columns).flatten(), table.gather(1, columns).flatten()
    kept = values != 0
    return Pairs(keys[kept], values[kept], items)
