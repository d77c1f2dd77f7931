"""Features of `kernel-rank`: kernels of the public content, and three that the released co-occurrence adds."""

from dataclasses import replace

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.algorithms.kernel_rank_stars import STARS
from fedrec.kernels.cooccurrence import triangle
from fedrec.kernels.denoise import RESIDUAL_RANK, fit_lift, low_rank
from fedrec.kernels.feature_map import DenseMap, FeatureMap, HeadMap
from fedrec.kernels.public import number_scores, public_kernels
from fedrec.kernels.space import KernelSpace, centred_space
from fedrec.kernels.stars import stars_map
from fedrec.kernels.stars_plan import NAME
from fedrec.privacy.queries import PrivateSum


class KernelFeatures:
    """The feature spaces of a run: the public kernels of its items, with those of a state."""

    def __init__(self, config: KernelRankConfig, facts: PublicFacts) -> None:
        self.facts, self.decays, self.gated = facts, config.decays, config.gates
        self.items = len(facts.catalogue)
        self.public = public_kernels(facts.catalogue, config.kernel_rank, facts.seed).to(facts.device)
        self.numbers = number_scores(facts.catalogue).to(facts.device)
        self._space: tuple[Tensor, KernelSpace] | None = None

    @property
    def own(self) -> int:
        """Number of features that are not kernels."""
        empty = torch.zeros(0, device=self.numbers.device)
        return KernelSpace({}, {}, self.decays, empty, self.numbers).own

    def build(self, shared: Shared) -> KernelSpace:
        """The feature space of a state with `popularity` and, where it is released, the lift of the co-occurrence."""
        maps = self.known(shared)
        if "lift" in shared:
            maps["co-occurrence"] = DenseMap(shared["lift"], shared["lift signs"])
            for name in ("pairs", "cosine"):
                values, signs = shared[name], shared[f"{name} signs"]
                maps[f"co-occurrence {name}"] = HeadMap(shared["head"], self.items, values, signs)
        if "sizes" not in shared:
            return centred_space(maps, shared["popularity"], self.numbers, self.decays, gated=self.gated)
        made = centred_space(maps, shared["popularity"], self.numbers, self.decays)  # a device measures no sizes
        return replace(made, sizes=shared["sizes"])

    def known(self, shared: Shared) -> dict[str, FeatureMap]:
        """The kernels that follow from single items: of public content, and of mean ratings where a state has them."""
        rated = {NAME: stars_map(shared[STARS])} if STARS in shared else {}
        return self.public.maps | rated

    def keep(self, scales: Tensor, space: KernelSpace) -> None:
        """Remember the space of the state that holds `scales`."""
        self._space = (scales, space)

    def space(self, shared: Shared) -> KernelSpace:
        """The feature space of a state, rebuilt to the same bits whenever its `scales` change."""
        if self._space is None or self._space[0] is not shared["scales"]:
            self.keep(shared["scales"], self.build(shared))
        assert self._space is not None
        return self._space[1]

    def lift(self, shared: Shared, release: PrivateSum, copies: float = 1.0) -> Shared:
        """Item features from the noisy co-occurrence of the state's head items; tail items get theirs from the content.

        Args:
            shared: a state with `popularity` (items,) and `head` (head items,).
            release: the sum of unit-norm pair vectors, (pairs,).
            copies: pairs that share a number of a sketch.

        Returns:
            The part of the state that describes the co-occurrence.
        """
        top, device = shared["head"], self.facts.device
        space = centred_space(self.public.maps, shared["popularity"], self.numbers, (1.0,))
        kernels = []
        for name, map_ in space.maps.items():
            rows = map_.rows(top)
            kernel = rows @ rows.T - (rows @ space.means[name])
            kernels.append((kernel + kernel.T) / 2)
        fitted = fit_lift(
            triangle(release.value, len(top)),
            release.noise_std,
            shared["popularity"][top],
            kernels,
            self.public.rows(top, smooth=True),
            users=self.facts.expected_cohort,
            copies=copies,
            seed=self.facts.seed,
        )
        lift = torch.cat([rows @ fitted.content for _, rows in self.public.chunks(self.items, device, smooth=True)])
        lift[top] = fitted.factors
        state = {"lift": lift, "lift signs": fitted.signs}
        for name, matrix in (("pairs", fitted.residual), ("cosine", fitted.cosine)):
            state[name], state[f"{name} signs"] = low_rank(matrix, RESIDUAL_RANK)
        return state
