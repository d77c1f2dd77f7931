"""The Algorithm interface: four functions that know nothing of noise, transport or accounting.

An algorithm is written once, for a batch of users. `queries` says which sums a round needs, `contribute` what each
user of a batch would add, `update` what the server does with the (already private) sums, `release` what a device
gets. The clip, the noise and the ledger stand outside, in `fedrec.privacy`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.catalogue import Catalogue
from fedrec.data.users import UserBatch
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings

Shared = dict[str, Tensor]
"""The public state that the server holds and devices download: named tensors, nothing else."""


@dataclass(frozen=True)
class Setting:
    """What is publicly known before a run starts.

    users: size of the population (given, never counted from logs). expected_cohort: users x sampling probability,
    the fixed denominator of every average. mu: total signal-to-noise of all releases (Gaussian DP; infinite
    without privacy); post-processing may depend on it, since it follows from the public budget alone.
    """

    catalogue: Catalogue
    users: int
    expected_cohort: float
    mu: float = math.inf
    seed: int = 0
    device: torch.device = torch.device("cpu")

    @property
    def private(self) -> bool:
        """Whether sums come with noise."""
        return math.isfinite(self.mu)

    @property
    def strength(self) -> float:
        """mu x users: what a sum tells grows with the users and its noise does not, so a budget goes further with more.

        Public, for settings that are left open; infinite without privacy.
        """
        return self.mu * self.users


class ReleasedModel(ABC):
    """What a device receives, with the local solver: fit a private state, fold in an event, rank. Never sends."""

    kind: ClassVar[str]
    made_by: str = ""
    """The algorithm that released it, where several release models of this kind."""

    @property
    def called(self) -> str:
        """What messages call it: the name of its algorithm."""
        return self.made_by or self.kind

    def by(self, algorithm: str) -> Self:
        """This model, noted as released by `algorithm`."""
        self.made_by = algorithm
        return self

    @abstractmethod
    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """The users' private states, every tensor with leading dimension B. They stay on the device."""

    @abstractmethod
    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        """Scores (B, items), or (B, C) for candidates (B, C) int64. Higher is better."""

    @abstractmethod
    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        """The states after one more event each; items (B,) int64. Equals `fit` on the longer history."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that `restore` needs, as named tensors (safetensors holds them; nothing is pickled)."""

    def manifest(self) -> dict[str, Any]:
        """JSON-able settings that `restore` needs beside the tensors."""
        return {}

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "ReleasedModel":
        """The inverse of `tensors` and `manifest`."""

    def to(self, device: torch.device | str) -> "ReleasedModel":
        """The same model with its tensors on `device`."""
        return self.restore({name: tensor.to(device) for name, tensor in self.tensors().items()}, self.manifest())

    def recommend(self, users: UserBatch, k: int, *, seen: bool = False) -> tuple[Tensor, Tensor]:
        """Each user's k best items and their scores, (B, k) each; items of the history are left out unless `seen`,
        and dislikes always.

        Where fewer than k are left, the places after them hold item -1 and score -inf. Equal scores come in a hashed
        order of the items, the same for everybody and on every device, and never in that of the catalogue.
        """
        scores = self.score(self.fit(users))
        if not seen:
            scores[users.owners, users.items] = -math.inf
        if users.disliked is not None:
            rows, places = (users.disliked >= 0).nonzero(as_tuple=True)
            scores[rows, users.disliked[rows, places]] = -math.inf
        values, items = _largest(scores, min(k, scores.shape[1]))
        return items.masked_fill(values == -math.inf, -1), values


def or_popular(scores: Tensor, silent: Tensor, popularity: Tensor, candidates: Tensor | None) -> Tensor:
    """Scores (B, C) in which `silent` users (B,) bool, of whose taste nothing is known, get the popularity instead.

    Args:
        scores: of candidates (B, C), or of every item.
        silent: (B,) bool, a function of each user's own state.
        popularity: (items,), released or public.
        candidates: (B, C) int64 item positions; None for every item.
    """
    if not bool(silent.any()):
        return scores
    fallback = popularity[None] if candidates is None else popularity[candidates]
    return torch.where(silent[:, None], fallback.to(scores.dtype), scores)


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row (B, items), descending, and where they are, (B, k) each; ties by a hash."""
    values, places = scores.topk(k, dim=1)
    if not k:
        return values, places
    edge = values[:, -1:]
    tied = (values[:, 1:] == values[:, :-1]).any(1) | ((scores == edge).sum(1) > (values == edge).sum(1))
    rows = tied.nonzero()[:, 0]
    if len(rows):
        order = draws.keys(0, torch.arange(scores.shape[1], device=scores.device)).argsort()
        turned = scores[rows][:, order].sort(dim=1, descending=True, stable=True)
        places[rows] = order[turned.indices[:, :k]]
    return values, places


class Algorithm(ABC):
    """One federated algorithm. A new one is one new file in this folder; its contract test is inherited."""

    name: ClassVar[str]
    Config: ClassVar[type[Settings]]

    def __init__(self, config: Any, setting: Setting) -> None:
        self.config = config
        self.setting = setting

    @property
    def chosen(self) -> dict[str, Any]:
        """Settings that `config` leaves open and what was chosen for them, from public facts alone (JSON-able)."""
        return {}

    @property
    @abstractmethod
    def rounds(self) -> int:
        """How many rounds the algorithm asks for (0: nothing is learned from users)."""

    @property
    def preparation(self) -> int:
        """Rounds at the start that release what the later ones build on; before they end there is no model to judge."""
        return 0

    @abstractmethod
    def initial(self) -> Shared:
        """The shared state before the first round."""

    @abstractmethod
    def queries(self, round: int) -> tuple[SumQuery, ...]:
        """The sums of round 0 <= round < rounds. A function of the setting alone, so all can be priced ahead."""

    @abstractmethod
    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        """What each user of the batch would add to each query of the round. Users never mix."""

    @property
    def server_only(self) -> frozenset[str]:
        """Names in the shared state that `contribute` never reads: they need not travel."""
        return frozenset()

    def for_devices(self, shared: Shared, round: int) -> Shared:
        """What of the shared state a device needs for `contribute` in that round."""
        return {name: tensor for name, tensor in shared.items() if name not in self.server_only}

    @abstractmethod
    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        """The next shared state. `sums` are private already; divide by `setting.expected_cohort`, never by a count."""

    @abstractmethod
    def release(self, shared: Shared) -> ReleasedModel:
        """What devices get."""

    def stop(self, shared: Shared) -> str | None:
        """Why to end the run before its next round, None to go on. Asked after each round but the last.

        Depends on the shared state and public settings alone, so that stopping is post-processing of private sums.
        The rounds that are left are charged all the same: see `fedrec.evaluation.stopping`.
        """
        return None
