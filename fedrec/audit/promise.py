"""What a run promises, in two sentences for a lay reader and in one for an expert."""

import math
from collections.abc import Mapping
from typing import Any

from fedrec.audit.assumptions import seeded
from fedrec.audit.tradeoff import Tradeoff


def promise(
    privacy: Mapping[str, Any], best: Tradeoff, *, released: bool, simulation: bool, catalogue_given: bool
) -> tuple[list[str], str]:
    """Two sentences for a lay reader, and the same precisely. best: what the best attacker can do.

    released: whether anything that depends on users was. catalogue_given: whether the list of items is public.
    """
    if not released:
        if catalogue_given:
            return [
                "Nothing was learned from any user: what was released comes from public information alone.",
                "So it tells nothing about anybody's history, whatever else is known (epsilon 0).",
            ], "No release depends on users: epsilon 0, delta 0."
        return [
            "Nothing was asked of any user, but the list of items was taken from what users did, without noise.",
            "Beyond that list, what was released tells nothing about anybody's history (epsilon 0).",
        ], "Apart from the list of items, no release depends on users: epsilon 0, delta 0."
    if privacy["guarantee"] == "none":
        return [
            "There is NO privacy guarantee: what was learned from users was released without bound or noise.",
            "Whoever gets the model may be able to tell what a person did.",
        ], "Neither clip nor noise: no epsilon holds."
    opening = (
        "If the noise were secret (here it follows from a seed, for simulation), whatever"
        if seeded(privacy)
        else "Whatever"
    )
    where = "would stay" if simulation else "stay"
    epsilon = rounded_up(privacy["epsilon"])
    return [
        f"{opening} anyone concludes about you from the released model, they would have concluded nearly as likely had "
        f"you never taken part: {_guess(best.best_guess())}.",
        f"Your own recommendations use your history and your taste vector, which {where} on your device.",
    ], (
        f"User-level ({epsilon}, {privacy['delta']:g})-joint differential privacy, {privacy['adjacency']}: the chance "
        f"of any conclusion changes by at most a factor of {factor(privacy['epsilon'])}, leaving aside a probability "
        f"of {privacy['delta']:g}; the list of items and the number of users count as known."
    )


def factor(epsilon: float) -> str:
    """e^epsilon, by which the chance of any conclusion may change, rounded up; as a power where it is huge."""
    up = float(rounded_up(epsilon) or "inf")
    return f"{math.ceil(math.exp(up) * 100) / 100:.2f}" if up < 10 else f"e^{up:.3g}"


def rounded_up(value: float | None, digits: int = 4) -> str | None:
    """A bound as text that is not below it; None stands for no bound."""
    return None if value is None else f"{math.ceil(value * 10**digits) / 10**digits:.{digits}f}"


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
