"""Private metrics: one more round in which each user adds its own metric vector to a clipped, noised sum.

Wraps an algorithm. The inner algorithm never sees a user's newest training event; after its last round every user
ranks that event against the whole catalogue with the released model, fitted on the rest of its history, and adds
(hr@10, ndcg@10, 1). So a deployment can know how well it serves people, and the knowledge is charged to the budget
like any other release.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field

from fedrec.algorithms.base import Algorithm, ReleasedModel, Shared
from fedrec.data.users import UserBatch
from fedrec.evaluation.metrics import gains
from fedrec.evaluation.ranking import rank_newest
from fedrec.precision import full_precision
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.settings import Settings

QUERY = "evaluation"
ENTRIES = ("hr@10", "ndcg@10", "evaluated")
CLIP = math.sqrt(len(ENTRIES))
"""Each entry lies in [0, 1], and a user whose item comes first reaches 1 in all: the clip never bites."""


class PrivateEvaluationConfig(Settings):
    """How much of the budget the metrics may use."""

    share: float = Field(default=0.02, gt=0, lt=1)
    """Fraction of the run's whole privacy budget that the metrics use; the training gets the rest."""


class PrivateEvaluation(Algorithm):
    """`inner` with a last round of private metrics; its budget shares are scaled by 1 - share.

    The inner algorithm is rebuilt with its mu scaled by sqrt(1 - share), so that what it derives from the budget
    agrees with the noise that it will meet. The rounds count one more; `release` is the inner one's.
    """

    name: ClassVar[str] = "private-evaluation"
    Config = PrivateEvaluationConfig

    def __init__(self, inner: Algorithm, config: PrivateEvaluationConfig | None = None) -> None:
        config = config or PrivateEvaluationConfig()
        super().__init__(config, inner.setting)
        left = replace(inner.setting, mu=inner.setting.mu * math.sqrt(1 - config.share))
        self.inner = type(inner)(inner.config, left)

    @property
    def rounds(self) -> int:
        return self.inner.rounds + 1

    @property
    def chosen(self) -> dict[str, Any]:
        return self.inner.chosen

    def initial(self) -> Shared:
        return self.inner.initial()

    def queries(self, round: int) -> tuple[SumQuery, ...]:
        share = self.config.share
        if round < self.inner.rounds:
            return tuple(replace(q, budget_share=q.budget_share * (1 - share)) for q in self.inner.queries(round))
        return (SumQuery(QUERY, (len(ENTRIES),), CLIP, share),)

    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        if round < self.inner.rounds:
            rest = users.without_newest(torch.ones_like(users.lengths))
            return self.inner.contribute(shared, replace(rest, memory=users.memory), round)
        with full_precision(users.device):  # in half precision many scores would be equal, and ties count against us
            found = rank_newest(self.release(shared), users)
        able = (found >= 0).double()
        values = torch.cat([gains(found.clamp(min=0), 10), torch.ones_like(able)[:, None]], dim=1)  # (B, 3)
        return {QUERY: DenseContribution(values * able[:, None])}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        if round < self.inner.rounds:
            return self.inner.update(shared, sums, round)
        total = sums[QUERY]
        return {
            **shared,
            f"{QUERY}.sums": total.value,
            f"{QUERY}.noise_std": torch.tensor(total.noise_std, dtype=torch.float64),
        }

    def release(self, shared: Shared) -> ReleasedModel:
        return self.inner.release({key: value for key, value in shared.items() if not key.startswith(f"{QUERY}.")})

    def private_metrics(self, shared: Shared) -> dict[str, dict[str, float]]:
        """`{"hr@10": {"value", "std"}, "ndcg@10": ..., "evaluated": ...}`; empty until the last round is done.

        Each sum is divided by the public expected cohort, never by a count, so a user with fewer than two events
        counts as a miss; "evaluated" is the share of the cohort that had enough. The denominator is a constant:
        std = noise_std / expected_cohort, the same for every entry. It covers the noise alone, not which users a
        Poisson round happened to draw. Noise can carry a value outside [0, 1]: clamping would bias it.
        """
        if f"{QUERY}.sums" not in shared:
            return {}
        cohort = self.setting.expected_cohort
        std = float(shared[f"{QUERY}.noise_std"]) / cohort
        values = (shared[f"{QUERY}.sums"].double() / cohort).tolist()
        return {name: {"value": value, "std": std} for name, value in zip(ENTRIES, values, strict=True)}
