"""From a ledger's charges to the events that an accountant composes, and back to JSON: numbers as exact strings."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedrec.errors import VerificationError
from fedrec.privacy.accounting import Event


def charges(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The charges among a ledger's entries, oldest first."""
    return [entry["payload"] for entry in entries if entry["payload"].get("type") == "charge"]


def events_of(charged: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Return every event of some charges.

    Raises:
        VerificationError: for one that is none.
    """
    return [event for charge in charged for event in from_json(charge.get("events"), "the ledger")]


def to_json(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Events as JSON, equal ones counted, sorted."""
    counts: Counter[tuple[float, float]] = Counter()
    for event in events:
        counts[event.sampling, event.noise_multiplier] += event.count
    return [
        {"sampling": repr(sampling), "noise_multiplier": repr(multiplier), "count": count}
        for (sampling, multiplier), count in sorted(counts.items())
    ]


def from_json(values: Any, where: str) -> list[Event]:
    """The events that `to_json` or a charge wrote.

    Raises:
        VerificationError: for what is none.
    """
    try:
        if not isinstance(values, Sequence):
            raise TypeError
        return [Event(float(v["sampling"]), float(v["noise_multiplier"]), int(v["count"])) for v in values]
    except (KeyError, TypeError, ValueError):
        raise VerificationError(f"{where}: an event lacks its sampling, noise multiplier or count") from None
