"""What FedNCF, FedRecon and PFedRec have in common: a device takes a few steps on its own copy of what is shared.

Shared: a table with a row for each item, and perhaps a small network. Private: a vector of the user, which is nobody
else's business. In each round a device (1) rebuilds the private vector from its history by gradient steps with the
shared parameters fixed, (2) takes gradient steps on copies of the rows that its examples touch and of the network, (3)
adds end minus start to the sum. The server takes the mean as a gradient (FedAvg's step, or Adam: Reddi et al. 2021).

Different from the papers, for all alike: devices keep no state between rounds, so what is private is rebuilt; the mean
is over users, not over examples (a user's weight would tell the length of the history); a device uses at most `events`
of its events a round; training negatives come from everything outside the user's own history; and the clip is on the
user's whole contribution, rows and network together.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from fedrec import draws
from fedrec.algorithms import server_adam
from fedrec.algorithms.base import Algorithm, ReleasedModel, Shared
from fedrec.data.users import UserBatch
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings

_EVENT, _NEGATIVE = 0x80, 0x81
_SCORES_AT_ONCE = 1 << 16  # (user, item) pairs that a network scores at a time


class LocalConfig(Settings):
    """Settings that algorithms with local training share. Chosen on validation splits of MovieLens-100K and -1M."""

    dim: int = Field(32, ge=1, le=1024)
    """Length of an item's vector."""
    rounds: int = Field(60, ge=1)
    """Rounds of local training."""
    events: int = Field(60, ge=1)
    """Most events of a history that a device uses in a round, drawn afresh each time."""
    negatives: int = Field(4, ge=1)
    """Local negatives for each event."""
    private_steps: int = Field(10, ge=1)
    """Gradient steps that rebuild what is private."""
    private_rate: float = Field(5.0, gt=0)
    """Their step size on the mean loss of the user's examples."""
    local_steps: int = Field(2, ge=1)
    """Gradient steps on the device's copy of the shared parameters."""
    local_rate: float = Field(1.0, gt=0)
    """Their step size."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """What the server does with the mean change; `sgd` with a rate of 1 is federated averaging."""
    rate: float = Field(0.03, gt=0)
    """Step size of the server."""
    clip: float = Field(0.1, gt=0)
    """L2 clip on a user's whole change of the shared parameters."""
    init_std: float = Field(0.3, gt=0)
    """Initial item entries are normal with standard deviation init_std / sqrt(dim)."""


@dataclass(frozen=True)
class Examples:
    """items: (B, T, 1 + N) int64, an event and its negatives; valid: (B, T) bool, which events exist."""

    items: Tensor
    valid: Tensor

    @classmethod
    def draw(cls, users: UserBatch, events: int, negatives: int, round: int) -> "Examples":
        """Up to `events` events of each user in random order, each with uniform negatives outside the history."""
        seeds = draws.mix(users.keys + round)
        place = torch.arange(len(users.items), device=users.device) - users.offsets[:-1][users.owners]
        value = draws.uniform(draws.mix(seeds[users.owners] + place), _EVENT, 1)[:, 0]
        order = torch.argsort(users.owners + value)  # within each user, shuffled
        chosen = place < events  # and `place` is also the position in the shuffled history
        owner, slot = users.owners[chosen], place[chosen]
        items = torch.zeros(len(users), events, 1 + negatives, dtype=torch.int64, device=users.device)
        items[owner, slot, 0] = users.items[order][chosen]
        drawn = users.negatives(events * negatives, _NEGATIVE + (round << 8))
        items[:, :, 1:] = drawn.view(len(users), events, negatives)
        return cls(items, torch.arange(events, device=users.device) < users.lengths[:, None])

    def every_second(self, first: int) -> "Examples":
        """Half of the examples: those at positions first, first + 2, ... of the random order."""
        return Examples(self.items[:, first::2], self.valid[:, first::2])

    def loss(self, scores: Tensor) -> Tensor:
        """Sum over users of each one's mean binary cross-entropy; scores (B, T, 1 + N)."""
        losses = softplus(scores).sum(2) - scores[:, :, 0]
        count = self.valid.sum(1, keepdim=True).clamp(min=1) * scores.shape[2]
        return (torch.where(self.valid, losses, 0.0) / count).sum()


