"""Arguments of a device's commands: times, labels, bounds and freshness, from text."""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fedrec.errors import InputError

if TYPE_CHECKING:
    from fedrec.generate.base import LanguageModel
    from fedrec_client.edge.answers import Freshness


def model_at(place: str) -> "LanguageModel":
    """Open a language model; the key of a llama.cpp server is in FEDREC_LLAMA_KEY. Raises: InputError."""
    from fedrec.generate.place import language_model

    return language_model(place, os.environ.get("FEDREC_LLAMA_KEY"))


def freshness_of(text: str) -> "Freshness":
    """Read `BLOCK:HALF_LIFE`. Raises: InputError."""
    from fedrec_client.edge.answers import Freshness

    name, _, half = text.rpartition(":")
    try:
        return Freshness(name, float(half))
    except ValueError:
        raise InputError(f"'{text}': write BLOCK:HALF_LIFE, e.g. year:10") from None


def moment(text: str) -> float:
    """Read a time, UTC seconds. Raises: InputError."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("the time is not recognised; give UTC seconds since 1970, or e.g. 2026-01-31T18:00") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def labels_of(given: list[str] | None) -> dict[str, list[str]]:
    """Read `BLOCK=LABEL` each. Raises: InputError."""
    found: dict[str, list[str]] = {}
    for text in given or ():
        name, equal, label = text.partition("=")
        if not equal:
            raise InputError(f"'{text}': write BLOCK=LABEL, e.g. genres=Drama")
        found.setdefault(name, []).append(label)
    return found


def bounds_of(given: list[str] | None) -> dict[str, tuple[float, float]]:
    """Read `BLOCK=LOW:HIGH` each. Raises: InputError."""
    found: dict[str, tuple[float, float]] = {}
    for text in given or ():
        name, _, bounds = text.partition("=")
        low, colon, high = bounds.partition(":")
        try:
            found[name] = (float(low or "-inf"), float(high or "inf"))
        except ValueError:
            colon = ""
        if not colon:
            raise InputError(f"'{text}': write BLOCK=LOW:HIGH, e.g. year=1990:1999; either bound may be left out")
    return found
