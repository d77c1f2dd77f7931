"""What `tower-sgd` releases: item vectors, biases, and the solver for a user's own vector.

On events a user's vector w minimises  sum_e c_e (1 - <w, h_e>)^2 + alpha0 * sum over all items <w, h_i>^2 +
reg * (sum_e c_e + alpha0 * items) |w|^2  (Hu, Koren, Volinsky 2008; the regulariser of Rendle et al. 2022) with
c_e = decay^lag where the order of events is known. On ratings it is the ridge regression of rating - bias. Either way
the sums over events are all that is needed, so a new event is folded in exactly without the history.

Where the model has a network for people, the vector is w + shrink * network(attributes); see `fedrec.towers.people`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import embedding

from fedrec.algorithms.als import padded, ridge_solve
from fedrec.algorithms.ragged import each_rectangle
from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.kernels.new_items import Predictor
from fedrec.model import ReleasedModel
from fedrec.rowwise import bmm
from fedrec.settings import Settings, parse
from fedrec.towers.people import PeopleConfig, PeopleNetwork, columns

_PEOPLE = "people."
"""Prefix of the tensors of the network for people."""


class SolverConfig(Settings):
    """Settings of the solve of a user's vector, and of its scores; see the module of `TowerModel`."""

    alpha0: float
    reg: float
    decay: float
    steps: int
    scale: float
    ratings: bool


