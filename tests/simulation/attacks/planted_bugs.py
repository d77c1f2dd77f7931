"""Systems with one planted bug each, which an audit must catch. They break the product from outside, in tests only."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrec.algorithms.als import ALS
from fedrec.privacy.noise import NoiseSource
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery

Plant = Callable[[pytest.MonkeyPatch], None]


def half_the_noise(patch: pytest.MonkeyPatch) -> None:
    honest = NoiseSource.normal_blocks

    def normal_blocks(self: NoiseSource, *arguments: Any, **options: Any) -> Iterator[np.ndarray]:
        yield from (block / 2 for block in honest(self, *arguments, **options))

    patch.setattr(NoiseSource, "normal_blocks", normal_blocks)


def clip_skipped_for_one_in_a_hundred(patch: pytest.MonkeyPatch) -> None:
    honest, draw = PrivacyPlan.clip, np.random.default_rng(0)

    def clip(self: PrivacyPlan, query: SumQuery, contribution: Contribution) -> Tensor:
        weights = honest(self, query, contribution)
        return torch.where(torch.from_numpy(draw.random(len(weights)) < 0.01), 1.0, weights)

    patch.setattr(PrivacyPlan, "clip", clip)


def noise_reused_between_rounds(patch: pytest.MonkeyPatch) -> None:
    honest = NoiseSource.normal_blocks

    def normal_blocks(self: NoiseSource, round_index: int, name: str, size: int, time: int = 1) -> Iterator[np.ndarray]:
        yield from honest(self, 0, name, size)

    patch.setattr(NoiseSource, "normal_blocks", normal_blocks)


def fixed_cohort(patch: pytest.MonkeyPatch) -> None:
    honest = PrivacyPlan.sample
    patch.setattr(PrivacyPlan, "sample", lambda self, round_index: honest(self, 0))


def cohort_of_fixed_size(patch: pytest.MonkeyPatch) -> None:
    honest = PrivacyPlan.sample

    def sample(self: PrivacyPlan, round_index: int) -> np.ndarray:
        if self.config.sampling == 1:
            return honest(self, round_index)
        drawn = np.random.default_rng(round_index).permutation(self.users)[: round(self.expected_cohort)]
        return np.sort(drawn)

    patch.setattr(PrivacyPlan, "sample", sample)


def noise_on_touched_rows_only(patch: pytest.MonkeyPatch) -> None:
    honest = PrivacyPlan.privatise

    def privatise(self: PrivacyPlan, round_index: int, query: SumQuery, total: Tensor) -> PrivateSum:
        released = honest(self, round_index, query, total)
        return PrivateSum(torch.where(total == 0, 0.0, released.value), released.noise_std)

    patch.setattr(PrivacyPlan, "privatise", privatise)


def update_of_touched_rows_only(patch: pytest.MonkeyPatch) -> None:
    honest, honest_update, touched = PrivacyPlan.privatise, ALS.update, {}

    def privatise(self: PrivacyPlan, round_index: int, query: SumQuery, total: Tensor) -> PrivateSum:
        if query.name == "items":
            touched["rows"] = (total != 0).any(1)
        return honest(self, round_index, query, total)

    def update(self: ALS, shared: dict[str, Tensor], sums: Any, round_index: int) -> dict[str, Tensor]:
        after = honest_update(self, shared, sums, round_index)
        return after | {"items": torch.where(touched["rows"][:, None], after["items"], shared["items"])}

    patch.setattr(PrivacyPlan, "privatise", privatise)
    patch.setattr(ALS, "update", update)


BUGS: dict[str, tuple[Plant, str]] = {
    "half the noise": (half_the_noise, "noise scale"),
    "clip skipped for one user in a hundred": (clip_skipped_for_one_in_a_hundred, "clip"),
    "noise reused between rounds": (noise_reused_between_rounds, "noise reuse"),
    "a fixed cohort instead of Poisson sampling": (fixed_cohort, "cohort overlap"),
    "cohorts of a fixed size instead of Poisson sampling": (cohort_of_fixed_size, "cohort sizes"),
    "noise on touched rows only": (noise_on_touched_rows_only, "support of releases"),
    "an update of touched rows only": (update_of_touched_rows_only, "support of updates"),
}
"""The broken part -> the bug, and the test that must detect it."""
