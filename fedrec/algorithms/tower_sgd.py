"""`tower-sgd`: users' private vectors against a shared item tower that learns by private gradient descent.

In a round each user rebuilds the vector on the device from the history without a few held-out targets, and adds the
gradient of the loss on those targets in the tower's parameters. The clip is on the user's whole contribution over all
parameters: the vector moves with every event, so a clip per event would bound nothing.

Source: partly local federated learning (Singhal et al. 2021, FedRecon) with user-level DP-SGD (McMahan et al. 2018).
Different: the vector is solved in closed form, targets are held out of what it is solved from, and item popularity,
one private release before the first step, is part of the scores from the start. Under privacy the release keeps what
exceeds the noise (`fedrec.algorithms.held_rows`).

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
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.flat_parameters import PREFIX, flat, named
from fedrec.algorithms.held_rows import (
    EVIDENCE,
    HELD,
    gathered,
    held_parameters,
    no_evidence,
    popularity_budget,
)
from fedrec.algorithms.rating_biases import RatingBiasesStage, RatingSettings
from fedrec.algorithms.rating_model import StarsModel
from fedrec.algorithms.server_optimizer import adam
from fedrec.algorithms.stage import Stage, Staged, popularity_stage
from fedrec.algorithms.tower_model import SolverConfig, TowerModel
from fedrec.algorithms.tower_sgd_settings import TowerSGDConfig, chosen_tower
from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel
from fedrec.precision import full_precision
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings
from fedrec.towers.adapters import adapted
from fedrec.towers.base import ItemTower
from fedrec.towers.examples import Targets, hold_out, without_history
from fedrec.towers.local import LocalContribution
from fedrec.towers.objective import Objective
from fedrec.towers.people import PeopleNetwork, TowerWithPeople, columns

FROZEN = "frozen."
SECOND_DECAY = 0.999  # of Adam's second moment
BIASES_SHARE = 0.7  # of the budget, for the item biases of `ratings`
LEAST_SHARE = 0.1  # of a budget, for the popularity
TUNED_STRENGTH = 1.666 * 6040  # epsilon 8 on MovieLens-1M, where the step under privacy was chosen


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
    begins: ClassVar[bool] = True
    config: TowerSGDConfig

    def __init__(self, config: TowerSGDConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.steps = Steps.of(config, facts)
        kind, tower_config = chosen_tower(config.tower)
        untrained = kind(tower_config, facts.catalogue, facts.seed)
        if facts.start is not None:
            untrained.begin(facts.start.of_width(tower_config.dim), facts.start.known)
        self.popularity_share = config.popularity_share or self._open_share(untrained)
        self.adapter_rank: int | None = None
        if tower_config.adapter is not None:
            strength = facts.strength * math.sqrt(1 - self._first_share)
            untrained, self.adapter_rank = adapted(untrained, strength, self.steps.rounds, facts.seed)
        whole: ItemTower | TowerWithPeople = untrained
        if config.people is not None:
            whole = TowerWithPeople(untrained, PeopleNetwork.start(config.people, tower_config.dim, facts.seed))
        self._untrained = whole.to(facts.device)
        self._start = {name: parameter.detach().clone() for name, parameter in self._untrained.named_parameters()}
        kept = {} if self.adapter_rank is None else self._untrained.state_dict()
        self._frozen = {name: value.detach().clone() for name, value in kept.items() if name not in self._start}
        self.biases: RatingBiasesStage | None = None
        if config.ratings:
            low, high = config.rating_scale
            settings = RatingSettings(low=low, high=high, decay=config.decay)
            self.biases = RatingBiasesStage(settings, facts, BIASES_SHARE, config.rating_centre)
        self.size = sum(parameter.numel() for parameter in self._start.values())
        self._round: tuple[Shared, ItemTower | TowerWithPeople, TowerModel | StarsModel] | None = None

    def _open_share(self, tower: ItemTower) -> float:
        """By the tower's content; by its table where it has nothing else."""
        if not self.facts.private:
            return LEAST_SHARE
        sizes = {name: parameter.numel() for name, parameter in tower.named_parameters()}
        content = sum(size for name, size in sizes.items() if name not in tower.tables)
        return popularity_budget(self.facts, LEAST_SHARE, content or sum(sizes.values()), self.steps.rounds)

    @property
    def server_only(self) -> frozenset[str]:
        return HELD | frozenset(
            {"moment", "variance", "average", "popularity"} | ({"rating_sums"} if self.biases else set())
        )

    @property
    def chosen(self) -> dict[str, Any]:
        rank = {} if self.adapter_rank is None else {"adapter_rank": self.adapter_rank}
        return self.steps._asdict() | rank

    @property
    def _first_share(self) -> float:
        if self.config.ratings:
            return BIASES_SHARE
        return self.popularity_share if self.config.popularity_weight > 0 else 0.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        share = self._first_share
        query = SumQuery("tower", (self.size,), self.config.clip_norm, (1 - share) / self.steps.rounds)
        training = Stage(self.steps.rounds, (query,), self._gradient, self._descend)
        if self.biases is not None:
            return (self.biases.stage, training)
        return (popularity_stage(self.facts, share, self._begin), training) if share else (training,)

    def initial(self) -> Shared:
        zeros = torch.zeros(self.size, device=self.facts.device)
        bias = torch.zeros(len(self.facts.catalogue), device=self.facts.device)
        start = {PREFIX + name: value.clone() for name, value in self._start.items()}
        frozen = {FROZEN + name: value.clone() for name, value in self._frozen.items()}
        own = {"bias": bias, "average": flat(start, self._start), "moment": zeros, "variance": zeros.clone()}
        return start | frozen | own | ({} if self.biases is None else self.biases.initial())

    def _begin(self, shared: Shared, popularity: Tensor, _release: PrivateSum) -> Shared:
        level = popularity.log()
        begun = shared | {"bias": self.config.popularity_weight * (level - level.mean())}
        if not self.facts.private:
            return begun
        return begun | no_evidence(shared["average"]) | {"popularity": popularity}

    def _gradient(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        config = self.config
        users = users.rated() if config.ratings else replace(users, ratings=None)
        draw = self.preparation + step
        history, targets = hold_out(users, self.steps.targets, self.steps.negatives, config.hold_out, draw)
        tower, model = self._current(shared)
        if isinstance(model, StarsModel):
            objective = _residual(model, history, targets, tower)
        else:
            history = history if config.people is None else without_history(history, config.people.cold, draw)
            objective = Objective(model.vectors(history), targets, model.bias, model.solver.scale, config.loss)
            if config.people is not None:
                people = columns(users.people, config.people, len(users), users.device)
                objective = replace(objective, people=people, shrink=model.shrink(model.weights(history)))
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
        parameters = flat(shared, self._start) - self.steps.learning_rate * change
        kept = max(1, steps - self.steps.rounds + math.ceil(config.averaged * self.steps.rounds))
        state["average"] = shared["average"] + (parameters - shared["average"]) / kept
        state |= gathered(shared, gradient, sums["tower"].noise_std / self.facts.expected_cohort)
        return state | named(parameters, self._start)

    def release(self, shared: Shared) -> ReleasedModel:
        average = shared["average"]
        if EVIDENCE in shared:
            tables = self._untrained.tables if self.adapter_rank is None else ()
            average = held_parameters(average, self._start, shared, tables, from_zero=self.facts.start is None)
        return self._model(shared, self._tower(shared | named(average, self._start))).by(self.name)

    def _tower(self, shared: Shared) -> ItemTower | TowerWithPeople:
        """A tower of its own with the parameters of `shared`."""
        tower = copy.deepcopy(self._untrained)
        trained = {name: shared[PREFIX + name] for name in self._start}
        tower.load_state_dict(trained | {name: shared[FROZEN + name] for name in self._frozen}, strict=False)
        return tower

    def _model(self, shared: Shared, tower: ItemTower | TowerWithPeople) -> TowerModel | StarsModel:
        config = self.config
        with torch.no_grad(), full_precision(self.facts.device):  # users' vectors are solved against them
            items = tower(torch.arange(tower.items, device=self.facts.device))
        if self.biases is not None:
            return self.biases.model(shared, items)
        solver = SolverConfig(
            alpha0=config.alpha0,
            reg=config.reg,
            decay=config.decay,
            steps=config.solve_steps,
            scale=config.scale,
            ratings=False,
        )
        people = None
        if config.people is not None:
            assert isinstance(tower, TowerWithPeople)
            people = (config.people, copy.deepcopy(tower.people))  # the round's tower becomes float64
        return TowerModel(items, shared["bias"], solver, people)

    def _current(self, shared: Shared) -> tuple[ItemTower | TowerWithPeople, TowerModel | StarsModel]:
        """The tower of a round, in float64, and its model: made once for all batches of the round."""
        if self._round is None or self._round[0] is not shared:
            tower = self._tower(shared)
            model = self._model(shared, tower)
            self._round = (shared, tower.double(), model)
        return self._round[1:]


def _residual(model: StarsModel, history: UserBatch, targets: Targets, tower: ItemTower | TowerWithPeople) -> Objective:
    """The loss of what biases and the user's own taste over fixed columns leave for the tower's columns, the last."""
    assert targets.labels is not None
    vectors = model.vectors(history)  # (B, fixed + d)
    with torch.no_grad():
        fixed = model.items.shape[1] - tower(targets.items[:1, :1, 0]).shape[-1]
    known = (model.items[targets.items[:, :, 0], :fixed] * vectors[:, None, :fixed]).sum(2)  # (B, T)
    labels = targets.labels.clamp(model.solver.low, model.solver.high) - known
    return Objective(vectors[:, fixed:], replace(targets, labels=labels), model.bias, 1.0, "squared")
