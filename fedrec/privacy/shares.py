"""Whose noise shares an adversary knows, and what is left to hide a user.

| adversary | shares that it does not know (`distributed`) | (`local`) |
|---|---|---|
| anyone who gets the model, or one other user | the least number of users, less one | 1 |
| the server | the least number of users | 1 |
| the server with the stated colluders | the same, less the colluders: the plan's epsilon | 1 |
| a helper of the secure sum | the least number of users | none is used |
| server and helper together; a secure sum that fails | 1: a user's own share alone | 1 |

"One user less" means a user who adds zeros: the number of users is public, and a device without events answers too.
Sampling lowers none of these: the server of a secure sum knows the cohort. Below the least number of users a round is
void: it was charged and releases nothing. At least one user counts as colluding: anyone who gets the model may be a
user, who knows its own share, and the plan's epsilon holds against everybody who gets the model.

With `privacy.noise_by = aggregators` users add no noise. Server and helper each add the whole noise to their own half
of a secure sum, before it is opened. So a sum has two shares, however many users it has:

| adversary | shares that it does not know (`distributed`, noise by the aggregators) |
|---|---|
| anyone who gets the model, or users of any number | 2 |
| the server, with users of any number or alone | 1: the helper's, the plan's epsilon |
| the helper | 1: the server's, the plan's epsilon |
| server and helper together; a secure sum that fails | 0 |

With hidden participation every user of the population answers and adds a share, so shares are counted over all of them,
and not over a cohort. Which answers hold zeros is known to their devices alone: sampling then lowers epsilon against
every row (`fedrec.privacy.discrete.hidden`), except against one who sees a device's coin (`knows_the_cohort`).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from fedrec.errors import PrivacyError
from fedrec.privacy.discrete import renyi

ADVERSARIES = (
    "model_recipients",
    "knows_the_cohort",
    "server",
    "server_with_colluders",
    "helper",
    "server_and_helper",
    "secure_aggregation_fails",
)


AGGREGATORS = 2
"""Server and helper: the shares of a sum where they add the noise."""
FEWEST = 2
"""Fewest users of a sum where the aggregators add the noise."""


@dataclass(frozen=True)
class Shares:
    """Numbers of noise shares in one sum.

    Attributes:
        expected: users who are expected to add noise to a sum: a cohort, or everybody with hidden participation.
        most: users whose noise the modulus has room for.
        least: users without whom a round is void.
        colluding: users who may show the server their shares; at least one in `distributed`.
        counted: shares that the plan's epsilon rests on.
        contributing: users whose contributions the modulus has room for.
        local: whether each user's share is the whole noise.
        by_aggregators: whether server and helper each add a share, which is the whole noise, and users none.
    """

    expected: int
    most: int
    least: int
    colluding: int
    counted: int
    contributing: int
    local: bool = False
    by_aggregators: bool = False

    @classmethod
    def of(
        cls,
        users: int,
        sampling: float,
        dropout: float,
        colluding: float,
        *,
        local: bool,
        hidden: bool = False,
        by_aggregators: bool = False,
    ) -> "Shares":
        """Return the numbers for a population.

        Args:
            users: the public size of the population.
            sampling: probability of each user to take part in a round.
            dropout: part of a cohort that may be missing.
            colluding: part of a cohort that may show the server their shares.
            local: whether each user adds the whole noise.
            hidden: whether everybody adds noise, and a secret coin decides who contributes.
            by_aggregators: whether server and helper add the noise; nobody's collusion counts then.

        Raises: PrivacyError where the stated dropout and collusion leave no honest user, or a sum of one user.
        """
        expected = max(1, math.floor(users * sampling))
        contributing = users if sampling == 1 else min(users, expected + math.ceil(8 * math.sqrt(expected)) + 8)
        expected, most = (users, users) if hidden else (expected, contributing)
        if local:
            return cls(expected, most, 1, 0, 1, contributing, local=True)
        least = max(1, math.ceil(expected * (1 - dropout)))
        if by_aggregators:
            if least < FEWEST:
                raise PrivacyError(
                    f"privacy.dropout = {dropout:g} leaves {least} of {expected} users in a sum, which is no sum; "
                    "lower it, or ask more users"
                )
            return cls(expected, most, least, 0, 1, contributing, by_aggregators=True)
        traitors = max(1, math.ceil(expected * colluding))
        if least - traitors < 1:
            raise PrivacyError(
                f"privacy.dropout = {dropout:g} and privacy.colluding = {colluding:g} leave no honest user of "
                f"{expected}, where one at least counts as colluding; lower them, or ask more users"
            )
        return cls(expected, most, least, traitors, least - traitors, contributing)

    def present(self, users: int) -> int:
        """Return how many shares the sum of some users has."""
        return AGGREGATORS if self.by_aggregators else users

    def unknown(self) -> dict[str, int]:
        """Return how many shares each adversary does not know."""
        if self.by_aggregators:
            return dict(zip(ADVERSARIES, (AGGREGATORS, AGGREGATORS, 1, 1, 1, 0, 0), strict=True))
        if self.local:
            return dict.fromkeys(ADVERSARIES, 1)
        return dict(
            zip(
                ADVERSARIES,
                (self.least - 1, self.least - 1, self.least, self.counted, self.least, 1, 1),
                strict=True,
            )
        )


@lru_cache(maxsize=64)
def largest_mu(epsilon: float, delta: float) -> float:
    """Find the largest total signal-to-noise of Gaussian releases whose Renyi epsilon is at most `epsilon`."""
    low, high = 0.0, 1.0
    while renyi.gaussian_epsilon(high**2, delta) <= epsilon:
        low, high = high, high * 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if renyi.gaussian_epsilon(middle**2, delta) <= epsilon else (low, middle)
    if low == 0:
        raise PrivacyError(f"no noise reaches epsilon {epsilon:g} at delta {delta:g}; raise privacy.epsilon")
    return low
