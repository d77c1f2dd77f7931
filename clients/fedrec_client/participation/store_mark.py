"""The mark that a store and a file outside it share, so that a device notices when its store is an older copy.

Each stay begins with a new random mark: in the store, sealed, and in a file next to the device's folder. What a device
paid is in neither, but in the device ledger, whose own counter is there too.

| found | meaning | what follows |
|---|---|---|
| both marks are equal | the store that took part last | nothing |
| neither is there | a device that never took part | nothing |
| another mark in the store | a copy of before the last stay was restored | a trust period |
| no mark in the store | the store was made anew | a trust period |
| no file outside | it was lost; nothing proves that the store is the newest | a trust period |

In the trust period (`device.trust_days`) the device answers and pays as a person without events, which a server cannot
see. `forget` begins one, too. The store has its cause, and the device ledger has it with each such answer. A copy that
was made after the last stay, or the last `forget`, is not noticed, and neither is one that was restored together with
the file outside; budgets are counted right in both cases.
"""

import hashlib
import json
import math
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fedrec import durable
from fedrec.errors import InputError
from fedrec_client.consent.answering import WithoutEvents
from fedrec_client.store import Store

STATE = "participation"
"""Name of the private value in the store."""

DAY = 86400.0

FORGOTTEN, RESTORED, NEW_STORE, NO_MARK = "forgotten", "restored", "new store", "no mark"
"""Causes of a trust period: `forget`; another mark in the store; none in it; none outside of it."""

UNKNOWN = "trust"
"""The cause of one that began under a version which kept none."""


def mark_of(folder: Path) -> Path:
    """Return the file of the mark outside a device's folder: next to it, as the ledger's counter."""
    return folder.absolute().parent / f"{folder.absolute().name}.mark"


@dataclass(frozen=True)
class Inside:
    """The store's part.

    Attributes:
        mark: hex.
        since: Unix seconds from which the latest trust period counts; 0 for none.
        why: its cause.
    """

    mark: str = ""
    since: float = 0.0
    why: str = UNKNOWN

    @classmethod
    def of(cls, store: Store) -> "Inside | None":
        """Return the part in a store; None where there is none."""
        content = store.state(STATE)
        return None if content is None else cls(**json.loads(content))

    def keep(self, store: Store) -> None:
        """Put this part into a store."""
        store.set_state(STATE, json.dumps(asdict(self)).encode())


class StoreMark:
    """The marks of one device.

    Args:
        folder: the device's folder.
        store: its open store.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self._file, self._store = mark_of(folder), store

    def trust_period(self, now: float, days: float) -> WithoutEvents | None:
        """Compare the marks, and return the present trust period; None where the device's data may enter sums.

        Args:
            now: Unix seconds.
            days: length of the trust period.
        """
        with self._store.transaction():
            inside = self._compared(now)
        if inside is None or not inside.since or now - inside.since >= days * DAY:
            return None
        return WithoutEvents(inside.why, int(inside.since), math.ceil(inside.since + days * DAY))

    def renew(self, now: float) -> None:
        """Begin a stay: compare, and give both sides a new mark. A kill at any moment leaves marks that fit."""
        with self._store.transaction():
            inside = self._compared(now) or Inside()
        fresh = replace(inside, mark=secrets.token_hex(16))
        self._write(inside.mark, fresh.mark)
        fresh.keep(self._store)
        self._write(fresh.mark)

    def _compared(self, now: float) -> Inside | None:
        """Return the store's part, with a trust period from now on where the marks do not fit."""
        inside, outside = Inside.of(self._store), self._outside()
        if inside is None and outside is None:
            return None
        if inside is not None and outside is not None and _hash(inside.mark) in outside:
            return inside
        return self._begun(now, NEW_STORE if inside is None else NO_MARK if outside is None else RESTORED)

    def forgot(self, now: float) -> None:
        """Begin a trust period, since events are erased; a device that never took part needs none.

        Args:
            now: Unix seconds.
        """
        with self._store.transaction():
            if Inside.of(self._store) is not None or self._outside() is not None:
                self._begun(now, FORGOTTEN)

    def _begun(self, now: float, why: str) -> Inside:
        """Begin a trust period with a new mark. A kill in between leaves marks that do not fit, and so begins one."""
        found = Inside(secrets.token_hex(16), now, why)
        self._write(found.mark)
        found.keep(self._store)
        return found

    def _outside(self) -> list[str] | None:
        try:
            found = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return []  # damaged: it fits no mark
        return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []

    def _write(self, *marks: str) -> None:
        """Write the hashes of marks that fit, on disk."""
        try:
            durable.replace(self._file, json.dumps([_hash(mark) for mark in marks]).encode(), mode=0o600)
            durable.sync(self._file.parent)
        except OSError as error:
            raise InputError(f"{self._file}: the store's mark cannot be written ({error.strerror})") from None


def _hash(mark: str) -> str:
    return hashlib.sha256(f"fedrec store mark\n{mark}".encode()).hexdigest()
