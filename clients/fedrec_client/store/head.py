"""Records at the head of a store: which data key opens it, and which rows it must hold."""

import sqlite3
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fedrec_client.store.damage import Damage
from fedrec_client.store.sealer import MODULUS, unwrap, wrap

_HEAD = struct.Struct("<QQ?Q32sQ32s")


@dataclass(frozen=True)
class KeyRecord:
    """The wrapped data key, in clear.

    Attributes:
        store: the store's id, (16,) bytes.
        kind: of the key's source.
        hint: public bytes of the source.
        wrapped: the data key under the master key.
    """

    store: bytes
    kind: str
    hint: bytes
    wrapped: bytes

    @classmethod
    def of(cls, data_key: bytes, store: bytes, kind: str, hint: bytes, master: bytes, version: int) -> "KeyRecord":
        """Wrap a data key under a master key, bound to all else in the record."""
        return cls(store, kind, hint, wrap(data_key, master, _place(store, kind, hint, version), store))

    def opened(self, masters: Iterable[bytes], version: int) -> tuple[bytes, bytes] | None:
        """Return the master key of `masters` that fits and the data key; None where none fits."""
        for master in masters:
            found = unwrap(self.wrapped, master, _place(self.store, self.kind, self.hint, version), self.store)
            if found is not None:
                return master, found
        return None

    @classmethod
    def read(cls, link: sqlite3.Connection, table: str = "key") -> "KeyRecord":
        """Read the record. Raises: Damage where there is none."""
        found = link.execute(f"SELECT store, kind, hint, wrapped FROM {table} WHERE id = 1").fetchone()
        return cls.checked(*(found or ()))

    @classmethod
    def checked(cls, *found: object) -> "KeyRecord":
        """Make the record of four columns. Raises: Damage where they are of other types."""
        if len(found) == 4:
            store, kind, hint, wrapped = found
            sized = isinstance(store, bytes) and len(store) == 16
            if sized and isinstance(kind, str) and isinstance(hint, bytes) and isinstance(wrapped, bytes):
                return cls(store, kind, hint, wrapped)  # type: ignore[arg-type]  # `sized` checks it
        raise Damage("its wrapped key is missing")

    def write(self, link: sqlite3.Connection) -> None:
        """Write the record, twice."""
        for table in ("key", "spare"):
            values = (self.store, self.kind, self.hint, self.wrapped)
            link.execute(f"INSERT OR REPLACE INTO {table} VALUES (1, ?, ?, ?, ?)", values)


def _place(store: bytes, kind: str, hint: bytes, version: int) -> bytes:
    parts = (b"fedrec store key", struct.pack("<I", version), store, kind.encode(), hint)
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


@dataclass(frozen=True)
class Tally:
    """The rows that a table must hold. Attributes: count: their number; sum: of their digests, below `MODULUS`."""

    count: int = 0
    sum: int = 0

    def plus(self, digest: int) -> "Tally":
        """Return the tally with one row more."""
        return Tally(self.count + 1, (self.sum + digest) % MODULUS)

    def minus(self, digest: int) -> "Tally":
        """Return the tally with one row less."""
        return Tally(self.count - 1, (self.sum - digest) % MODULUS)


@dataclass(frozen=True)
class Head:
    """What each write changes.

    Attributes:
        number: of the next event.
        seals: under this data key so far.
        erasing: True while erased rows may still be in free pages or in the write-ahead log.
        tallies: table -> its tally.
    """

    number: int = 1
    seals: int = 0
    erasing: bool = False
    tallies: dict[str, Tally] = field(default_factory=lambda: {"rows": Tally(), "states": Tally()})

    def packed(self) -> bytes:
        """Return the head as bytes."""
        rows, states = self.tallies["rows"], self.tallies["states"]
        sums = [tally.sum.to_bytes(32, "little") for tally in (rows, states)]
        return _HEAD.pack(self.number, self.seals, self.erasing, rows.count, sums[0], states.count, sums[1])

    @classmethod
    def unpacked(cls, content: bytes) -> "Head":
        """Return the head of `packed` bytes. Raises: Damage."""
        try:
            number, seals, erasing, rows, rows_sum, states, states_sum = _HEAD.unpack(content)
        except struct.error:
            raise Damage("its head has another form") from None
        sums = (int.from_bytes(each, "little") for each in (rows_sum, states_sum))
        tallies = {"rows": Tally(rows, next(sums)), "states": Tally(states, next(sums))}
        return cls(number, seals, erasing, tallies)

    def changed(self, table: str, tally: Tally, seals: int = 0) -> "Head":
        """Return the head with another tally of `table` and `seals` more."""
        return replace(self, tallies={**self.tallies, table: tally}, seals=self.seals + seals)
