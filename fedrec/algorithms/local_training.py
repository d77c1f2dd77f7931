"""Local training of FedNCF, FedRecon and PFedRec: a device takes a few steps on its own copy of the shared parameters.

Shared: a table with a row for each item, and perhaps a small network. Private: a vector of the user, which stays on
the device. In each round a device (1) rebuilds the private vector from its history by gradient steps with the
shared parameters fixed, (2) takes gradient steps on copies of the rows that its examples touch and of the network, (3)
adds end minus start to the sum. The server takes the mean as a gradient (FedAvg's step, or Adam: Reddi et al. 2021).

Different from the papers, for all alike:

- Devices keep no state between rounds, so the private vector is rebuilt.
- The mean is over users, not over examples: a user's weight would reveal the length of the history.
- A device uses at most `events` of its events a round. Negatives come from everything outside the user's own history.
- The clip is on the user's whole contribution, rows and network together.
- Under privacy the table begins with popularity (`fedrec.algorithms.popularity_start`).
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.base import Shared
from fedrec.algorithms.held_rows import gathered
from fedrec.algorithms.local_examples import Examples, groups
from fedrec.algorithms.popularity_start import TRAINING_NAMES, PopularityStart, standard_log
from fedrec.algorithms.server_optimizer import ServerOptimizer, start_moments
from fedrec.algorithms.stage import Stage
from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel, or_popular
from fedrec.parallel import in_order, run_jobs
from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery, add_rows
from fedrec.settings import Settings

_SCORES_AT_ONCE = 1 << 16  # (user, item) pairs that a network scores at a time
_USERS_AT_ONCE = 64  # their rows stay in a processor's cache over the steps


class LocalConfig(Settings):
    """Settings that algorithms with local training share. Chosen on validation splits of MovieLens-100K and -1M."""

    older_names = TRAINING_NAMES | {"private_rate": "private_learning_rate", "local_rate": "local_learning_rate"}

    dim: int | None = Field(None, ge=1, le=1024)
    """Length of an item's vector; by default 32 (`fedncf`: 16), under privacy 8 or, with many users, 16."""
    rounds: int | None = Field(None, ge=1)
    """Rounds of local training; by default 60 (`fedncf`: 30), under privacy 10 (3)."""
    popularity_share: float | None = Field(None, ge=0, lt=1)
    """Part of the privacy budget for popularity, which the item vectors begin with; by default none without privacy."""
    events: int = Field(60, ge=1)
    """Most events of a history that a device uses in a round, drawn afresh each time."""
    negatives: int = Field(4, ge=1)
    """Local negatives for each event."""
    private_steps: int = Field(10, ge=1)
    """Gradient steps that rebuild what is private."""
    private_learning_rate: float = Field(5.0, gt=0)
    """Their step size on the mean loss of the user's examples."""
    local_steps: int = Field(2, ge=1)
    """Gradient steps on the device's copy of the shared parameters."""
    local_learning_rate: float = Field(1.0, gt=0)
    """Their step size."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """The server's step along the mean change; `sgd` with a learning rate of 1 is federated averaging."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size of the server; left open, it follows from privacy (`settings` in summary.json contains the value)."""
    clip_norm: float = Field(0.05, gt=0)
    """L2 clip on a user's whole change of the shared parameters."""
    init_std: float = Field(0.3, gt=0)
    """Initial item entries are normal with standard deviation init_std / sqrt(dim)."""