class LocalModel(ReleasedModel):
    """table (items, w) and network (K,); a device rebuilds what is private from its history. Knows no other user."""

    def __init__(self, table: Tensor, network: Tensor, manifest: Mapping[str, Any]) -> None:
        self.table, self.network = table, network
        self.events, self.negatives = int(manifest["events"]), int(manifest["negatives"])
        self.steps, self.rate = int(manifest["steps"]), float(manifest["rate"])

    @abstractmethod
    def pair_scores(self, private: Tensor, network: Tensor, rows: Tensor) -> Tensor:
        """Scores (B, n) of private vectors (B, p) under networks (B, K) with item rows (B, n, w)."""

    @property
    @abstractmethod
    def private_size(self) -> int:
        """Length p of a private vector."""

    def rebuild(self, examples: Examples) -> Tensor:
        """The private vectors (B, p) after gradient steps from zero."""
        chosen = examples.items.flatten(1)
        rows, network = self.table[chosen], self.network.expand(len(chosen), -1)
        private = rows.new_zeros(len(chosen), self.private_size)
        for _ in range(self.steps):
            private.requires_grad_()
            scores = self.pair_scores(private, network, rows).view(examples.items.shape)
            (slope,) = torch.autograd.grad(examples.loss(scores), private)
            private = private.detach() - self.rate * slope
        return private

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """private (B, p), and what folding in needs: items (B, L), -1 past the end, keys (B,)."""
        items = users.items.new_full((len(users), int(users.lengths.max()) if len(users) else 0), -1)
        items[torch.arange(items.shape[1], device=items.device) < users.lengths[:, None]] = users.items
        private = self.rebuild(Examples.draw(users, self.events, self.negatives, 0))
        avoid = {} if users.avoid is None else {"avoid": users.avoid}
        return {"private": private, "items": items, "keys": users.keys} | avoid

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        lengths = (state["items"] >= 0).sum(1)
        wider = torch.cat([state["items"], state["items"].new_full((len(items), 1), -1)], dim=1)
        wider.scatter_(1, lengths[:, None], items[:, None])
        history = wider[wider >= 0]
        return self.fit(UserBatch(history, lengths + 1, len(self.table), state["keys"], avoid=state.get("avoid")))

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        private = state["private"]
        network = self.network.expand(len(private), -1)
        if candidates is not None:
            return self.pair_scores(private, network, self.table[candidates])
        parts = self.table.split(max(1, _SCORES_AT_ONCE // max(1, len(private))))
        return torch.cat([self.pair_scores(private, network, part.expand(len(private), -1, -1)) for part in parts], 1)

    def tensors(self) -> dict[str, Tensor]:
        return {"table": self.table, "network": self.network}

    def manifest(self) -> dict[str, Any]:
        return {"events": self.events, "negatives": self.negatives, "steps": self.steps, "rate": self.rate}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "LocalModel":
        return cls(tensors["table"], tensors["network"], manifest)


class LocalChange(Contribution):
    """Changes of table rows (B, m, w) at items (B, m), each item once a user (-1: none), and of the network (B, K)."""

    def __init__(self, items: Tensor, rows: Tensor, network: Tensor, n_items: int) -> None:
        self.items, self.rows, self.network, self.n_items = items, rows, network, n_items

    def norms(self) -> Tensor:
        squares = self.rows.double().square().sum((1, 2)) + self.network.double().square().sum(1)
        return squares.sqrt()

    def weighted_sum(self, weights: Tensor) -> Tensor:
        used = weights != 0
        weight = weights[used].to(self.rows.dtype)
        table = self.rows.new_zeros(self.n_items + 1, self.rows.shape[2])  # the last row takes what is no item
        items = self.items[used].flatten() % (self.n_items + 1)
        table.index_add_(0, items, (self.rows[used] * weight[:, None, None]).flatten(0, 1))
        return torch.cat([table[:-1].flatten(), weight @ self.network[used]])

    def dense(self, row: int) -> Tensor:
        weights = self.rows.new_zeros(len(self.rows))
        weights[row] = 1.0
        return self.weighted_sum(weights)


class LocalTraining(Algorithm):
    """One round as in the module; a subclass gives the model, and the network where it has one."""

    halves: ClassVar[bool] = False
    """True: what is private is rebuilt on one half of the examples and the shared parameters learn from the other."""
    config: LocalConfig

    @property
    def rounds(self) -> int:
        return self.config.rounds

    @abstractmethod
    def model(self) -> type[LocalModel]:
        """What is released."""

    @property
    def width(self) -> int:
        """Length of an item's row in the table."""
        return self.config.dim

    def network(self) -> Tensor:
        """The network's initial parameters (K,); none by default."""
        return torch.zeros(0, device=self.setting.device)

    def initial(self) -> Shared:
        index = torch.arange(len(self.setting.catalogue), device=self.setting.device)
        entries = draws.normal(draws.keys(self.setting.seed, index), 0, self.width)
        table = entries * (self.config.init_std / self.config.dim**0.5)
        parameters = torch.cat([table.flatten(), self.network()])
        return {"parameters": parameters} | server_adam.start(parameters)

    def queries(self, round: int) -> tuple[SumQuery, ...]:
        size = len(self.setting.catalogue) * self.width + len(self.network())
        return (SumQuery("change", (size,), self.config.clip, 1 / self.config.rounds),)

    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        config, model = self.config, self.release(shared)
        examples = Examples.draw(users, config.events, config.negatives, 1 + round)
        support = examples.every_second(0) if self.halves else examples
        query = examples.every_second(1) if self.halves else examples
        private = model.rebuild(support)
        items, place = _own_rows(query)
        start = rows = model.table[items.clamp(min=0)]
        network = model.network.repeat(len(users), 1)
        for _ in range(config.local_steps):
            rows, network = rows.detach().requires_grad_(), network.detach().requires_grad_()
            touched = rows.gather(1, place[:, :, None].expand(-1, -1, rows.shape[2]))
            scores = model.pair_scores(private, network, touched).view(query.items.shape)
            by_row, by_network = torch.autograd.grad(query.loss(scores), (rows, network), materialize_grads=True)
            rows, network = rows - config.local_rate * by_row, network - config.local_rate * by_network
        change = LocalChange(items, rows.detach() - start, network.detach() - model.network, len(model.table))
        return {"change": change}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        gradient = -sums["change"].value / self.setting.expected_cohort
        if self.config.optimiser == "sgd":
            return shared | {"parameters": shared["parameters"] - self.config.rate * gradient}
        parameters, moments = server_adam.step(shared["parameters"], gradient, shared, round, self.config.rate)
        return {"parameters": parameters, **moments}

    def release(self, shared: Shared) -> LocalModel:
        rows = len(self.setting.catalogue) * self.width
        table = shared["parameters"][:rows].view(-1, self.width)
        config = self.config
        manifest = {
            "events": config.events,
            "negatives": config.negatives,
            "steps": config.private_steps,
            "rate": config.private_rate,
        }
        return self.model()(table.clone(), shared["parameters"][rows:].clone(), manifest)


def _own_rows(examples: Examples) -> tuple[Tensor, Tensor]:
    """(items (B, m), each once a user and -1 for the rest; place (B, m) of each example's item among them)."""
    chosen = examples.items.flatten(1)
    ordered = chosen.sort(dim=1)
    new = torch.ones_like(chosen)
    new[:, 1:] = (ordered.values[:, 1:] != ordered.values[:, :-1]).long()
    rank = new.cumsum(1) - 1
    items = torch.full_like(chosen, -1).scatter_(1, rank, ordered.values)
    return items, torch.empty_like(chosen).scatter_(1, ordered.indices, rank)
