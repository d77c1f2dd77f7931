"""Poisoning: colluding users push one item into everybody's list, by histories or by messages of their own.

The attacker controls m users, and wants an item that few people have in as many top tens as possible.

| strategy | the colluders' code | what they do |
|---|---|---|
| `random` | honest | a history of nine items drawn evenly, and the target |
| `popular` | honest | the same with items of the 30 most popular ones (bandwagon) |
| `gradient` | their own | the mean message of such a bandwagon, cut to the target's row, at full clip norm |
| `align` | their own | the target's row moves towards the 30 most popular items' mean vector, at full clip norm |

`gradient` is like FedRecAttack (Rong et al. 2022), with the users approximated from popular items; `align` is like
PIECK (Yuan et al. 2023): it knows the model of the round alone. For `als` it sends the mean user's vector, without the
matrix and the count that honest users send with it. Different from both: a message is one user's part of a
clipped private sum. A sum that has no row for each item gets the bandwagon's mean message, scaled up to the clip.
The attacker knows the true order of popularity, so the success is that of a well-informed one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.evaluation.ranking import LIST, ranks
from fedrec.model import ReleasedModel
from fedrec.privacy.queries import Contribution, SumQuery
from fedrec.run.coordinator import Coordinator
from fedrec_sim.attacks.colluders import POPULAR, Poison, Poisoned, popular_items, with_crafted_users
from fedrec_sim.attacks.crowd import identities
from fedrec_sim.attacks.record import Result
from fedrec_sim.attacks.recorder import Observation
from fedrec_sim.attacks.target import MemoryLedger, Progress, Target, silent

FRACTIONS = (0.001, 0.01, 0.05)
"""Parts of the honest users: so many colluders are added."""
STRATEGIES = ("random", "popular", "gradient", "align")
APPROXIMATED = 64
"""Crafted users whose mean message `gradient` sends."""
AT_ONCE = 256
UNBOUNDED = 1000.0
"""Clips that ONE colluder sends where a run without privacy clips nothing."""


@dataclass(frozen=True)
class Exposure:
    """Exposure of the target among honest users who do not have it, and the quality of all lists.

    Attributes:
        listed: share of the users with the target in the top ten.
        rank: its mean rank, 1 = first.
        hit: HR@10 of the users' held-out items, full ranking.
    """

    listed: float
    rank: float
    hit: float

    def figures(self) -> dict[str, str]:
        """Return the figures as text."""
        return {"listed": f"{self.listed:.4f}", "mean_rank": f"{self.rank:.1f}", "hit@10": f"{self.hit:.4f}"}


def target_item(target: Target) -> int:
    """Return the item to push: drawn from the less popular half of the items that somebody has."""
    counts = np.bincount(target.users.items, minlength=target.users.n_items)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    return int(np.random.default_rng([target.seed, 7]).choice(order[: max(1, len(order) // 2)]))


def exposure_of(model: ReleasedModel, target: Target, item: int) -> Exposure:
    """Measure the exposure of an item in the lists of the target's own users, who are honest."""
    split = target.split
    found = ranks(model, split, seed=target.seed)
    seen = split.seen.select(found.users)
    has = np.zeros(len(found.users), dtype=bool)
    has[seen.owners[seen.items == item]] = True
    listed = (found.lists == item).any(dim=1).numpy()[~has]
    places = []
    for start in range(0, len(found.users), AT_ONCE):
        some = found.users[start : start + AT_ONCE]
        scores = model.score(model.fit(split.device.batch(some, target.seed)))
        known = split.seen.batch(some, target.seed)
        own = scores[:, item].clone()
        scores[known.owners, known.items] = -torch.inf
        places.append(1 + (scores > own[:, None]).sum(1).numpy())
    rank = np.concatenate(places)[~has]
    return Exposure(float(listed.mean()), float(rank.mean()), float((found.full < LIST).double().mean()))


