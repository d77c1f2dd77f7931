"""`sequence-residual`: a sequence tower that learns what `kernel-rank` leaves, in one run with one budget.

First comes a whole `kernel-rank` run, with its part of the budget. Its released model is fixed, and its scores are the
offsets of a sequence tower (see `fedrec.algorithms.sequence`): a device scores its newest training items and negatives
with the released model, each item from the history before it, and adds the gradient of the tower's correction. So the
guarantee is that of one plan: all rounds of both parts are priced before the first one, and share one ledger.

    score(item) = kernel-rank(item) + scale * <prediction of the tower, vector of the item>

The tower starts close to zero, and what its sums teach within the noise goes back there: then lists are those of
`kernel-rank` with its part of the budget.

>>> import numpy as np
>>> from fedrec.data.catalogue import Catalogue, Categories
>>> kinds = Categories("kind", ("even", "odd"), np.eye(2, dtype=bool)[np.arange(30) % 2])
>>> catalogue = Catalogue(tuple(map(str, range(30))), blocks=(kinds,))
>>> facts = PublicFacts(catalogue, users=100, expected_cohort=100.0, mu=1.0)
>>> both = SequenceResidual(SequenceResidualConfig(share=0.2), facts)
>>> priced = [[query.budget_share for query in both.queries(number)] for number in range(both.rounds)]
>>> round(sum(map(sum, priced)), 6), round(sum(map(sum, priced[both.base.rounds :])), 6)
(1.0, 0.2)
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.algorithms.held_rows import no_evidence
from fedrec.algorithms.kernel_rank import KernelRank
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.algorithms.residual_model import ResidualModel
from fedrec.algorithms.sequence import Sequence
from fedrec.algorithms.sequence_examples import Examples, NegativeDraws, Windows
from fedrec.algorithms.sequence_gradients import NEVER, Slopes, against_negatives, gradients
from fedrec.algorithms.sequence_model import SequenceModel
from fedrec.algorithms.sequence_settings import SequenceConfig, encoder_settings
from fedrec.data.users import UserBatch
from fedrec.kernels.model import KernelModel
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.sequences.tower import SequenceTower
from fedrec.settings import Settings

BASE, ABOUT = "base/", "base"
"""Names in the shared state: prefix of the released model's tensors, and its manifest as bytes of JSON."""


class SequenceResidualConfig(Settings):
    """Settings of `sequence-residual`."""

    base: KernelRankConfig = Field(default_factory=KernelRankConfig)
    """Settings of `kernel-rank`."""
    share: float = Field(0.1, gt=0, lt=1)
    """Part of the privacy budget for the tower; the base gets the rest."""
    encoder: dict[str, Any] = Field(
        default_factory=lambda: {"name": "state-space", "start": 0.02}, validate_default=True
    )
    """The encoder, as of `sequence`. It should start close to zero."""
    dim: int = Field(32, ge=1, le=1024)
    """Length of the tower's vectors."""
    columns: int = Field(130, ge=1, le=4096)
    """Public feature columns of an item."""
    length: int = Field(50, ge=1, le=4096)
    """Newest events of a history that the tower uses."""
    rounds: int | None = Field(None, ge=1)
    """Steps of the tower; left open, they follow from the budget as those of `sequence`."""
    targets: int = Field(3, ge=1)
    """Newest training items of each user that the tower predicts."""
    negatives: int = Field(256, ge=1)
    """Negatives for all targets, the same for all users and rounds, less each user's own items."""
    scale: float = Field(6.0, gt=0)
    """Factor on <prediction, item> in a score."""
    clip_norm: float = Field(0.3, gt=0)
    """L2 clip on a user's whole contribution to a step of the tower."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size of the server's Adam; left open, as of `sequence`."""

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, value: dict[str, Any]) -> dict[str, Any]:
        return encoder_settings(value)

    def tower(self) -> SequenceConfig:
        """Return the settings of the tower."""
        own = self.model_dump(exclude={"base", "share"}, exclude_none=True)
        return SequenceConfig(**own, popularity_weight=0.0)


@dataclass(frozen=True)
class OffsetExamples(Examples):
    """Examples with what the base says of each target and its negatives.

    Attributes:
        offsets: (B, T, 1 + N), the target first.
    """

    offsets: Tensor

    def take(self, rows: Tensor, length: int) -> "OffsetExamples":
        return OffsetExamples(**vars(super().take(rows, length)), offsets=self.offsets[rows])


@dataclass(frozen=True)
class OverBase:
    """The loss of what is added to the base; an `Output`."""

    scale: float

    def slopes(self, tower: SequenceTower, vectors: Tensor, predicted: Tensor, examples: Examples) -> Slopes:
        """Compute the slopes among targets and negatives."""
        assert isinstance(examples, OffsetExamples)
        offsets = (examples.offsets[:, :, :1], examples.offsets[:, :, 1:])
        return against_negatives(tower, vectors, predicted, examples, offsets, self.scale, "softmax")


