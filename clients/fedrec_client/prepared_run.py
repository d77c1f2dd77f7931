"""What a node makes of a run's description once, for all its rounds."""

from dataclasses import dataclass

import numpy as np

from fedrec.algorithms.base import Algorithm
from fedrec.federation.hosted import HostedUsers
from fedrec.federation.spec import RunSpec
from fedrec.privacy.shares import Shares
from fedrec.run.masked import Layout
from fedrec_client.consent.terms import RunTerms
from fedrec_client.users_noise import UsersNoise


@dataclass(frozen=True)
class PreparedRun:
    """A run, as a node computes it.

    Attributes:
        algorithm: built from the description.
        users: those hosted here.
        spec: the description, as received.
        terms: what the description states, for a node without a gate.
        identities: (users,) int64: the hosted users, by numbers that stay theirs in other runs.
        public: whether their data are a public dataset.
        noise: the users' integers and noise; None in trust model `central`.
    """

    algorithm: Algorithm
    users: HostedUsers
    spec: RunSpec
    terms: RunTerms
    identities: np.ndarray
    public: bool
    noise: UsersNoise | None = None

    def layout(self, round_index: int) -> Layout:
        """Return the vector of a round's sums, where users add the noise."""
        assert self.noise is not None
        return self.noise.layout(round_index)

    @property
    def shares(self) -> Shares:
        """The noise shares, where users add the noise."""
        assert self.noise is not None
        return self.noise.discrete.shares
