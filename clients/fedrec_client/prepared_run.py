"""What a node makes of a run's description once, for all its rounds: with torch (`torch_run`), or without."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fedrec.audit.card.card import RunCard
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.shares import Shares
from fedrec.run.masked import Layout
from fedrec_client.consent.answering import WithoutEvents
from fedrec_client.consent.consent import NONE
from fedrec_client.consent.policy import Policy
from fedrec_client.consent.terms import RunTerms
from fedrec_client.described_run import AskedSum, DescribedRun
from fedrec_client.hosted_data import Find

Words = Callable[[], WordStream]
"""Return fresh secret words. Only a test gives others than `WordStream.fresh`."""


class PreparedRun(ABC):
    """A run, as a node computes it. Sums and shared tensors are of torch, or numpy arrays.

    Attributes:
        spec: the description.
        users: how many are hosted here.
        identities: (users,) int64: the hosted users, by numbers that stay theirs in other runs.
        public: whether their data are a public dataset.
        without: position of a user of the last sums -> why its part is that of a person without events; empty where
            the run does not look.
    """

    spec: DescribedRun
    users: int
    identities: np.ndarray
    public: bool
    without: Mapping[int, WithoutEvents] = NONE

    @property
    def noised(self) -> bool:
        """Whether users add the noise."""
        return self.spec.noise is not None

    @property
    @abstractmethod
    def rounds(self) -> int:
        """Number of rounds."""

    @abstractmethod
    def queries(self, round_index: int) -> Sequence[AskedSum]:
        """Return the sums of a round."""

    def octets(self, round_index: int) -> dict[str, int]:
        """Return the bytes that hold any number of each sum of all users here, by query; none where nothing is clipped.

        A sampled cohort is secret, so its size has no effect. Sums to which users add the noise travel whole.
        """
        if not self.spec.private or self.noised:
            return {}
        return {
            query.name: Lattice.of(query.clip_norm, self.spec.users, query.bits).octets(query.clip_norm, self.users)
            for query in self.queries(round_index)
        }

    @abstractmethod
    def described_terms(self) -> RunTerms:
        """Return the terms that the description states, for a node without a gate."""

    @abstractmethod
    def take_card(self, card: RunCard, round_index: int) -> str:
        """Compare a round with its card, where users add the noise. Returns: what differs; "" where nothing does."""

    @abstractmethod
    def fault(self, shared: Mapping[str, Any], round_index: int) -> str:
        """Return what the node refuses in the state that a server sent; "" for nothing. It is public."""

    @abstractmethod
    def layout(self, round_index: int) -> Layout:
        """Return the vector of a round's sums, where users add the noise; after `take_card`."""

    @property
    @abstractmethod
    def shares(self) -> Shares:
        """The noise shares, where users add the noise; after `take_card`."""

    @abstractmethod
    def sums(
        self, shared: Mapping[str, Any], round_index: int, cohort: np.ndarray, give: np.ndarray, *, noise: bool
    ) -> dict[str, Any]:
        """Return the sums of a round, int64 by query.

        Args:
            shared: the state that the server sent.
            round_index: position of the round, from 0.
            cohort: (C,) int64, ascending: positions of the users in the question.
            give: (C,) bool: whose data may enter. Where nobody's may, the same is computed, and zeros are returned.
            noise: whether the users who add the noise do so here, with their secret coins where the run has some.
        """


Prepare = Callable[[str, Find, Policy], PreparedRun]
"""Prepare a run: from its description's text, what finds the users, and the policy. Raises: WireError."""
