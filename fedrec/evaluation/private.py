"""Private metrics: rounds in which each user adds its own metric vector to a clipped, noised sum.

The evaluation wraps an algorithm, which never sees a user's newest training event. In a look, every user fits the
present model to the rest of the history, ranks that event among the whole catalogue, and adds (hr@10, ndcg@10, 1).
So a deployment can measure its quality, and each look is charged to the budget like any other release. The last look
follows the last training round; earlier ones let a run stop (see `stopping`).
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared, Wrapper
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.evaluation.metrics import gains
from fedrec.evaluation.ranking import rank_newest
from fedrec.evaluation.stopping import StoppingConfig, best, stalled
from fedrec.model import ReleasedModel
from fedrec.precision import full_precision
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.settings import Settings

QUERY = "evaluation"
OWN, BEST = f"{QUERY}.", f"{QUERY}.best."
"""Prefixes of the names of this algorithm's tensors, and of those of the best look's model."""
ENTRIES = ("hr@10", "ndcg@10", "evaluated")
CLIP = math.sqrt(len(ENTRIES))
"""Each entry is in [0, 1], and a user whose item comes first reaches 1 in all: the clip never changes one."""


class PrivateEvaluationConfig(Settings):
    """The share of the budget that the metrics may use, when they are taken, and their consequences."""

    share: float = Field(default=0.02, gt=0, lt=1)
    """Fraction of the run's whole privacy budget that all looks together use; the training gets the rest."""
    stopping: StoppingConfig = Field(default_factory=StoppingConfig)
    """Looks between training rounds, and the rule that stops the run."""


class PrivateEvaluation(Wrapper):
    """`inner` with looks between its rounds and after the last; its budget shares are scaled by 1 - share.

    The inner algorithm is rebuilt with its mu scaled by sqrt(1 - share), so that its settings fit the noise of its
    releases. Its rounds keep their own numbers. Every look is a round of its own with its own noise. The shared state
    holds the results of the looks, so a resumed run takes the same decisions.

    Raises:
        InputError: when `stopping.every` is so large that the only look would be the last.
    """

    name: ClassVar[str] = "private-evaluation"
    Config = PrivateEvaluationConfig
    own_names = OWN
    config: PrivateEvaluationConfig

    def __init__(self, inner: Algorithm, config: PrivateEvaluationConfig | None = None) -> None:
        config = config or PrivateEvaluationConfig()
        left = replace(inner.facts, mu=inner.facts.mu * math.sqrt(1 - config.share))
        super().__init__(inner.rebuilt(left), config, inner.facts)
        self.trained = _look_after(self.inner, config.stopping.every)
        self._looks = tuple(done + place for place, done in enumerate(self.trained))
        self._model: tuple[Shared, ReleasedModel] | None = None

    @property
    def rounds(self) -> int:
        return self.inner.rounds + len(self._looks)

    def initial(self) -> Shared:
        return self.inner.initial()

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        share = self.config.share
        if round_index in self._looks:
            return (SumQuery(QUERY, (len(ENTRIES),), CLIP, share / len(self._looks)),)
        queries = self.inner.queries(self._inner_round(round_index))
        return tuple(replace(query, budget_share=query.budget_share * (1 - share)) for query in queries)

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        if round_index not in self._looks:
            rest = replace(users.without_newest(torch.ones_like(users.lengths)), memory=users.memory)
            return self.inner.contribute(self.inner_state(shared), rest, self._inner_round(round_index))
        if self._model is None or self._model[0] is not shared:  # made once for all batches of the look
            self._model = (shared, self.inner.release(self.inner_state(shared)))
        with full_precision(users.device):  # in half precision many scores would be equal, and ties count against us
            found = rank_newest(self._model[1], users)
        able = (found >= 0).double()
        values = torch.cat([gains(found.clamp(min=0), 10), torch.ones_like(able)[:, None]], dim=1)  # (B, 3)
        return {QUERY: DenseContribution(values * able[:, None])}

    def adds(self, keys: Tensor, round_index: int) -> Tensor | None:
        return None if round_index in self._looks else self.inner.adds(keys, self._inner_round(round_index))

    def for_devices(self, shared: Shared, round_index: int) -> Shared:
        inner = self.inner_state(shared)
        return inner if round_index in self._looks else self.inner.for_devices(inner, self._inner_round(round_index))

    def fault(self, shared: Shared, round_index: int) -> str:
        training = round_index not in self._looks
        return self.inner.fault(self.inner_state(shared), self._inner_round(round_index)) if training else ""

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        inner, own = self.inner_state(shared), self.own_state(shared)
        if round_index not in self._looks:
            return self.inner.update(inner, sums, self._inner_round(round_index)) | own
        total = sums[QUERY]
        std = torch.tensor([total.noise_std], dtype=torch.float64, device=total.value.device)
        for name, row in ((f"{OWN}sums", total.value[None]), (f"{OWN}noise_std", std)):  # (looks, 3), (looks,)
            own[name] = torch.cat([own[name], row]) if name in own else row
        keep = self.config.stopping.release == "best" and len(self._looks) > 1
        if keep and best(self._values(own)) == len(self._values(own)) - 1:
            own = {name: tensor for name, tensor in own.items() if not name.startswith(BEST)}
            own |= {BEST + name: tensor for name, tensor in inner.items()}
        return inner | own

    def release(self, shared: Shared) -> ReleasedModel:
        """Return the inner algorithm's present model; after the run, that of the look that the settings keep."""
        kept = {name.removeprefix(BEST): tensor for name, tensor in shared.items() if name.startswith(BEST)}
        return self.inner.release(kept if kept and self._over(shared) else self.inner_state(shared))

    def stop(self, shared: Shared) -> str | None:
        """Apply `fedrec.evaluation.stopping` to the looks' noisy sums, the public noise and the settings."""
        done = len(shared.get(f"{OWN}sums", ()))
        if not done or done == len(self._looks):
            return None
        return stalled(self._values(shared), self._stds(shared), self.config.stopping)

    def looks(self, shared: Shared) -> list[dict[str, float]]:
        """Return every look so far: "round", the number of training rounds before it ("after"), each metric, and "std".

        Each sum is divided by the public expected cohort, never by a count, so a user with fewer than two events
        counts as a miss; "evaluated" is the share of the cohort that had enough. The denominator is a constant:
        std = noise_std / expected_cohort, the same for every entry. It covers the noise alone, not which users a
        Poisson round happened to draw. Noise can carry a value outside [0, 1]: clamping would bias it.
        """
        if f"{OWN}sums" not in shared:
            return []
        values = (shared[f"{OWN}sums"].double() / self.facts.expected_cohort).tolist()
        return [
            {"round": round_index, "after": after, **dict(zip(ENTRIES, row, strict=True)), "std": std}
            for round_index, after, row, std in zip(self._looks, self.trained, values, self._stds(shared), strict=False)
        ]

    def private_metrics(self, shared: Shared) -> dict[str, dict[str, float]]:
        """Return `{"hr@10": {"value", "std"}, "ndcg@10": ..., "evaluated": ...}` of the released model, by its look.

        Empty until the run is over. The best of several looks overestimates its model.
        """
        if not self._over(shared):
            return {}
        look = self.looks(shared)[self.kept(shared)]
        return {name: {"value": look[name], "std": look["std"]} for name in ENTRIES}

    def kept(self, shared: Shared) -> int:
        """Return the look whose model is released when the run is over; at least one look must be done."""
        values = self._values(shared)
        return best(values) if self.config.stopping.release == "best" else len(values) - 1

    def _over(self, shared: Shared) -> bool:
        done = len(shared.get(f"{OWN}sums", ()))
        return done == len(self._looks) or self.stop(shared) is not None

    def _values(self, shared: Shared) -> list[float]:
        sums = shared[f"{OWN}sums"][:, ENTRIES.index(self.config.stopping.metric)]
        values: list[float] = (sums.double() / self.facts.expected_cohort).tolist()
        return values

    def _stds(self, shared: Shared) -> list[float]:
        stds: list[float] = (shared[f"{OWN}noise_std"] / self.facts.expected_cohort).tolist()
        return stds

    def _inner_round(self, round_index: int) -> int:
        return round_index - bisect_left(self._looks, round_index)


