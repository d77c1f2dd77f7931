"""`tower-sgd`: users' private vectors against a shared item tower that learns by private gradient descent.

In a round each user rebuilds the vector on the device from the history without a few held-out targets, and adds the
gradient of the loss on those targets in the tower's parameters. The clip is on the user's whole contribution over all
parameters: the vector moves with every event, so a clip per event would bound nothing.

Source: partly local federated learning (Singhal et al. 2021, FedRecon) with user-level DP-SGD (McMahan et al. 2018).
Different: the vector is solved in closed form, targets are held out of what it is solved from, and item popularity,
one private release before the first step, is part of the scores from the start.

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(100) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> run = fedrec.simulate("tower-sgd", data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.server_optimizer import adam
from fedrec.algorithms.stage import Stage, Staged, popularity_stage
from fedrec.algorithms.tower_model import RatingTowerModel, SolverConfig, TowerModel
from fedrec.data.users import UserBatch
from fedrec.precision import full_precision
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings, parse
from fedrec.towers.base import ItemTower, TowerConfig, tower
from fedrec.towers.examples import hold_out
from fedrec.towers.local import LocalContribution
from fedrec.towers.objective import Objective

PREFIX = "tower."
SECOND_DECAY = 0.999  # of Adam's second moment
TUNED_STRENGTH = 1.666 * 6040  # epsilon 8 on MovieLens-1M, where the step under privacy was chosen


class TowerSGDConfig(Settings):
    """Settings of `tower-sgd`."""

    older_names: ClassVar[Mapping[str, str]] = {
        "optimiser": "optimizer",
        "clip": "clip_norm",
        "local_rate": "local_learning_rate",
    }

    tower: dict[str, Any] = Field(default_factory=lambda: {"name": "id"}, validate_default=True)
    """Which item tower: `name` (id, content, hybrid), and that tower's own settings."""
    rounds: int | None = Field(None, ge=1)
    """Gradient steps of the server; by default 60 without privacy and 6 with it, so that each may cost more."""
    loss: Literal["softmax", "bpr", "bce", "squared"] = "softmax"
    """Loss of the scores of a target and its negatives."""
    ratings: bool = False
    """Predict ratings instead of events: loss `squared`, no negatives, no popularity; needs a log with ratings."""
    rating_centre: float = 3.5
    """With `ratings`: what a user is expected to give an item that nothing is known of (the scale's public middle)."""
    targets: int | None = Field(None, ge=1)
    """Events that each user holds out in a round; by default 8 without privacy, 2 with it."""
    negatives: int | None = Field(None, ge=1)
    """Local negatives for each target; by default 20 without privacy, 16 with it."""
    hold_out: Literal["random", "next"] = "random"
    """Targets are any events, or those that follow a random cut in the history's second half."""
    alpha0: float = Field(0.3, gt=0)
    """Weight of an item without an event in the solve of a user's vector (an event weighs 1)."""
    reg: float = Field(0.003, gt=0)
    """Ridge of that solve, times (weight of the events + alpha0 x items)."""
    decay: float = Field(1.0, gt=0, le=1)
    """Recency: an event weighs decay ** (events after it)."""
    solve_steps: int = Field(0, ge=0)
    """0 solves a user's vector exactly; else that many gradient steps from zero."""
    scale: float = Field(6.0, gt=0)
    """Factor on <vector, item> in a score, to which the popularity is added; 1 with `ratings`."""
    popularity_weight: float = Field(1.0, ge=0)
    """Factor on the logarithm of the released popularity in a score; 0 leaves it out, and its release too."""
    popularity_share: float = Field(0.1, gt=0, lt=1)
    """Part of the privacy budget for the popularity; the tower gets the rest."""
    local_steps: int = Field(1, ge=1)
    """Gradient steps of each user on a copy of the tower; 1 needs no copy."""
    local_learning_rate: float = Field(0.1, gt=0)
    """Step size of several local steps."""
    clip_norm: float = Field(1.0, gt=0)
    """L2 clip on a user's whole contribution to the tower in a round."""
    optimizer: Literal["sgd", "adam"] = "adam"
    """The server's step down the mean gradient."""
    learning_rate: float | None = Field(None, gt=0)
    """The server's step size; by default 0.02, and smaller where the noise is large compared with the signal."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of `sgd`, and the first decay rate of `adam`; 0 for none."""
    averaged: float = Field(0.0, ge=0, lt=1)
    """Part of the rounds, at the end, whose parameters are averaged in the release; 0 for the last ones."""

    @field_validator("tower")
    @classmethod
    def _known_tower(cls, value: dict[str, Any]) -> dict[str, Any]:
        kind, config = _tower_config(value)
        return {"name": kind.name} | config.model_dump()  # a scenario that is written out holds the defaults too

    @model_validator(mode="after")
    def _fits(self) -> "TowerSGDConfig":
        if self.ratings and self.loss != "squared":
            raise ValueError(f"ratings = true needs loss = 'squared', not '{self.loss}'")
        return self


def _tower_config(value: Mapping[str, Any]) -> tuple[type[ItemTower], TowerConfig]:
    kind = tower(str(value.get("name", "id")))
    own = {key: setting for key, setting in value.items() if key != "name"}
    return kind, parse(kind.Config, own, f"[algorithm.tower] of tower '{kind.name}'")