class TowerModel(ReleasedModel):
    """items (I, d), bias (I,); score = scale * <vector, item> + bias."""

    kind: ClassVar[str] = "tower"
    in_double = True

    def __init__(
        self,
        items: Tensor,
        bias: Tensor,
        solver: SolverConfig,
        people: tuple[PeopleConfig, PeopleNetwork] | None = None,
    ) -> None:
        self.items, self.bias, self.solver, self.people = items, bias, solver, people
        self._table, self._bias = padded(items), padded(bias)
        self._gram = items.mT @ items if not solver.ratings else items.new_zeros(items.shape[1], items.shape[1])

    def vectors(self, users: UserBatch) -> Tensor:
        """The vectors (B, d) of the histories alone, in memory that does not grow with B x d x d."""
        vectors = self.items.new_zeros(len(users), self.items.shape[1])

        def solve(group: Tensor, outer: Tensor, total: Tensor, weight: Tensor) -> None:
            vectors[group] = self._vectors(outer, total, weight)

        self._each(users, solve)
        return vectors

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """vector (B, d), and what folding in needs: outer (B, d, d), total (B, d), weight (B,), decay (B,), and with a
        network for people its shift (B, d)."""
        size, dim = len(users), self.items.shape[1]
        state = {
            "outer": self.items.new_zeros(size, dim, dim),
            "total": self.items.new_zeros(size, dim),
            "weight": self.items.new_zeros(size),
            "decay": users.recency(self.solver.decay).to(self.items.dtype),
            "vector": self.items.new_zeros(size, dim),
        }

        def solve(group: Tensor, outer: Tensor, total: Tensor, weight: Tensor) -> None:
            state["outer"][group], state["total"][group], state["weight"][group] = outer, total, weight
            state["vector"][group] = self._vectors(outer, total, weight)

        self._each(users, solve)
        return self._with_people(state, self.shift(users)) if self.people is not None else state

    def shift(self, users: UserBatch) -> Tensor:
        """Return what attributes add to the vector of a user without events, (B, d)."""
        assert self.people is not None
        config, network = self.people
        coded = columns(users.people, config, len(users), self.items.device).to(self.items.dtype)
        with torch.no_grad():
            shift: Tensor = network(coded)
        return shift

    def weights(self, users: UserBatch) -> Tensor:
        """Return the weight of each history, (B,): its events, older ones less by `decay`."""
        each = users.recency(self.solver.decay).to(self.items.dtype)[users.owners] ** users.lags
        return each.new_zeros(len(users)).index_add_(0, users.owners, each)

    def shrink(self, weight: Tensor) -> Tensor:
        """Return the factor (B,) of that shift for histories of `weight` (B,)."""
        assert self.people is not None
        return self.people[0].events / (self.people[0].events + weight)

    def _with_people(self, state: dict[str, Tensor], shift: Tensor) -> dict[str, Tensor]:
        """Add the shift (B, d) to the vectors of a state, and keep it there."""
        vector = state["vector"] + self.shrink(state["weight"])[:, None] * shift
        return state | {"vector": vector, "shift": shift}

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        """As in the contract. Raises: InputError for a model of ratings, since the event comes without one."""
        if self.solver.ratings:
            raise InputError("fold-in: this model needs the new event's rating; fit it on the longer history")
        row, decay = self.items[items], state["decay"]
        outer = state["outer"] * decay[:, None, None] + row[:, :, None] * row[:, None, :]
        total, weight = state["total"] * decay[:, None] + row, state["weight"] * decay + 1
        vector = self._vectors(outer, total, weight)
        folded = {"outer": outer, "total": total, "weight": weight, "decay": decay, "vector": vector}
        return folded if self.people is None else self._with_people(folded, state["shift"])

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        vector = self.solver.scale * state["vector"]
        if candidates is None:
            return torch.addmm(self.bias, vector, self.items.mT)
        return torch.bmm(self.items[candidates], vector[:, :, None])[:, :, 0] + self.bias[candidates]

    def item_rows(self, items: Tensor) -> Tensor:
        return self.items[items]

    def with_new_items(self, items: NewItems) -> "TowerModel":
        """Predict the vectors of new items from public features: the tower's content, and what its ids learned."""
        rows, bias = Predictor(items).widened(self.items), items.at_median(self.bias)
        return type(self)(rows, bias, self.solver, self.people).by(self.made_by)

    def tensors(self) -> dict[str, Tensor]:
        network = {} if self.people is None else self.people[1].state_dict()
        return {"items": self.items, "bias": self.bias} | {_PEOPLE + name: part for name, part in network.items()}

    def manifest(self) -> dict[str, Any]:
        own = {} if self.people is None else {"people": self.people[0].model_dump(mode="json")}
        return self.solver.model_dump() | own

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "TowerModel":
        own, items = dict(manifest), tensors["items"]
        about, people = own.pop("people", None), None
        if about is not None:
            config = parse(PeopleConfig, about, "the model's network for people")
            network = PeopleNetwork(config.layers, config.width, items.shape[1]).to(items)
            network.load_state_dict(
                {name.removeprefix(_PEOPLE): part for name, part in tensors.items() if name.startswith(_PEOPLE)}
            )
            people = (config, network)
        return cls(items, tensors["bias"], SolverConfig(**own), people)

    def _each(self, users: UserBatch, work: Any) -> None:
        """Call work(group, outer (G, d, d), total (G, d), weight (G,)) for groups of users with events."""
        if self.solver.ratings and users.ratings is None:
            raise InputError("this model needs ratings, and the log has none; use one with ratings, or ratings = false")
        users = users.rated() if self.solver.ratings else users
        weights = padded(users.recency(self.solver.decay).to(self.items.dtype)[users.owners] ** users.lags)
        events = torch.cat([users.items, users.items.new_full((1,), len(self.items))])
        ratings = None if users.ratings is None or not self.solver.ratings else padded(users.ratings)

        def gather(group: Tensor, index: Tensor) -> None:
            item, weight = events[index], weights[index]
            row = embedding(item, self._table)  # (G, L, d)
            weighted = row * weight[:, :, None]
            label = 1.0 if ratings is None else (ratings[index] - self._bias[item])[:, :, None]
            work(group, bmm(weighted.mT, row), (weighted * label).sum(1), weight.sum(1))

        places = torch.arange(len(users.items), device=users.device)
        each_rectangle(gather, places, users.lengths, pad=len(users.items))

    def _vectors(self, outer: Tensor, total: Tensor, weight: Tensor) -> Tensor:
        alpha0 = 0.0 if self.solver.ratings else self.solver.alpha0
        ridge = self.solver.reg * (weight + alpha0 * len(self.items))
        if not self.solver.steps:
            return ridge_solve(outer, alpha0 * self._gram, ridge, total)
        normal = outer + alpha0 * self._gram
        normal.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
        step = 1.0 / normal.flatten(1).norm(dim=1, keepdim=True)  # the norm bounds the largest eigenvalue
        vector = step * total
        for _ in range(self.solver.steps - 1):
            vector = vector + step * (total - bmm(normal, vector[:, :, None])[:, :, 0])
        return vector


class RatingTowerModel(TowerModel):
    """The same, trained on ratings, in runs of versions without item biases: the score is the expected rating."""

    kind: ClassVar[str] = "tower-ratings"

    def predict(self, state: dict[str, Tensor], candidates: Tensor) -> Tensor:
        """Expected ratings (B, C) of candidates (B, C) int64, on the scale of the log."""
        return self.score(state, candidates)
