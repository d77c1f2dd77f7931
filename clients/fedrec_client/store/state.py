"""State: a named private value of the device (user vector, attributes, settings), and its form as bytes."""

import struct
from dataclasses import dataclass

from fedrec.errors import InputError
from fedrec_client.store.damage import Damage
from fedrec_client.store.head import Tally

LONGEST_NAME = 200
"""Bytes of a name in UTF-8."""
_START = struct.Struct("<?Q32sH")


@dataclass(frozen=True, slots=True)
class State:
    """A private value.

    Attributes:
        name: of the value.
        value: bytes; their meaning is the caller's.
        events: tally of the events that it was derived from; None for a value of its own.
    """

    name: str
    value: bytes
    events: Tally | None = None

    def __post_init__(self) -> None:
        size = len(self.name.encode("utf-8", "replace"))
        if not (0 < size <= LONGEST_NAME and self.name.isprintable()):
            raise InputError(f"a state's name has {size:,} bytes; give 1 to {LONGEST_NAME}, all printable")
        if not isinstance(self.value, bytes):
            raise InputError(f"state '{self.name}' is of type {type(self.value).__name__}; give bytes")


def packed(state: State) -> bytes:
    """Return the bytes of a state."""
    name, events = state.name.encode(), state.events or Tally()
    start = _START.pack(state.events is not None, events.count, events.sum.to_bytes(32, "little"), len(name))
    return start + name + state.value


def unpacked(content: bytes) -> State:
    """Return the state of `packed` bytes. Raises: Damage for other bytes."""
    try:
        derived, count, total, length = _START.unpack_from(content)
        name, value = content[_START.size : _START.size + length], content[_START.size + length :]
        return State(name.decode(), value, Tally(count, int.from_bytes(total, "little")) if derived else None)
    except (struct.error, UnicodeError, InputError):
        raise Damage("a row is no state") from None
