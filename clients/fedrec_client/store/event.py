"""Event: one act of the person with one item, and its form as bytes."""

import math
import struct
from dataclasses import dataclass

from fedrec.errors import InputError
from fedrec_client.store.damage import Damage

LONGEST_ITEM = 1024
"""Bytes of an item's id in UTF-8."""
LONGEST_KIND = 64
"""Bytes of a kind in UTF-8."""
LARGEST_WEIGHT = 1e9
LATEST = 1e11
"""Upper bound of times, UTC seconds since 1970; milliseconds of today are above it."""
_START = struct.Struct("<QddB")  # number, time (NaN for none), weight, bytes of the kind


@dataclass(frozen=True, slots=True)
class Event:
    """What the person did with an item. Messages of its errors hold none of its values.

    Attributes:
        item: the item's id in the catalogue, as text; an integer becomes text.
        kind: e.g. view, like, dislike, rating.
        time: UTC seconds since 1970, or None where it is not known.
        weight: strength of the event; for a rating its value.

    Raises:
        InputError: for a value that cannot be stored.
    """

    item: str
    kind: str = "view"
    time: float | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        item: object = self.item
        if isinstance(item, int) and not isinstance(item, bool):
            object.__setattr__(self, "item", str(item))
        _check_text("item", self.item, LONGEST_ITEM)
        _check_text("kind", self.kind, LONGEST_KIND)
        if self.time is not None:
            object.__setattr__(self, "time", _number("time", self.time, LATEST, "give UTC seconds since 1970, or None"))
        object.__setattr__(self, "weight", _number("weight", self.weight, LARGEST_WEIGHT, "give a finite number"))


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event in a store.

    Attributes:
        number: rises by recording; no other event has it until `forget(everything=True)` starts again at 1.
        event: the event.
    """

    number: int
    event: Event


def packed(recorded: Recorded) -> bytes:
    """Return the bytes of a recorded event."""
    event, kind = recorded.event, recorded.event.kind.encode()
    time = math.nan if event.time is None else event.time
    return _START.pack(recorded.number, time, event.weight, len(kind)) + kind + event.item.encode()


def unpacked(content: bytes) -> Recorded:
    """Return the recorded event of `packed` bytes. Raises: Damage for other bytes."""
    try:
        number, time, weight, length = _START.unpack_from(content)
        kind, item = content[_START.size : _START.size + length], content[_START.size + length :]
        return Recorded(number, Event(item.decode(), kind.decode(), None if math.isnan(time) else time, weight))
    except (struct.error, UnicodeError, InputError):
        raise Damage("a row is no event") from None


def _check_text(name: str, value: object, longest: int) -> None:
    if not isinstance(value, str):
        raise InputError(f"an event's {name} is of type {type(value).__name__}; give text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InputError(f"an event's {name} holds half a character (a surrogate); give valid text") from None
    if not 0 < size <= longest or "\0" in value:
        raise InputError(f"an event's {name} has {size:,} bytes; give 1 to {longest:,}, none of them NUL")


def _number(name: str, value: object, largest: float, remedy: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= largest:
        raise InputError(f"an event's {name} is no number from -{largest:g} to {largest:g}; {remedy}")
    return float(value)