def _look_after(inner: Algorithm, every: int | None) -> tuple[int, ...]:
    """Return the numbers of training rounds after which to look: every so many, and after the last."""
    if every is None:
        return (inner.rounds,)
    start, steps = inner.preparation, inner.rounds - inner.preparation
    found = (*range(start + every, inner.rounds, every), inner.rounds)
    if len(found) == 1 and steps > 1:
        raise InputError(
            f"stopping.every = {every}: {inner.name} builds its model in {steps} rounds, so that no look would come "
            f"before the last of them; choose a smaller number, or leave it out"
        )
    return found


PRIVATE = "private "
"""Prefix of the columns that come from a private look; every other metric is a true one."""


def private_figures(algorithm: Algorithm, round_index: int, shared: Shared) -> dict[str, float]:
    """Return the columns of `history.csv` of a look: metrics and deviation of their noise; empty for other rounds."""
    looks = algorithm.looks(shared) if isinstance(algorithm, PrivateEvaluation) else []
    if not looks or looks[-1]["round"] != round_index:
        return {}
    return {f"{PRIVATE}{name}": looks[-1][name] for name in ("hr@10", "ndcg@10", "std")}


def private_report(algorithm: Algorithm, shared: Shared) -> dict[str, Any]:
    """Return `evaluation.private` of the summary: private metrics of the released model, looks, and reason of a stop.

    Empty without a private evaluation.
    """
    if not isinstance(algorithm, PrivateEvaluation):
        return {}
    looks, why, released = algorithm.looks(shared), algorithm.stop(shared), algorithm.private_metrics(shared)
    stopped = {"round": looks[-1]["round"], "after": looks[-1]["after"], "why": why} if why else None
    kept = looks[algorithm.kept(shared)]["after"] if released else None
    return released | {"released_after": kept, "looks": looks, "stopped": stopped}