class Steps(NamedTuple):
    """The settings of the descent that may be left open, chosen by the budget and the number of users (both public)."""

    rounds: int
    targets: int
    negatives: int
    learning_rate: float

    @classmethod
    def of(cls, config: TowerSGDConfig, facts: PublicFacts) -> "Steps":
        """Return the settings of `config`, with the open ones chosen."""
        private, strength = facts.private, facts.strength / TUNED_STRENGTH
        return cls(
            rounds=config.rounds or (6 if private else 60),
            targets=config.targets or (2 if private else 8),
            negatives=config.negatives or (16 if private else 20),
            learning_rate=config.learning_rate or 0.02 * min(1.0, strength**0.75),
        )


class TowerSGD(Staged):
    """See the module."""

    name: ClassVar[str] = "tower-sgd"
    Config: ClassVar[type[Settings]] = TowerSGDConfig
    config: TowerSGDConfig

    def __init__(self, config: TowerSGDConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.steps = Steps.of(config, facts)
        kind, tower_config = _tower_config(config.tower)
        self._untrained = kind(tower_config, facts.catalogue, facts.seed).to(facts.device)
        self._start = {name: parameter.detach().clone() for name, parameter in self._untrained.named_parameters()}
        self.size = sum(parameter.numel() for parameter in self._start.values())
        self._round: tuple[Shared, ItemTower, TowerModel] | None = None

    @property
    def server_only(self) -> frozenset[str]:
        return frozenset({"moment", "variance", "average"})

    @property
    def chosen(self) -> dict[str, Any]:
        return self.steps._asdict()

    @property
    def stages(self) -> tuple[Stage, ...]:
        config = self.config
        released = not config.ratings and config.popularity_weight > 0
        share = config.popularity_share if released else 0.0
        query = SumQuery("tower", (self.size,), config.clip_norm, (1 - share) / self.steps.rounds)
        training = Stage(self.steps.rounds, (query,), self._gradient, self._descend)
        return (popularity_stage(self.facts, share, self._begin), training) if released else (training,)

    def initial(self) -> Shared:
        zeros = torch.zeros(self.size, device=self.facts.device)
        bias = torch.zeros(len(self.facts.catalogue), device=self.facts.device)
        if self.config.ratings:
            bias += self.config.rating_centre
        start = {PREFIX + name: value.clone() for name, value in self._start.items()}
        return start | {"bias": bias, "average": self._flat(start), "moment": zeros, "variance": zeros.clone()}

    def _begin(self, shared: Shared, popularity: Tensor, _release: PrivateSum) -> Shared:
        level = popularity.log()
        return shared | {"bias": self.config.popularity_weight * (level - level.mean())}

    def _gradient(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        config = self.config
        users = users.rated() if config.ratings else replace(users, ratings=None)
        draw = self.preparation + step
        history, targets = hold_out(users, self.steps.targets, self.steps.negatives, config.hold_out, draw)
        tower, model = self._current(shared)
        objective = Objective(model.vectors(history), targets, model.bias, model.solver.scale, config.loss)
        return {"tower": LocalContribution(tower, objective, config.local_steps, config.local_learning_rate)}

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        config, steps = self.config, step + 1
        gradient = sums["tower"].value / self.facts.expected_cohort
        state = dict(shared)
        if config.optimizer == "adam":
            made = adam(gradient, shared["moment"], shared["variance"], step, (config.momentum, SECOND_DECAY))
            state["moment"], state["variance"], change = made.first, made.second, made.mean / made.spread
        else:
            state["moment"] = change = config.momentum * shared["moment"] + gradient
        # `ServerOptimizer` multiplies by the step size before it divides: other last bits, and no momentum in `sgd`.
        parameters = self._flat(shared) - self.steps.learning_rate * change
        kept = max(1, steps - self.steps.rounds + math.ceil(config.averaged * self.steps.rounds))
        state["average"] = shared["average"] + (parameters - shared["average"]) / kept
        return state | self._named(parameters)

    def release(self, shared: Shared) -> TowerModel:
        return self._model(shared, self._tower(shared | self._named(shared["average"]))).by(self.name)

    def _tower(self, shared: Shared) -> ItemTower:
        """A tower of its own with the parameters of `shared`."""
        tower = copy.deepcopy(self._untrained)
        tower.load_state_dict({name: shared[PREFIX + name] for name in self._start})
        return tower

    def _model(self, shared: Shared, tower: ItemTower) -> TowerModel:
        config = self.config
        with torch.no_grad(), full_precision(self.facts.device):  # users' vectors are solved against them
            items = tower(torch.arange(tower.items, device=self.facts.device))
        solver = SolverConfig(
            alpha0=config.alpha0,
            reg=config.reg,
            decay=config.decay,
            steps=config.solve_steps,
            scale=1.0 if config.ratings else config.scale,
            ratings=config.ratings,
        )
        kind = RatingTowerModel if config.ratings else TowerModel
        return kind(items, shared["bias"], solver)

    def _current(self, shared: Shared) -> tuple[ItemTower, TowerModel]:
        """The tower of a round, in float64, and its model: made once for all batches of the round."""
        if self._round is None or self._round[0] is not shared:
            tower = self._tower(shared)
            model = self._model(shared, tower)
            self._round = (shared, tower.double(), model)
        return self._round[1:]

    def _flat(self, shared: Shared) -> Tensor:
        return torch.cat([shared[PREFIX + name].flatten() for name in self._start])

    def _named(self, parameters: Tensor) -> Shared:
        parts = parameters.split([start.numel() for start in self._start.values()])
        return {
            PREFIX + name: part.view(start.shape).clone()
            for part, (name, start) in zip(parts, self._start.items(), strict=True)
        }
