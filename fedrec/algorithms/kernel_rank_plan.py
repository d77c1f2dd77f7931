"""The sums of `kernel-rank` that follow from its settings and public facts, without torch: server and device share it.

See `fedrec.algorithms.kernel_rank` for the stages.
"""

import math
from dataclasses import dataclass
from typing import Protocol

TUNED_USERS = 6040  # of MovieLens-1M, on whose validation split the choices below were made
NETWORK_STRENGTH = 1.3  # from here on hidden units gain more than their noise costs
USERS_PER_WEIGHT = 5  # with fewer, hidden units learn users by heart, with privacy or without
UNITS = 16  # hidden units where they pay
WEIGHING_USERS = 50_000  # teach a few hundred weights as well as any more of them do
WEIGHING_STRENGTH = 5.0  # of the users who teach the weights: noise on their mean is below half of ML-1M's at epsilon 8
MOST_HEAD, MOST_BARE_HEAD = 4000, 6000  # with privacy and without: 8 million pairs are a message of 32 MB
SENT_BITS = 14  # steps of the clip of pairs and weights under privacy, as a power of two: see docs/benchmarks.md
PAIR_NOISE = 200.0  # numbers of a sketch of pairs over users * mu^2: all sampling in one is .5 % of its noise variance
LEAST_SAVED = 2.0  # times fewer numbers than pairs, below which a sketch is not worth its errors
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
    weighing_users: int | None
    pair_numbers: int | None


@dataclass(frozen=True)
class KernelRankPlan:
    """The sums of a run.

    Attributes:
        head_items: items of the co-occurrence.
        cooccurrence: whether it is asked for.
        pair_numbers: entries of its sum: all pairs of the head, or those of a sketch.
        hidden: units of the network, 0 for a linear head.
        rounds: of descent on the weights.
        kernels: of the public content, and of mean ratings.
        own: features that are not kernels.
        each: features of each kernel.
        again: whether some rounds may ask for popularity instead.
        weighing: part of the users who teach the weights; the others add zeros.
    """

    head_items: int
    cooccurrence: bool
    pair_numbers: int
    hidden: int
    rounds: int
    kernels: int
    own: int
    each: int
    again: bool
    weighing: float

    @classmethod
    def of(
        cls, settings: Open, *, items: int, users: int, mu: float, kernels: int, own: int, decays: int, gated: int
    ) -> "KernelRankPlan":
        """Make the plan of a run.

        Args:
            settings: of the algorithm.
            items: size of the catalogue.
            users: size of the population.
            mu: total signal-to-noise of all releases, infinite without privacy.
            kernels: of the public content.
            own: features that are not kernels.
            decays: features of each kernel without a gate.
            gated: features of each kernel with one.
        """
        strength, private = mu * users / TUNED_USERS, mu < float("inf")
        head_items = min(items, settings.head_items or default_head(users, mu))
        wanted = strength >= PAIRS_STRENGTH if settings.cooccurrence is None else settings.cooccurrence
        cooccurrence = wanted and head_items > 1
        many = kernels + (RELEASED_KERNELS if cooccurrence else 0)
        count = own + many * (decays + gated)
        network = strength >= NETWORK_STRENGTH and users >= USERS_PER_WEIGHT * UNITS * (own + many * decays)
        network = network and not (private and not kernels)  # there, each weight must show evidence
        hidden = settings.hidden if settings.hidden is not None else UNITS if network else 0
        rounds = 80 if hidden else 40 if kernels or cooccurrence else 0
        rounds = rounds if settings.rounds is None else settings.rounds
        offered = private and cooccurrence and settings.cooccurrence is None and strength < FIRM_STRENGTH
        longest = max(items, parameter_count(count, hidden))
        again = offered and rounds * longest <= MOST_ASKED * _pairs(head_items)
        numbers = pair_numbers(settings.pair_numbers, _pairs(head_items), users, mu)
        wanted_users = settings.weighing_users or max(WEIGHING_USERS, WEIGHING_STRENGTH * TUNED_USERS / mu)
        weighing = min(1.0, wanted_users / users)
        each = decays + gated
        return cls(head_items, cooccurrence, numbers, hidden, rounds, kernels, own, each, again, weighing)

    def features(self, *, cooccurrence: bool) -> int:
        """Number of features, with the kernels of the co-occurrence or without."""
        return self.own + (self.kernels + (RELEASED_KERNELS if cooccurrence else 0)) * self.each

    @property
    def parameters(self) -> int:
        """Entries of a gradient."""
        return parameter_count(self.features(cooccurrence=self.cooccurrence), self.hidden)

    @property
    def pairs(self) -> int:
        """Unordered pairs of the head."""
        return _pairs(self.head_items)


def pair_numbers(wanted: int | None, pairs: int, users: int, mu: float) -> int:
    """Return the entries of the sum of pairs: fewer than pairs where its noise hides what shares an entry.

    A user's vector has norm 1, so which users took part moves all entries together by `users` in variance. The noise of
    an entry has more than 1 / mu^2.
    """
    if wanted is not None:
        return min(wanted, pairs)
    if math.isinf(mu):
        return pairs
    enough = math.ceil(PAIR_NOISE * users * mu * mu)
    return enough if LEAST_SAVED * enough <= pairs else pairs


def _pairs(head: int) -> int:
    """Unordered pairs of `head` items."""
    return head * (head - 1) // 2


def parameter_count(features: int, hidden: int) -> int:
    """Weights of so many features, with a network of `hidden` units: a row, a bias and an output for each unit."""
    return features + hidden * (features + 2)


def default_head(users: int, mu: float) -> int:
    """Number of head items of the co-occurrence: the signal of a pair grows with users and mu."""
    factor = 10.3 if mu <= 0.27 else 19.3 if mu < 10 else 32.0
    return min(MOST_HEAD if mu < math.inf else MOST_BARE_HEAD, max(50, round(factor * users**0.5)))


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
