"""Conversion between the charges of a ledger (JSON, numbers as exact strings) and the events of an accountant."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedrec.errors import VerificationError
from fedrec.privacy.accounting import Event


def charges(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the charges among a ledger's entries, oldest first."""
    return [entry["payload"] for entry in entries if entry["payload"].get("type") == "charge"]


def events_of(charged: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Return every event of some charges.

    Raises:
        VerificationError: for a charge without valid events.
    """
    return [event for charge in charged for event in from_json(charge.get("events"), "the ledger")]


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
        return [Event(float(v["sampling"]), float(v["noise_multiplier"]), int(v["count"])) for v in values]
    except (KeyError, TypeError, ValueError):
        raise VerificationError(f"{where}: an event lacks its sampling, noise multiplier or count") from None