class SequenceResidual(Algorithm):
    """See the module."""

    name: ClassVar[str] = "sequence-residual"
    Config: ClassVar[type[Settings]] = SequenceResidualConfig
    fixed_clips = KernelRank.fixed_clips
    config: SequenceResidualConfig

    def __init__(self, config: SequenceResidualConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.base = KernelRank(config.base, replace(facts, mu=facts.mu * math.sqrt(1 - config.share)))
        self.tower = Sequence(config.tower(), replace(facts, mu=facts.mu * math.sqrt(config.share)))
        self._model: tuple[Tensor, KernelModel] | None = None
        self._begun: tuple[Shared, Shared] | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        own = {f"tower_{name}": value for name, value in self.tower.chosen.items()}
        return {"base": self.base.chosen} | own

    @property
    def rounds(self) -> int:
        return self.base.rounds + self.tower.rounds

    @property
    def preparation(self) -> int:
        return self.base.rounds

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        share, part = self.config.share, self._part(round_index)
        found = part.queries(self._step(round_index))
        share = share if part is self.tower else 1 - share
        return tuple(replace(query, budget_share=query.budget_share * share) for query in found)

    def initial(self) -> Shared:
        return self.base.initial()

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        if self._part(round_index) is self.base:
            return self.base.contribute(shared, users, round_index)
        shared = self._over(shared)
        tower, vectors = self.tower.current(shared)
        return {"tower": DenseContribution(gradients(tower, vectors, self._examples(shared, users), self._loss))}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        part, step = self._part(round_index), self._step(round_index)
        if part is self.base:
            return self.base.update(shared, sums, step)
        shared = self._over(shared)
        fixed = {name: tensor for name, tensor in shared.items() if name == ABOUT or name.startswith(BASE)}
        return fixed | self.tower.update(shared, sums, step)

    def adds(self, keys: Tensor, round_index: int) -> Tensor | None:
        return self.base.adds(keys, round_index) if self._part(round_index) is self.base else None

    def for_devices(self, shared: Shared, round_index: int) -> Shared:
        if self._part(round_index) is self.base:
            return self.base.for_devices(shared, round_index)
        server_only = self.tower.server_only | {"level"}
        return {name: tensor for name, tensor in self._over(shared).items() if name not in server_only}

    def fault(self, shared: Shared, round_index: int) -> str:
        return self.base.fault(shared, round_index) if self._part(round_index) is self.base else ""

    def release(self, shared: Shared) -> ResidualModel:
        shared = self._over(shared)
        tower = self.tower.release(shared)
        assert isinstance(tower, SequenceModel)
        return ResidualModel(self._base_model(shared), tower).by(self.name)

    def _part(self, round_index: int) -> Algorithm:
        return self.base if round_index < self.base.rounds else self.tower

    def _step(self, round_index: int) -> int:
        return round_index if round_index < self.base.rounds else round_index - self.base.rounds

    @property
    def _loss(self) -> OverBase:
        return OverBase(self.config.scale)

    def _over(self, shared: Shared) -> Shared:
        """The state of the tower: that of the base becomes its released model, beside an untrained tower."""
        if ABOUT in shared:
            return shared
        if self._begun is None or self._begun[0] is not shared:
            self._begun = (shared, self._begin(self.base.release(shared)))
        return self._begun[1]

    def _begin(self, model: KernelModel) -> Shared:
        about = torch.tensor(list(json.dumps(model.manifest()).encode()), dtype=torch.uint8, device=self.facts.device)
        fixed = {BASE + name: tensor for name, tensor in model.tensors().items()} | {ABOUT: about}
        state = self.tower.initial()
        return fixed | state | (no_evidence(state["average"]) if self.facts.private else {})

    def _base_model(self, shared: Shared) -> KernelModel:
        about = shared[ABOUT]
        if self._model is None or self._model[0] is not about:
            tensors = {name.removeprefix(BASE): shared[name] for name in shared if name.startswith(BASE)}
            self._model = (about, KernelModel.restore(tensors, json.loads(bytes(about.tolist()))))
        return self._model[1]

    def _examples(self, shared: Shared, users: UserBatch) -> OffsetExamples:
        """Each user's newest items, each from the events before it, against negatives that stay the same."""
        config = self.config
        window = Windows.of(users, config.length + 1)
        back = torch.arange(min(config.targets, config.length), device=users.device)
        place = window.counts[:, None] - 1 - back  # (B, T)
        valid, place = place > 0, place.clamp(min=1)
        targets = torch.where(valid, window.items.gather(1, place), 0)
        negatives, outside = NegativeDraws(config.negatives, True, None, self.facts.seed).draw(users, 0)
        memory, popularity = users.memory, shared[f"{BASE}popularity"]
        if "popularity" not in memory or not torch.equal(memory["popularity"], popularity):  # of this base
            memory.update(popularity=popularity, said=self._offsets(shared, users, targets, negatives))
        said = memory["said"]
        counted = torch.cat([torch.ones_like(outside[:, :1]), outside], 1)[:, None]  # (B, 1, 1 + N)
        return OffsetExamples(
            inputs=window.items[:, : config.length],
            ordered=window.ordered,
            at=place - 1,
            targets=targets,
            valid=valid,
            negatives=negatives,
            outside=outside,
            shared=True,
            offsets=torch.where(counted, said, NEVER),
        )

    def _offsets(self, shared: Shared, users: UserBatch, targets: Tensor, negatives: Tensor) -> Tensor:
        """Scores of the released base for each target and the negatives, (B, T, 1 + N), from the events before."""
        model, found = self._base_model(shared), []
        for back, target in enumerate(targets.unbind(1)):
            before = users.without_newest(torch.full_like(users.lengths, back + 1))
            found.append(model.score(model.fit(before), torch.cat([target[:, None], negatives], 1)))
        return torch.stack(found, 1)
