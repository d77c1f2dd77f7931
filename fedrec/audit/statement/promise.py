"""What a run promises, in two sentences for a lay reader and in one for an expert, from the facts of its statement.

No prose is taken from a statement that was received: the same facts give the same words.
"""

import math
from decimal import ROUND_CEILING, Decimal

from fedrec import rounding
from fedrec.audit.statement.assumptions import seeded
from fedrec.audit.statement.schema import PrivacyStatement


def promise(stated: PrivacyStatement) -> list[str]:
    """Two sentences for a lay reader. stated: the facts of a statement."""
    if not stated.releases:
        if stated.dataset.catalogue == "given":
            return [
                "Nothing was learned from any user: what was released comes from public information alone.",
                "So it tells nothing about anybody's history, whatever else is known (epsilon 0).",
            ]
        return [
            "Nothing was asked of any user, but the list of items was taken from what users did, without noise.",
            "Beyond that list, what was released tells nothing about anybody's history (epsilon 0).",
        ]
    if stated.epsilon is None:
        return [
            "There is NO privacy guarantee: what was learned from users was released without bound or noise.",
            "Whoever gets the model may be able to tell what a person did.",
        ]
    opening = (
        "If the noise were secret (here it follows from a seed, for simulation), whatever"
        if seeded(stated.noise_source)
        else "Whatever"
    )
    where = "would stay" if stated.simulation else "stay"
    return [
        f"{opening} anyone concludes about you from the released model, they would have concluded nearly as likely had "
        f"you never taken part: {_guess(float(stated.best_guess))}.",
        f"Your own recommendations use your history and your taste vector, which {where} on your device.",
    ]


def precisely(stated: PrivacyStatement) -> str:
    """The same for an expert, in one sentence."""
    if not stated.releases:
        besides = "N" if stated.dataset.catalogue == "given" else "Apart from the list of items, n"
        return f"{besides}o release depends on users: epsilon 0, delta 0."
    if stated.epsilon is None:
        return "Neither clip nor noise: no epsilon holds."
    return (
        f"User-level ({stated.epsilon}, {stated.delta})-joint differential privacy, {stated.adjacency}: the "
        f"chance of any conclusion changes by at most a factor of {factor(float(stated.epsilon))}, leaving aside a "
        f"probability of {stated.delta}; the list of items and the number of users count as known."
    )


def factor(epsilon: float) -> str:
    """e^epsilon, by which the chance of any conclusion may change, rounded up; as a power where it is huge."""
    return rounding.rounded_up(math.exp(epsilon), 2) if epsilon < 10 else f"e^{epsilon:.3g}"


def rounded_up(value: float | None, digits: int = 4) -> str | None:
    """A bound as text that is not below it; None stands for no bound.

    >>> rounded_up(1.00001)
    '1.0001'
    """
    return None if value is None else rounding.rounded_up(value, digits)


def rounded_up_text(value: str | None, digits: int = 4) -> str | None:
    """A bound in decimals, rounded up exactly; None stands for no bound.

    >>> rounded_up_text("2.00000000000000000001", 2)
    '2.01'
    """
    if value is None:
        return None
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_CEILING):f}"


def percent(value: float | str) -> str:
    """A share as percent, rounded up: two digits after the point below 10 %, else one."""
    share = float(value)
    digits = 2 if share < 0.1 else 1
    return f"{math.ceil(share * 100 * 10**digits - 1e-9) / 10**digits:.{digits}f}".rstrip("0").rstrip(".") + "\u00a0%"


def _guess(best: float) -> str:
    right = math.ceil(best * 100)
    if right >= 100:
        return (
            "nearly, that is, in a very weak sense, since someone who knows everything about everybody else could tell "
            "almost without error whether you did"
        )
    return (
        f"even someone who knows everything about everybody else, and guesses whether you did, is right at most "
        f"{right} times in 100, where tossing a coin is right 50 times"
    )
