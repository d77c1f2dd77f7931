"""The sums of `kernel-rank` that follow from its settings and public facts, without torch: server and device share it.

See `fedrec.algorithms.kernel_rank` for the stages.
"""

from dataclasses import dataclass
from typing import Protocol

TUNED_USERS = 6040  # of MovieLens-1M, on whose validation split the choices below were made
NETWORK_STRENGTH = 1.3  # from here on hidden units gain more than their noise costs
USERS_PER_WEIGHT = 5  # with fewer, hidden units learn users by heart, with privacy or without
UNITS = 16  # hidden units where they pay
PAIRS_STRENGTH = 0.07  # below, the noise of the co-occurrence exceeds its signal (ML-100K validation split)
FIRM_STRENGTH = 0.7191  # from here on popularity needs its least share; below, its noise changes lists
MOST_ASKED = 2  # times the size of a co-occurrence that devices may upload so that popularity can be asked again
RELEASED_KERNELS = 3
"""Kernels of the co-occurrence: its lift for all items, and for head items what is left of it, and its cosine."""
GRADIENT_CLIP = 1.0
FEWEST = 1  # events that a history must have before an item counts as a training target
OR_POPULARITY = " or popularity"
"""End of the name of a query that may ask for popularity."""
AGAIN = "again"
"""Name in the shared state of the choice, a number: the rounds that ask for popularity are those of this grade or a
lower one."""
NEVER, PAIRS, ALL = 0, 1, 2
"""Choices: no round asks again; the rest of the co-occurrence does; the rounds of weights do too."""
DECIDED = 2
"""The first round that may ask for popularity again."""
NOT_OFFERED = "the server asks for popularity again, which the plan does not offer"


class Open(Protocol):
    """Settings that may be left open."""

    head_items: int | None
    rounds: int | None
    hidden: int | None
    cooccurrence: bool | None


@dataclass(frozen=True)
class KernelRankPlan:
    """The sums of a run.

    Attributes:
        head_items: items of the co-occurrence.
        cooccurrence: whether it is asked for.
        hidden: units of the network, 0 for a linear head.
        rounds: of descent on the weights.
        kernels: of the public content.
        own: features that are not kernels.
        decays: features of each kernel.
        again: whether some rounds may ask for popularity instead.
    """

    head_items: int
    cooccurrence: bool
    hidden: int
    rounds: int
    kernels: int
    own: int
    decays: int
    again: bool

    @classmethod
    def of(
        cls, settings: Open, *, items: int, users: int, mu: float, kernels: int, own: int, decays: int
    ) -> "KernelRankPlan":
        """Make the plan of a run.

        Args:
            settings: of the algorithm.
            items: size of the catalogue.
            users: size of the population.
            mu: total signal-to-noise of all releases, infinite without privacy.
            kernels: of the public content.
            own: features that are not kernels.
            decays: features of each kernel.
        """
        strength, private = mu * users / TUNED_USERS, mu < float("inf")
        head_items = min(items, settings.head_items or default_head(users, mu))
        wanted = strength >= PAIRS_STRENGTH if settings.cooccurrence is None else settings.cooccurrence
        cooccurrence = wanted and head_items > 1
        count = own + (kernels + (RELEASED_KERNELS if cooccurrence else 0)) * decays
        network = strength >= NETWORK_STRENGTH and users >= USERS_PER_WEIGHT * UNITS * count
        network = network and not (private and not kernels)  # there, each weight must show evidence
        hidden = settings.hidden if settings.hidden is not None else UNITS if network else 0
        rounds = 80 if hidden else 40 if kernels or cooccurrence else 0
        rounds = rounds if settings.rounds is None else settings.rounds
        offered = private and cooccurrence and settings.cooccurrence is None and strength < FIRM_STRENGTH
        longest = max(items, parameter_count(count, hidden))
        again = offered and rounds * longest <= MOST_ASKED * _pairs(head_items)
        return cls(head_items, cooccurrence, hidden, rounds, kernels, own, decays, again)

    def features(self, *, cooccurrence: bool) -> int:
        """Number of features, with the kernels of the co-occurrence or without."""
        return self.own + (self.kernels + (RELEASED_KERNELS if cooccurrence else 0)) * self.decays

    @property
    def parameters(self) -> int:
        """Entries of a gradient."""
        return parameter_count(self.features(cooccurrence=self.cooccurrence), self.hidden)

    @property
    def pairs(self) -> int:
        """Entries of the co-occurrence."""
        return _pairs(self.head_items)


def _pairs(head: int) -> int:
    """Unordered pairs of `head` items."""
    return head * (head - 1) // 2


def parameter_count(features: int, hidden: int) -> int:
    """Weights of so many features, with a network of `hidden` units: a row, a bias and an output for each unit."""
    return features + hidden * (features + 2)


def default_head(users: int, mu: float) -> int:
    """Number of head items of the co-occurrence: the signal of a pair grows with users and mu."""
    factor = 10.3 if mu <= 0.27 else 19.3 if mu < 10 else 32.0
    return max(50, round(factor * users**0.5))


def fault_of_choice(choice: float | None, round_index: int, decided: int) -> str:
    """Return what a device refuses in the server's choice for a round; "" for nothing.

    Args:
        choice: the number in the shared state; None where there is none, or more than one.
        round_index: position of the round, from 0.
        decided: the first round that may ask for popularity again.
    """
    if choice not in (NEVER, PAIRS, ALL):
        return "the server's choice between a sum and popularity is missing, or is none of those that the plan has"
    if choice != NEVER and round_index < decided:
        return f"the server asks for popularity again in a round before {decided + 1}, where the plan does not"
    return ""
