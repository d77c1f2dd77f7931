"""Rows of a table in memory, and how they follow the file."""

import sqlite3
from dataclasses import dataclass, field

from fedrec_client.store.damage import Damage
from fedrec_client.store.head import Tally
from fedrec_client.store.sealer import Sealer

_FEW = 64  # rows that are read one by one rather than all


@dataclass
class Opened:
    """Rows of a table: id -> content, id -> digest, and their tally."""

    contents: dict[int, bytes] = field(default_factory=dict)
    digests: dict[int, int] = field(default_factory=dict)
    tally: Tally = Tally()

    def put(self, row: int, content: bytes, digest: int) -> None:
        """Add a row."""
        self.contents[row], self.digests[row] = content, digest
        self.tally = self.tally.plus(digest)

    def drop(self, row: int) -> None:
        """Remove a row."""
        del self.contents[row]
        self.tally = self.tally.minus(self.digests.pop(row))

    def follow(self, link: sqlite3.Connection, sealer: Sealer, table: str, tally: Tally) -> None:
        """Drop the rows that the file no longer has, and open its new ones. A row is never changed in its place.

        Args:
            tally: of the rows that the table must hold.

        Raises:
            Damage: where a row was changed, is missing or was put back; no row is in memory then.
        """
        if self.tally == tally:
            return
        there = {row for (row,) in link.execute(f"SELECT id FROM {table}")}
        for row in self.contents.keys() - there:
            self.drop(row)
        new = there - self.contents.keys()
        if len(new) <= _FEW:
            one = f"SELECT id, sealed FROM {table} WHERE id = ?"
            found = [pair for row in new for pair in link.execute(one, (row,))]
        else:
            found = [pair for pair in link.execute(f"SELECT id, sealed FROM {table}") if pair[0] in new]
        for row, box in found:
            self.put(row, sealer.open(table, row, box), sealer.digest(table, row, box))
        if self.tally != tally:
            self.contents, self.digests, self.tally = {}, {}, Tally()
            raise Damage("rows are missing, or old ones were put back")