class Messages:
    """What colluders with code of their own send. aligned: whether by `align`, else by `gradient`."""

    def __init__(self, algorithm: Algorithm, target: Target, item: int, *, aligned: bool) -> None:
        self.algorithm, self.item, self.aligned, self.items = algorithm, item, aligned, target.users.n_items
        self.popular = popular_items(target.users, POPULAR)
        crowd = with_crafted_users(target.users, APPROXIMATED, item, self.popular, target.seed + 1)
        self._batch = crowd.batch(np.arange(len(target.users), len(crowd)), target.seed)
        self._made: tuple[int, dict[str, Tensor]] = (-1, {})

    def __call__(self, shared: Shared, round_index: int, query: SumQuery) -> Tensor:
        """Return the message, of any norm."""
        if self._made[0] != round_index:
            given = self.algorithm.contribute(shared, self._batch, round_index)
            self._made = round_index, {name: _mean(part, len(self._batch)) for name, part in given.items()}
        mean = self._made[1][query.name]
        if query.size % self.items or not self._by_item(shared, query):
            return mean
        rows = torch.zeros(self.items, query.size // self.items, dtype=torch.float64)
        rows[self.item] = mean.reshape(self.items, -1)[self.item]
        aligned = self._aligned(shared, query, rows[self.item].clone()) if self.aligned else None
        if aligned is not None:
            rows[self.item] = aligned
        return rows.reshape(query.shape)

    def _by_item(self, shared: Shared, query: SumQuery) -> bool:
        return query.shape[0] == self.items or self._table(shared, query) is not None

    def _table(self, shared: Shared, query: SumQuery) -> Tensor | None:
        """The item vectors that this sum trains: of its own size, or of the name `items`."""
        tables = [each for each in shared.values() if each.ndim == 2 and len(each) == self.items]
        return next((each for each in tables if each.numel() == query.size), shared.get("items"))

    def _aligned(self, shared: Shared, query: SumQuery, mean_row: Tensor) -> Tensor | None:
        table = self._table(shared, query)
        if table is None or table.ndim != 2:
            return None
        table = table.double()
        goal = table[torch.from_numpy(self.popular.copy())].mean(0)
        if table.numel() == query.size:  # a gradient, which the server descends
            return table[self.item] - POPULAR * goal
        row, width = torch.zeros(query.size // self.items, dtype=torch.float64), table.shape[1]
        if "gram" not in shared or len(row) <= width:
            return None
        row[-1 - width : -1] = mean_row[-1 - width : -1]  # of (matrix, vector, count): no matrix pulls it back
        return row


def _mean(part: Contribution, users: int) -> Tensor:
    total = part.dense(0).double()
    for row in range(1, users):
        total += part.dense(row)
    return total / users


def trained(
    target: Target,
    item: int,
    strategy: str | None,
    colluders: int,
    cap: float | None = None,
    *,
    checked: bool = True,
    loudness: float = 1.0,
) -> tuple[ReleasedModel, Algorithm, dict[str, str]]:
    """Train with `colluders` more users who follow a strategy (None: nobody), and return model and ceilings.

    The ceiling of a sum: how far so many users can move it, in standard deviations of the noise of one entry.
    """
    honest = len(target.users)
    even = np.arange(target.users.n_items)
    fillers = even if strategy == "random" else popular_items(target.users, POPULAR)
    crowd = target.with_users(
        with_crafted_users(target.users, colluders if strategy else 0, item, fillers, target.seed)
    )
    setup = crowd.setup(stream=4)
    poison = Poison(honest + np.arange(colluders if strategy else 0), loudness=loudness, row_cap=cap, checked=checked)
    if strategy in ("gradient", "align"):
        poison.message = Messages(setup.algorithm, target, item, aligned=strategy == "align")
    around = Poisoned(setup.algorithm, identities(crowd.users), _ignored, private=setup.plan.private)
    around.poison = poison
    outcome = Coordinator(around, setup.federation, setup.plan, MemoryLedger()).run()
    ceiling: dict[str, str] = {}
    if setup.plan.private:
        for index, queries in enumerate(setup.plan.rounds):
            for name, query in queries.items():
                noise = setup.plan.noise_multiplier(index, name) * query.clip_norm
                ceiling.setdefault(name, f"{colluders * query.clip_norm / noise:.2f}")
    return setup.algorithm.release(outcome.shared), setup.algorithm, ceiling


def attack(
    target: Target,
    *,
    fractions: tuple[float, ...] = FRACTIONS,
    strategies: tuple[str, ...] = STRATEGIES,
    row_cap: float | None = None,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> list[Result]:
    """Train with colluders of each strategy and fraction, and measure the shift of the target's exposure.

    Args:
        target: the scenario.
        fractions: colluders, as parts of the honest users.
        strategies: names of `STRATEGIES`.
        row_cap: part of the clip that a row of a message may have, checked by the server; None: no cap.
        confidence: as asked; no bound is made.
        progress: called with the number of finished trainings and of all.
    """
    item, private = target_item(target), target.scenario.privacy.private
    if not _has_vectors(target):
        strategies = tuple(strategy for strategy in strategies if strategy != "align")
    total = 1 + len(fractions) * len(strategies) + (not private)
    before = exposure_of(trained(target, item, None, 0, row_cap)[0], target, item)
    progress(1, total)
    rows: list[dict[str, object]] = [{"strategy": "none", "colluders": 0, **before.figures()}]
    worst = before.listed
    for done, (strategy, colluders, loudness) in enumerate(_tries(target, fractions, strategies, private=private)):
        model, _, ceiling = trained(target, item, strategy, colluders, row_cap, loudness=loudness)
        found = exposure_of(model, target, item)
        worst = max(worst, found.listed)
        name = strategy if loudness == 1 else f"{strategy}, {loudness:g} clips"
        rows.append({"strategy": name, "colluders": colluders, **found.figures(), "ceiling_in_noise": ceiling})
        progress(done + 2, total)
    capped = "" if row_cap is None else f" under a cap of {row_cap:g} clips a row"
    return [
        Result(
            kind="poison",
            adversary="colluding_users",
            threat_model="controls m users: their histories, or every number that they send within the clip",
            observed="the model of each round, and which items are popular",
            figures={
                "algorithm": str(target.scenario.algorithm["name"]),
                "epsilon": str(target.scenario.privacy.epsilon),
                "users": len(target.users),
                "target_users": int((target.users.items == item).sum()),
                "row_cap": row_cap,
                "rows": rows,
            },
            seed=target.seed,
            accused=False,
            says=(
                f"the target is in {before.listed:.1%} of the top tens without colluders, in up to {worst:.1%} with "
                f"them{capped}: m users move a sum by at most m clips, and noise that hides one user does not stop m"
            ),
            confidence=confidence,
        )
    ]


def _ignored(seen: Observation) -> None:
    """Watch nothing: only the model counts."""


def _has_vectors(target: Target) -> bool:
    items = target.users.n_items
    return any(each.ndim == 2 and len(each) == items for each in target.setup().algorithm.initial().values())


def _tries(
    target: Target, fractions: tuple[float, ...], strategies: tuple[str, ...], *, private: bool
) -> Iterator[tuple[str, int, float]]:
    for strategy in strategies:
        for fraction in fractions:
            yield strategy, max(1, round(fraction * len(target.users))), 1.0
    if not private:
        yield "gradient", 1, UNBOUNDED
