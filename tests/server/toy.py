"""A small algorithm with two queries a round, local randomness and device memory, and a federation that can crash."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from fedrec_sim.engines.in_process import InProcessFederation
from torch import Tensor

from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.algorithms.popularity import PopularityModel
from fedrec.audit.log.ledger import Ledger
from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.data.users import UserBatch
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.run.coordinator import Coordinator
from fedrec.run.federation import Federation
from fedrec.settings import Settings

ITEMS = 12


class ToyConfig(Settings):
    rounds: int = 4


class Toy(Algorithm):
    """Moves one vector towards what users have and away from what they have not."""

    name: ClassVar[str] = "toy"
    Config: ClassVar[type[Settings]] = ToyConfig

    @property
    def rounds(self) -> int:
        return self.config.rounds

    def initial(self) -> Shared:
        return {"vector": torch.zeros(ITEMS), "step": torch.zeros(2)}

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        return (
            SumQuery("pull", (ITEMS,), 0.8, 0.75 / self.rounds),
            SumQuery("totals", (2,), 3.0, 0.25 / self.rounds),
        )

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        if "counts" not in users.memory:
            counts = torch.zeros(len(users), ITEMS)
            users.memory["counts"] = counts.index_put_((users.owners, users.items), torch.ones(()), accumulate=True)
        pull = users.memory["counts"] - 0.3 * shared["vector"]
        pull = pull.scatter_add(1, users.negatives(2, stream=round_index + 1), torch.full((len(users), 2), -0.5))
        totals = torch.stack([users.lengths.float(), torch.ones(len(users))], 1)
        return {"pull": DenseContribution(pull), "totals": DenseContribution(totals)}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        cohort = self.facts.expected_cohort
        return {"vector": shared["vector"] + sums["pull"].value / cohort, "step": sums["totals"].value / cohort}

    def release(self, shared: Shared) -> PopularityModel:
        return PopularityModel(shared["vector"])


def histories(users: int = 37, seed: int = 0) -> Histories:
    """Rows of 0 to 8 distinct items."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(ITEMS)[: rng.integers(0, 9)] for _ in range(users)]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Histories(offsets, np.concatenate(rows).astype(np.int32), ITEMS)


class Crash(Exception):
    """The exception that represents a killed process."""


class CrashingFederation(InProcessFederation):
    """Dies in the sums of round `at`: after the charge, before any release."""

    at: int | None = None

    def clipped_sums(
        self, algorithm: Algorithm, shared: Shared, round_index: int, cohort: np.ndarray
    ) -> dict[str, Tensor]:
        if round_index == self.at:
            raise Crash
        return super().clipped_sums(algorithm, shared, round_index, cohort)


def private_sums(
    federation: Federation, algorithm: Algorithm, shared: Shared, round_index: int, cohort: np.ndarray | None = None
) -> dict[str, PrivateSum]:
    """Return the coordinator's sums of one charged round; `cohort` defaults to the plan's own."""
    plan = federation.plan
    totals = federation.clipped_sums(
        algorithm, shared, round_index, plan.sample(round_index) if cohort is None else cohort
    )
    return {
        query.name: plan.privatise(round_index, query, totals[query.name]) for query in algorithm.queries(round_index)
    }


def assemble(
    folder: Path | None,
    *,
    seed: int | None = 5,
    epsilon: float | str = 2.0,
    rounds: int = 4,
    crash_at: int | None = None,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Coordinator:
    """A coordinator over the toy; `options` go to the coordinator."""
    source = histories()
    privacy = PrivacyConfig(epsilon=epsilon, delta=1e-3, **(config or {}))
    facts = PublicFacts(
        Catalogue(tuple(map(str, range(ITEMS)))), len(source), len(source) * privacy.cohort_share, seed=11
    )
    algorithm = Toy(ToyConfig(rounds=rounds), facts)
    plan = PrivacyPlan.build(
        privacy, [algorithm.queries(round_index) for round_index in range(rounds)], len(source), seed
    )
    federation = CrashingFederation(source, plan, seed=11, batch_users=10)
    federation.at = crash_at
    if folder is None:
        return Coordinator(algorithm, federation, plan, **options)
    ledger = Ledger(folder / "ledger.jsonl")
    return Coordinator(algorithm, federation, plan, ledger, folder / "checkpoint.safetensors", **options)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two states have the same names and bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
