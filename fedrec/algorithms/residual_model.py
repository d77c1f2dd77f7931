"""What `sequence-residual` releases: a kernel model and a sequence tower, whose scores are added."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from fedrec.algorithms.sequence_model import SequenceModel
from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.kernels.model import KernelModel
from fedrec.model import ReleasedModel

TOWER = "tower."
"""Prefix of the tower's tensors in a state."""


class ResidualModel(ReleasedModel):
    """score = that of `base` + that of `tower`. The names of their tensors and settings differ."""

    kind: ClassVar[str] = "residual"
    in_double = True

    def __init__(self, base: KernelModel, tower: SequenceModel) -> None:
        self.base, self.tower = base, tower

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        return self._both(self.base.fit(users), self.tower.fit(users))

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        base, tower = self._parts(state)
        return self._both(self.base.fold_in(base, items), self.tower.fold_in(tower, items))

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        base, tower = self._parts(state)
        return self.base.score(base, candidates) + self.tower.score(tower, candidates)

    @staticmethod
    def _both(base: dict[str, Tensor], tower: dict[str, Tensor]) -> dict[str, Tensor]:
        return base | {TOWER + name: tensor for name, tensor in tower.items()}

    @staticmethod
    def _parts(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        tower = {name.removeprefix(TOWER): tensor for name, tensor in state.items() if name.startswith(TOWER)}
        return {name: tensor for name, tensor in state.items() if not name.startswith(TOWER)}, tower

    def item_rows(self, items: Tensor) -> Tensor | None:
        return self.base.item_rows(items)

    def explain(self, state: dict[str, Tensor], candidates: Tensor) -> dict[str, Tensor]:
        return self.base.explain(self._parts(state)[0], candidates)

    def with_new_items(self, items: NewItems) -> "ResidualModel":
        """Place new items in both parts by their public features."""
        return ResidualModel(self.base.with_new_items(items), self.tower.with_new_items(items)).by(self.made_by)

    def tensors(self) -> dict[str, Tensor]:
        return self.base.tensors() | self.tower.tensors()

    def manifest(self) -> dict[str, Any]:
        return self.base.manifest() | self.tower.manifest()

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "ResidualModel":
        base = KernelModel.restore(tensors, manifest)
        assert isinstance(base, KernelModel)
        return cls(base, SequenceModel.restore(tensors, manifest))
