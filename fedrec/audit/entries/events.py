"""Conversion between the charges of a ledger (JSON, numbers as exact strings) and the events of an accountant."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from fedrec.audit.entries.account import placed
from fedrec.charge import Charge
from fedrec.errors import VerificationError
from fedrec.json_types import Json
from fedrec.privacy.accounting import Event

MECHANISM = "Poisson-sampled Gaussian, add or remove one user"
"""The mechanism that a sum of events is known for."""


def charges(payloads: Iterable[Json]) -> list[Charge]:
    """Return the charges among a ledger's payloads, oldest first.

    Raises:
        VerificationError: for a malformed one.
    """
    return [charge for _, charge in placed(payloads, Charge)]


def events_of(charged: Iterable[Charge]) -> list[Event]:
    """Return every event of some charges.

    Raises:
        VerificationError: for an event that is not Gaussian.
    """
    charged = list(charged)
    if any(event.mechanism != MECHANISM for charge in charged for event in charge.events):
        raise VerificationError("the ledger: an event is not Gaussian, and only Gaussian ones are added up here")
    return [
        Event(float(event.sampling), float(event.noise_multiplier), event.count)
        for charge in charged
        for event in charge.events
    ]


def to_json(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Write events as JSON, equal ones counted, sorted."""
    counts: Counter[tuple[float, float]] = Counter()
    for event in events:
        counts[event.sampling, event.noise_multiplier] += event.count
    return [
        {"sampling": repr(sampling), "noise_multiplier": repr(multiplier), "count": count}
        for (sampling, multiplier), count in sorted(counts.items())
    ]


def from_json(values: Any, where: str) -> list[Event]:
    """Read events from JSON, as `to_json` or a charge wrote them.

    Raises:
        VerificationError: for a value that is no event.
    """
    try:
        if not isinstance(values, Sequence):
            raise TypeError
        if any(v.get("mechanism", MECHANISM) != MECHANISM for v in values):
            raise VerificationError(f"{where}: an event is not Gaussian, and only Gaussian ones are added up here")
        return [Event(float(v["sampling"]), float(v["noise_multiplier"]), int(v["count"])) for v in values]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise VerificationError(f"{where}: an event lacks its sampling, noise multiplier or count") from None
