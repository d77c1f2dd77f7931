"""A run on a node with torch: the algorithm for batches of users, as a simulation computes it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm
from fedrec.audit.card.card import RunCard
from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.federation.hosted import Clip, HostedUsers, Stopwatch, UserSource
from fedrec.federation.spec import RunSpec, parse_spec
from fedrec.plugins import PluginRefused
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import SumQuery
from fedrec.privacy.shares import Shares
from fedrec.run.masked import Layout
from fedrec.wire import WireError
from fedrec_client.consent.policy import Policy
from fedrec_client.consent.terms import RunTerms
from fedrec_client.described_terms import described_terms
from fedrec_client.hosted_data import Find
from fedrec_client.prepared_run import PreparedRun, Words
from fedrec_client.users_noise import UsersNoise


class TorchRun(PreparedRun):
    """A run of one algorithm over hosted users.

    Args:
        spec: the description.
        algorithm: built from it.
        hosted: the users.
        public: whether their data are a public dataset.
        terms: what the description states.
        noise: the users' integers and noise; None in trust model `central`.
    """

    def __init__(
        self,
        spec: RunSpec,
        algorithm: Algorithm,
        hosted: HostedUsers,
        public: bool,
        terms: RunTerms,
        noise: UsersNoise | None,
    ) -> None:
        self.spec, self.algorithm, self.hosted, self.public = spec, algorithm, hosted, public
        self.users, self.identities = hosted.users, _identities(hosted.source)
        self._terms, self._noise = terms, noise

    @property
    def rounds(self) -> int:
        return self.algorithm.rounds

    def queries(self, round_index: int) -> Sequence[SumQuery]:
        return self.algorithm.queries(round_index)

    def described_terms(self) -> RunTerms:
        return self._terms

    def take_card(self, card: RunCard, round_index: int) -> str:
        assert self._noise is not None
        return self._noise.fault(card, round_index)

    def fault(self, shared: Mapping[str, Tensor], round_index: int) -> str:
        return self.algorithm.fault(self._here(shared), round_index)

    def layout(self, round_index: int) -> Layout:
        assert self._noise is not None
        return self._noise.layout(round_index)

    @property
    def shares(self) -> Shares:
        assert self._noise is not None
        return self._noise.discrete.shares

    def sums(
        self, shared: Mapping[str, Tensor], round_index: int, cohort: np.ndarray, give: np.ndarray, *, noise: bool
    ) -> dict[str, Tensor]:
        users, own = self.hosted, self._noise
        given, watch = cohort[give], Stopwatch(users.device)
        hidden = own is not None and own.hidden and noise
        nobody = not hidden and len(given) == 0 < len(cohort)
        computed, clip = cohort if nobody or hidden else given, clip_of(self.spec.private)
        # Where nobody's data enter, the sums are computed all the same: the time shows nothing of the reason.
        integers = None if own is None else own.coined(give) if hidden else own.integers
        sums = users.clipped_sums(self.algorithm, self._here(shared), round_index, computed, clip, watch, integers)
        if nobody:
            sums = {name: torch.zeros_like(total) for name, total in sums.items()}
        return own.added(sums, round_index, len(cohort)) if own is not None and noise else sums

    def _here(self, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.hosted.device) for name, tensor in shared.items()}


def prepared(text: str, find: Find, policy: Policy, words: Words, bounds: Mapping[str, Any]) -> TorchRun:
    """Prepare a run.

    Args:
        text: its description.
        find: returns the users of the text of a `DataRequest`.
        policy: the node's.
        words: makes the secret words of the users' noise.
        bounds: those of `HostedUsers`.

    Raises: WireError.
    """
    try:
        spec = parse_spec(text)
    except InputError as error:
        raise WireError("request", str(error)) from None
    hosted = find(spec.data)
    if hosted.catalogue.digest != spec.catalogue or not isinstance(hosted.catalogue, Catalogue):
        raise WireError("catalogue", exchange.REFUSALS["catalogue"])
    if not (spec.private or hosted.public):
        raise WireError("privacy", exchange.REFUSALS["privacy"])
    users = HostedUsers(cast(UserSource, hosted.source), seed=spec.seed, **bounds)
    try:
        algorithm = spec.build(hosted.catalogue, users.device)
        most = policy.run.rounds
        if spec.noise is not None and algorithm.rounds > most:  # before each round's noise is planned
            raise WireError("terms", f"{algorithm.rounds} rounds: run.rounds allows 1 to {most}")
        noise = None if spec.noise is None else UsersNoise(spec, algorithm, words)
    except PluginRefused as error:
        raise WireError("plugin", str(error)) from None
    except InputError as error:
        raise WireError("request", str(error)) from None
    terms = described_terms(spec, algorithm, policy.run.delta, hosted.public)
    return TorchRun(spec, algorithm, users, hosted.public, terms, noise)


def clip_of(private: bool) -> Clip:
    """Return the clip of a run: each user's whole contribution to the query's norm, or none without privacy."""
    if private:
        return lambda query, contribution: clip_weights(contribution, query.clip_norm)
    return lambda _, contribution: contribution.unit_weights()


def _identities(source: UserSource) -> np.ndarray:
    known = getattr(source, "identities", None)
    return np.arange(len(source)) if known is None else known
