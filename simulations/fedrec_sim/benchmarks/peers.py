"""Central peers: EASE, iALS and item-kNN, which see every history and promise no privacy, as a yardstick.

They are ranked by the code that ranks every other model. A setting is chosen on the validation split alone.

Sources: EASE, Steck 2019 (by users where there are fewer of them than items, which is the same by Woodbury's identity);
iALS, Hu et al. 2008 as in `implicit`; item-kNN, Sarwar et al. 2001 with shrunk cosines. Different: item-kNN also with
recency, where an event n steps back in a history weighs decay^n. Items of equal score are in the order of popularity.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sparse
import torch
from torch import Tensor

from fedrec.data.histories import Histories
from fedrec.data.users import UserBatch
from fedrec.errors import FedrecError

MOST_EASE_ITEMS = 10_000
"""Items of the dense inverse of EASE, the most popular ones, where neither users nor items are fewer."""
_BLOCK = 2048
_TIE = 1e-9
FACTORS, ITERATIONS = 64, 10

Scores = Callable[[sparse.csr_matrix], np.ndarray]
"""Scores (B, items) float32 of weighted histories (B, items)."""
Setting = Mapping[str, float]


class CentralModel:
    """A fitted peer, with as much of a released model as ranking needs. It is never released.

    Args:
        called: its name in messages.
        scores: of histories.
        popularity: (items,), which orders items of equal score.
        decay: weight of an event per step back in a history, 1 for no recency.
    """

    def __init__(self, called: str, scores: Scores, popularity: np.ndarray, decay: float = 1.0) -> None:
        self.called, self._scores, self._decay = called, scores, decay
        self._ties = _TIE * popularity.astype(np.float32) / max(float(popularity.max()), 1.0)

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """Return the scores (B, items) of each history."""
        weights = users.recency(self._decay)[users.owners].double() ** users.lags
        where = users.owners.numpy(), users.items.numpy()
        profiles = sparse.csr_matrix((weights.numpy(), where), shape=(len(users), users.n_items), dtype=np.float32)
        scores = np.asarray(self._scores(profiles), dtype=np.float32) + self._ties
        return {"scores": torch.from_numpy(scores)}

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        """Return scores (B, items), or (B, C) of candidates (B, C)."""
        return state["scores"] if candidates is None else state["scores"].gather(1, candidates)


def matrix(histories: Histories) -> sparse.csr_matrix:
    """Return who has which item: (users, items) float32 of 0 and 1."""
    ones = np.ones(len(histories.items), dtype=np.float32)
    found = sparse.csr_matrix((ones, histories.items, histories.offsets), shape=(len(histories), histories.n_items))
    found.sum_duplicates()
    found.data[:] = 1
    return found


def ease(events: sparse.csr_matrix, penalty: float, most_items: int = MOST_EASE_ITEMS) -> Scores:
    """Fit EASE with the L2 penalty `penalty`."""
    users, items = events.shape
    if users < items:
        return _ease_by_users(events, penalty)
    kept = np.arange(items)
    if items > most_items:
        kept = np.sort(np.argsort(-popularity(events), kind="stable")[:most_items])
    part = events[:, kept]
    gram = (part.T @ part).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    inverse = _inverse(gram)
    inverse /= -np.diag(inverse)[None, :].copy()
    inverse[np.diag_indices_from(inverse)] = 0

    def scores(profiles: sparse.csr_matrix) -> np.ndarray:
        found = np.zeros(profiles.shape, dtype=np.float32)
        found[:, kept] = profiles[:, kept] @ inverse
        return found

    return scores


def _ease_by_users(events: sparse.csr_matrix, penalty: float) -> Scores:
    """The same weights without a matrix over items.

    With M = (X X' + penalty I)^-1 over users, the weight of item i on j is x_i' M x_j / (1 - x_j' M x_j).
    """
    gram = (events @ events.T).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    middle = _inverse(gram)
    columns = events.tocsc()
    own = np.empty(events.shape[1], dtype=np.float32)  # x_j' M x_j
    for item in range(len(own)):
        who = columns.indices[columns.indptr[item] : columns.indptr[item + 1]]
        own[item] = middle[np.ix_(who, who)].sum(dtype=np.float64)

    def scores(profiles: sparse.csr_matrix) -> np.ndarray:
        through = np.asarray((profiles @ events.T) @ middle)  # (B, users)
        found = (columns.T @ through.T).T - profiles.multiply(own[None, :]).toarray()
        return np.asarray(found / (1 - own))

    return scores


def _inverse(gram: np.ndarray) -> np.ndarray:
    """Invert a positive definite matrix in place, symmetric, by Cholesky; float64 up to 4,000 rows."""
    work = gram.astype(np.float64 if len(gram) <= 4000 else np.float32)
    factor, failed = scipy.linalg.lapack.get_lapack_funcs(("potrf",), (work,))[0](work.T, lower=True, overwrite_a=True)
    found, failed_too = scipy.linalg.lapack.get_lapack_funcs(("potri",), (work,))[0](
        factor, lower=True, overwrite_c=True
    )
    if failed or failed_too:
        raise FedrecError("EASE: the Gram matrix is not positive definite; its penalty must be above 0")
    low = np.tril(found, -1)
    low += low.T
    low[np.diag_indices_from(low)] = np.diag(found)
    return low.astype(np.float32)


def item_knn(events: sparse.csr_matrix, neighbours: float, shrink: float, user_power: float) -> Scores:
    """Fit item-kNN.

    Args:
        events: (users, items).
        neighbours: items that each item is predicted from.
        shrink: added to the product of two items' norms.
        user_power: an event of a user with n events weighs n^-user_power.
    """
    lengths = np.maximum(np.asarray(events.sum(1)).ravel(), 1.0)
    weighted = sparse.diags(lengths ** -(user_power / 2)) @ events
    norms = np.sqrt(np.asarray(weighted.power(2).sum(0)).ravel()).astype(np.float32)
    rows, items = weighted.T.tocsr().astype(np.float32), events.shape[1]
    by_user, parts = weighted.tocsr().astype(np.float32), []
    for start in range(0, items, _BLOCK):
        near = (rows[start : start + _BLOCK] @ by_user).tocsr()  # (block, items)
        to = np.repeat(np.arange(near.shape[0]) + start, np.diff(near.indptr))
        near.data /= norms[to] * norms[near.indices] + np.float32(shrink + 1e-12)
        near.data[near.indices == to] = 0
        _keep_largest(near, int(neighbours))
        parts.append(near)
    weights = sparse.vstack(parts).T.tocsr()
    return lambda profiles: (profiles @ weights).toarray()


def _keep_largest(rows: sparse.csr_matrix, count: int) -> None:
    """Keep the `count` largest values of each row, and equal ones, in place."""
    for start, end in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
        if end - start > count:
            own = rows.data[start:end]
            own[own < np.partition(own, end - start - count)[end - start - count]] = 0
    rows.eliminate_zeros()


def ials(events: sparse.csr_matrix, confidence: float, penalty: float) -> Scores:
    """Fit iALS by `implicit` with 64 factors; a history is folded in exactly, so recency does not apply.

    Args:
        events: (users, items).
        confidence: weight of an event, where an unknown pair weighs 1.
        penalty: L2 penalty.
    """
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=FACTORS, regularization=penalty, iterations=ITERATIONS, num_threads=1, random_state=0
    )
    model.fit(events * np.float32(confidence), show_progress=False)
    items = np.asarray(model.item_factors)

    def scores(profiles: sparse.csr_matrix) -> np.ndarray:
        known = profiles.copy()
        known.data[:] = confidence
        return np.asarray(np.asarray(model.recalculate_user(np.arange(known.shape[0]), known)) @ items.T)

    return scores


@dataclass(frozen=True)
class Peer:
    """A kind of peer.

    Attributes:
        name: in tables and in the store.
        fit: of events and a setting without `decay`.
        first: the setting to start from.
        steps: for each part of a setting in turn, the values to try on the validation split, the others as they are.
        after: the peer whose chosen setting this one starts from; it needs the order of events. Empty for none.
    """

    name: str
    fit: Callable[..., Scores]
    first: Setting
    steps: tuple[tuple[str, tuple[float, ...]], ...]
    after: str = ""

    def model(self, train: Histories, setting: Setting) -> CentralModel:
        """Fit the peer to training events with a chosen setting."""
        events = matrix(train)
        rest = {name: value for name, value in setting.items() if name != "decay"}
        return CentralModel(self.name, self.fit(events, **rest), popularity(events), setting.get("decay", 1.0))


_RECENCY = (("decay", (0.5, 0.8, 0.95, 0.99)),)
_KNN = Peer(
    "item-kNN",
    item_knn,
    {"neighbours": 100.0, "shrink": 0.0, "user_power": 0.0},
    (("shrink", (0.0, 20.0)), ("neighbours", (20.0, 100.0, 500.0)), ("user_power", (0.0, 1.0))),
)
PEERS = (
    Peer("EASE", ease, {"penalty": 200.0}, (("penalty", (50.0, 200.0, 1000.0)),)),
    Peer(
        "iALS",
        ials,
        {"confidence": 5.0, "penalty": 3.0},
        (("confidence", (1.0, 5.0, 30.0, 100.0)), ("penalty", (0.3, 3.0, 30.0))),
    ),
    _KNN,
    Peer("item-kNN, recency", item_knn, {"decay": 1.0}, _RECENCY, after=_KNN.name),
)


def popularity(events: sparse.csr_matrix) -> np.ndarray:
    """Count the users of each item, (items,) float64."""
    return np.asarray(events.sum(0, dtype=np.float64)).ravel()


def chosen(peer: Peer, quality: Callable[[Setting], float], start: Setting = MappingProxyType({})) -> dict[str, float]:
    """Choose a setting part by part: the value with the best `quality` on the validation split.

    start: the chosen setting of the peer that this one comes after.
    """
    setting, tried = dict(start) | dict(peer.first), dict[tuple[tuple[str, float], ...], float]()

    def of(candidate: dict[str, Any]) -> float:
        key = tuple(sorted(candidate.items()))
        if key not in tried:
            tried[key] = quality(candidate)
        return tried[key]

    for name, values in peer.steps:
        setting[name] = max((of(setting | {name: value}), value) for value in values)[1]
    return setting
