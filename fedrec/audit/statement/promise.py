"""The promise of a run from the facts of its statement: two sentences for a lay reader, one for an expert.

No prose is taken from a statement that was received: the same facts give the same words.
"""

import math
from decimal import ROUND_CEILING, Decimal

from fedrec import rounding
from fedrec.audit.statement.assumptions import seeded
from fedrec.audit.statement.schema import PrivacyStatement


def promise(stated: PrivacyStatement) -> list[str]:
    """Return two sentences for a lay reader.

    Args:
        stated: the facts of a statement.
    """
    if not stated.releases:
        if stated.dataset.catalogue == "given":
            return [
                "Nothing was learned from any user: what was released comes from public information alone.",
                "So it reveals nothing about anybody's history, even to someone with other knowledge (epsilon 0).",
            ]
        return [
            "Nothing was asked of any user, but the list of items was taken from what users did, without noise.",
            "Beyond that list, the release reveals nothing about anybody's history (epsilon 0).",
        ]
    if stated.epsilon is None:
        return [
            "There is NO privacy guarantee: what was learned from users was released without bound or noise.",
            "Anyone who gets the model may be able to infer what a person did.",
        ]
    opening = (
        "If the noise were secret (here it follows from a seed, for simulation), anything"
        if seeded(stated.noise_source)
        else "Anything"
    )
    where = "would stay" if stated.simulation else "stay"
    return [
        f"{opening} that someone concludes about you from the model, they would have been almost as likely to conclude "
        f"had you not taken part: {_guess(float(stated.best_guess))}.",
        f"Your own recommendations use your history and your taste vector, which {where} on your device.",
    ]


def precisely(stated: PrivacyStatement) -> str:
    """Return the promise for an expert, in one sentence.

    Args:
        stated: the facts of a statement.
    """
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
    """Return e^epsilon, by which the chance of any conclusion may change, rounded up; a large one as a power of e."""
    return rounding.rounded_up(math.exp(epsilon), 2) if epsilon < 10 else f"e^{epsilon:.3g}"


def rounded_up(value: float | None, digits: int = 4) -> str | None:
    """Return a bound as text that is not below it.

    Args:
        value: None for no bound.
        digits: decimals of the text.


    >>> rounded_up(1.00001)
    '1.0001'
    """
    return None if value is None else rounding.rounded_up(value, digits)


def rounded_up_text(value: str | None, digits: int = 4) -> str | None:
    """Round up a bound that is given as text, exactly.

    Args:
        value: a decimal; None for no bound.
        digits: decimals of the result.


    >>> rounded_up_text("2.00000000000000000001", 2)
    '2.01'
    """
    if value is None:
        return None
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_CEILING):f}"


def percent(value: float | str) -> str:
    """Return a share as percent, rounded up: two digits after the point below 10 %, else one."""
    share = float(value)
    digits = 2 if share < 0.1 else 1
    return f"{math.ceil(share * 100 * 10**digits - 1e-9) / 10**digits:.{digits}f}".rstrip("0").rstrip(".") + "\u00a0%"


def _guess(best: float) -> str:
    right = math.ceil(best * 100)
    if right >= 100:
        return (
            "almost, that is, in a very weak sense, since someone who knows everything about everybody else could "
            "determine almost without error whether you did"
        )
    return (
        f"even someone who knows everything about everybody else, and guesses whether you did, is right at most "
        f"{right} times in 100, where tossing a coin is right 50 times"
    )