class LocalModel(ReleasedModel):
    """table (items, w) and network (K,); a device rebuilds what is private from its history. Knows no other user.
    A user without a history gets the popularity (items,)."""

    in_double = True

    def __init__(self, table: Tensor, network: Tensor, popularity: Tensor, manifest: Mapping[str, Any]) -> None:
        """manifest: events, negatives; steps and rate for what is private; own_steps and own_rate for the device's own
        copy of the item rows, which it ranks by (0 steps: by the shared ones)."""
        self.table, self.network, self.popularity, self.settings = table, network, popularity, dict(manifest)

    @abstractmethod
    def scores(self, private: Tensor, network: Tensor, view: Tensor) -> Tensor:
        """Return scores (B, n) of private vectors (B, p) under networks (B, K) with the items' views (B or 1, n, v)."""

    def view(self, network: Tensor, rows: Tensor) -> Tensor:
        """Return the part of `scores` that depends on item rows (B, n, w) and networks (B, K) alone."""
        return rows

    def pair_scores(self, private: Tensor, network: Tensor, rows: Tensor) -> Tensor:
        """Scores (B, n) of private vectors (B, p) under networks (B, K) with item rows (B, n, w)."""
        return self.scores(private, network, self.view(network, rows))

    @property
    @abstractmethod
    def private_size(self) -> int:
        """Length p of a private vector."""

    def rebuild(self, examples: Examples) -> Tensor:
        """Return the private vectors (B, p) after gradient steps from zero."""
        view = self.view(self.network[None], examples.rows(self.table))
        private = view.new_zeros(len(view), self.private_size)
        network = self.network.expand(len(view), -1)
        for _ in range(self.settings["steps"]):
            private.requires_grad_()
            scores = self.scores(private, network, view)
            (slope,) = torch.autograd.grad(scores, private, examples.error(scores.detach()))
            private = private.detach().sub_(slope, alpha=self.settings["rate"])
        return private

    def tune(self, private: Tensor, examples: Examples, steps: int, rate: float) -> tuple[Tensor, Tensor]:
        """Rows (B, m, w) at the examples' items and networks (B, K) after steps on copies of what is shared."""
        rows, network = examples.rows(self.table), self.network.repeat(len(private), 1)
        for _ in range(steps):
            rows, network = rows.detach().requires_grad_(), network.detach().requires_grad_()
            scores = self.pair_scores(private, network, rows)
            error = examples.error(scores.detach())
            slopes = torch.autograd.grad(scores, (rows, network), error, materialize_grads=True)
            rows, network = (
                old.detach().sub_(slope, alpha=rate) for old, slope in zip((rows, network), slopes, strict=True)
            )
        return rows, network

    def own_scores(self, private: Tensor, examples: Examples) -> Tensor:
        """Return the scores (B, m) of the examples' items under the device's own copy of their rows."""
        rows, network = self.tune(private, examples, self.settings["own_steps"], self.settings["own_rate"])
        return self.pair_scores(private, network, rows)

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """private (B, p), and what folding in needs: items (B, L), -1 past the end, keys (B,). With a copy of the rows
        of its own also own_items and own_scores (B, m)."""
        items = users.items.new_full((len(users), int(users.lengths.max()) if len(users) else 0), -1)
        items[torch.arange(items.shape[1], device=items.device) < users.lengths[:, None]] = users.items
        examples = Examples.draw(users, self.settings["events"], self.settings["negatives"], 0)
        private = self.table.new_zeros(len(users), self.private_size)
        own_scores = self.table.new_zeros(examples.items.shape)

        def work(some: Tensor, width: int) -> None:
            mine = examples.take(some, width)
            vectors = self.rebuild(mine)
            private[some] = vectors
            if self.settings["own_steps"]:
                # Not private[some]: to autograd, what another job writes into the same tensor changes this part, too.
                found = self.own_scores(vectors, mine)[:, : own_scores.shape[1]]
                own_scores[some, : found.shape[1]] = found

        run_jobs(work, groups([examples], _USERS_AT_ONCE), users.device)
        state = {"private": private, "items": items, "keys": users.keys}
        if self.settings["own_steps"]:
            state |= {"own_items": examples.items, "own_scores": own_scores}
        others = {"avoid": users.avoid, "disliked": users.disliked}
        return state | {name: value for name, value in others.items() if value is not None}

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        lengths = (state["items"] >= 0).sum(1)
        wider = torch.cat([state["items"], state["items"].new_full((len(items), 1), -1)], dim=1)
        wider.scatter_(1, lengths[:, None], items[:, None])
        history = wider[wider >= 0]
        avoid, disliked = state.get("avoid"), state.get("disliked")
        users = UserBatch(history, lengths + 1, len(self.table), state["keys"], avoid=avoid, disliked=disliked)
        return self.fit(users)

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        silent = ~(state["items"] >= 0).any(1)
        return or_popular(self._score(state, candidates), silent, self.popularity, candidates)

    def _score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        private = state["private"]
        network = self.network.expand(len(private), -1)
        if candidates is not None and "own_items" in state:
            return self._score(state).gather(1, candidates)
        if candidates is not None:
            return self.pair_scores(private, network, self.table[candidates])
        parts = self.table.split(max(1, _SCORES_AT_ONCE // max(1, len(private))))
        views = (self.view(self.network[None], part[None]) for part in parts)
        scores = torch.cat([self.scores(private, network, view) for view in views], 1)
        if "own_items" in state:
            owner, place = (state["own_items"] >= 0).nonzero(as_tuple=True)
            scores[owner, state["own_items"][owner, place]] = state["own_scores"][owner, place]
        return scores

    def item_rows(self, items: Tensor) -> Tensor:
        return self.table[items]

    def tensors(self) -> dict[str, Tensor]:
        return {"table": self.table, "network": self.network, "popularity": self.popularity}

    def manifest(self) -> dict[str, Any]:
        return self.settings

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "LocalModel":
        return cls(tensors["table"], tensors["network"], tensors["popularity"], manifest)


@dataclass(frozen=True)
class Change:
    """What some users change of the table: users (b,), positions in the batch; items (b, m), each once a user, -1 for
    none; rows (b, m, w), zero where there is no item."""

    users: Tensor
    items: Tensor
    rows: Tensor


class LocalChange(Contribution):
    """Changes of the table, each user's in one of `parts`, and of the network (B, K)."""

    def __init__(self, parts: Sequence[Change], network: Tensor, shape: tuple[int, int]) -> None:
        """shape: of the table, (items, w)."""
        self.parts, self.network, self._table = parts, network, shape

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._table[0] * self._table[1] + self.network.shape[1],)

    def norms(self) -> Tensor:
        squares = self.network.double().square().sum(1)
        for part in self.parts:
            squares[part.users] += part.rows.double().square().sum((1, 2))
        return squares.sqrt()

    def unit_weights(self) -> Tensor:
        return torch.ones(len(self.network), dtype=torch.float64, device=self.network.device)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        used, (items, width) = weights != 0, self._table
        table = torch.zeros(items + 1, width, dtype=torch.float64, device=total.device)  # the last row: no item
        for part in self.parts:
            some = used[part.users]
            rows = lattice.whole(part.rows[some].double() * weights[part.users[some], None, None].double())
            table.index_add_(0, part.items[some].flatten() % (items + 1), rows.flatten(0, 1))
        flat, size = total.view(-1), items * width
        add_whole(flat[:size], table[:-1].flatten())
        add_rows(flat[size:], self.network, weights, lattice)

    def dense(self, row: int) -> Tensor:
        weights = self.network.new_zeros(len(self.network))
        weights[row] = 1.0
        return self.weighted_sum(weights)


class LocalTraining(PopularityStart):
    """The rounds of the module. A subclass provides the model, and the network where it has one."""

    halves: ClassVar[bool] = False
    """True: what is private is rebuilt on one half of the examples and the shared parameters learn from the other."""
    open_rounds = (60, 10)
    open_learning_rate = (0.03, 0.1)
    config: LocalConfig

    @abstractmethod
    def model(self) -> type[LocalModel]:
        """Return the class of the released model."""

    @property
    def width(self) -> int:
        """Length of an item's row in the table."""
        return self.dim

    def network(self) -> Tensor:
        """The network's initial parameters (K,); none by default."""
        return torch.zeros(0, device=self.facts.device)

    def own_steps(self) -> int:
        """Steps on the device's own copy of the item rows before it ranks by them; 0 for the shared rows."""
        return 0

    def initial(self) -> Shared:
        index = torch.arange(len(self.facts.catalogue), device=self.facts.device)
        entries = draws.normal(draws.keys(self.facts.seed, index), 0, self.width)
        table = entries * (self.config.init_std / self.dim**0.5)
        parameters = torch.cat([table.flatten(), self.network()])
        start = {"parameters": parameters, "popularity": self.unknown_popularity()}
        return start | start_moments(parameters)

    def begin_from(self, shared: Shared, popularity: Tensor) -> Shared:
        parameters = shared["parameters"].clone()
        begun = shared | {"parameters": parameters}
        self.table(begun)[:, 0] = standard_log(popularity)
        return begun

    def table(self, shared: Shared) -> Tensor:
        return shared["parameters"][: len(self.facts.catalogue) * self.width].view(-1, self.width)

    def training(self, share: float) -> Stage:
        size = len(self.facts.catalogue) * self.width + len(self.network())
        query = SumQuery("change", (size,), self.config.clip_norm, share)
        return Stage(self.training_rounds, (query,), self._change, self._descend)

    def _change(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        config, model = self.config, self._model(shared, users.items.new_zeros(0))
        parts = Examples.parts(users, config.events, config.negatives, 1 + step, 2 if self.halves else 1)
        support, query = parts[0], parts[-1]
        network = model.network.new_empty(len(users), len(model.network))

        def work(group: tuple[Tensor, int]) -> Change:
            some, mine = group[0], query.take(*group)
            private = model.rebuild(support.take(*group))
            rows, tuned = model.tune(private, mine, config.local_steps, config.local_learning_rate)
            network[some] = tuned - model.network
            return Change(some, mine.items, rows.sub_(mine.rows(model.table))[:, :, : self.width])

        changes = list(in_order(work, groups(parts, _USERS_AT_ONCE), users.device))
        return {"change": LocalChange(changes, network, (len(model.table), self.width))}

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        total, optimizer = sums["change"], ServerOptimizer(self.config.optimizer, self.learning_rate)
        cohort = self.facts.expected_cohort
        gradient = -total.value / cohort
        rows = len(self.facts.catalogue) * self.width
        blocks = (rows, len(gradient) - rows) if total.noise_std > 0 else ()
        parameters, moments = optimizer.step(shared["parameters"], gradient, shared, step, blocks)
        return shared | {"parameters": parameters, **moments} | gathered(shared, gradient, total.noise_std / cohort)

    def release(self, shared: Shared) -> LocalModel:
        network = shared["parameters"][len(self.facts.catalogue) * self.width :]
        parameters = torch.cat([self.released_table(shared).flatten(), network])
        return self._model(shared | {"parameters": parameters}, shared["popularity"])

    def _model(self, shared: Shared, popularity: Tensor) -> LocalModel:
        rows = len(self.facts.catalogue) * self.width
        table = shared["parameters"][:rows].view(-1, self.width)
        config = self.config
        manifest = {
            "events": config.events,
            "negatives": config.negatives,
            "steps": config.private_steps,
            "rate": config.private_learning_rate,
            "own_steps": self.own_steps(),
            "own_rate": config.local_learning_rate,
        }
        return self.model()(table.clone(), shared["parameters"][rows:].clone(), popularity, manifest)
