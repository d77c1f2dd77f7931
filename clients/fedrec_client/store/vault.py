"""Vault: sealed rows in an SQLite file, its keys, and transactions over both. What the rows mean is not its concern.

Threads share one connection under a lock; processes share the file under SQLite's locks. Each transaction reads the
wrapped key and the head first, so what another process changed is seen.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from fedrec.errors import InputError
from fedrec_client.store import database, migrations, sealer
from fedrec_client.store.damage import Damage
from fedrec_client.store.head import Head, KeyRecord
from fedrec_client.store.key_sources import KeySource, Passphrase
from fedrec_client.store.opened import Opened
from fedrec_client.store.sealer import KEY, Sealer


class Vault:
    """The file at `path`, opened by a key. Use `made` for one that may be missing.

    Args:
        path: of the SQLite file.
        source: of its master key.
        timeout: seconds to wait for another process.

    Raises:
        InputError: for a wrong key, or a file that cannot be used.
        VerificationError: for a damaged file.
    """

    head: Head

    def __init__(self, path: Path, source: KeySource, timeout: float) -> None:
        self.path, self._source = path, source
        self._lock, self._pid = threading.RLock(), os.getpid()
        self._depth, self._failed = 0, False
        self._record: KeyRecord | None = None
        self._box = self._data_key = self._master = b""
        self._tables = {"rows": Opened(), "states": Opened()}
        with database.one_line(path):
            self._link: sqlite3.Connection | None = database.connect(path, timeout)
        try:
            with database.one_line(path):
                self._version = database.layout_of(self._link, path)
                database.check_tables(self._link, self._version)
            if self._version < database.VERSION:
                self._migrate()
            with self.transaction():
                self._source.settle(self._master)
            if self.head.seals > sealer.MOST_SEALS // 2:
                with self.transaction():
                    self.rewrite({table: list(self.load(table).values()) for table in self._tables})
            if self.head.erasing:
                with suppress(InputError):  # another process is about to
                    self.scrub()
        except BaseException:
            self.close()
            raise

    @classmethod
    def made(cls, path: Path, source: KeySource, timeout: float) -> "Vault":
        """Make an empty store at `path` and open it; one that is there already is opened as it is."""

        def fill(link: sqlite3.Connection) -> None:
            data_key, store = secrets.token_bytes(KEY), secrets.token_bytes(16)
            hint, master = source.new()
            KeyRecord.of(data_key, store, source.kind, hint, master, database.VERSION).write(link)
            box = Sealer(data_key, store, database.VERSION).seal("head", 1, Head(seals=1).packed())
            link.execute("INSERT INTO head VALUES (1, ?)", (box,))

        with database.one_line(path):
            database.create(path, fill)
        return cls(path, source, timeout)

    @staticmethod
    def kind_of_key(path: Path) -> str:
        """Return the kind of source that a store's master key comes from. Raises: InputError, VerificationError."""
        with database.one_line(path):
            link = database.connect(path, timeout=5.0)
            try:
                return KeyRecord.read(link).kind
            finally:
                link.close()

    def close(self) -> None:
        """Close the file. The last process that closes it empties the write-ahead log."""
        with self._lock:
            link, self._link = self._link, None
            self._data_key = self._master = b""
            if link is not None and self._pid == os.getpid():
                link.close()

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[None]:
        """Do all or nothing; when a transaction that writes ends, it is synced to the disk.

        One inside another joins it. Args: write: False for a consistent view.

        Raises:
            InputError, VerificationError.
        """
        with self._lock, database.one_line(self.path):
            link = self._usable()
            if self._depth:
                try:
                    yield
                except BaseException:
                    self._failed = True
                    raise
                return
            link.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            self._depth, self._failed = 1, False
            try:
                self._catch_up()
                before = self.head
                yield
                if self._failed:
                    raise InputError("a step of the transaction failed, so all of it was undone")
                if self.head != before:
                    self._write_head()
                link.execute("COMMIT")
            except BaseException:
                self._box = b""  # memory may be ahead of the file: read it again
                with suppress(sqlite3.Error):
                    link.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    @property
    def version(self) -> str:
        """Hexadecimal name of the content, another one after each change. Use it inside a transaction."""
        return self._box[:12].hex()

    def load(self, table: str) -> Mapping[int, bytes]:
        """Return the content of all rows of a table, by id; inside a transaction.

        Raises:
            VerificationError: where a row was changed, is missing or was put back.
        """
        opened = self._tables[table]
        opened.follow(self._usable(), self._sealer, table, self.head.tallies[table])
        return opened.contents

    def take_number(self) -> int:
        """Return the number of the next event, and count it as taken; inside a transaction."""
        number = self.head.number
        self.head = replace(self.head, number=number + 1)
        return number

    def restart_numbers(self) -> None:
        """Number events from 1 again; inside a transaction that removes them all."""
        self.head = replace(self.head, number=1)

    def add(self, table: str, content: bytes) -> int:
        """Seal a new row, inside a transaction; return its id, which is random, so that ids show no order."""
        row = secrets.randbits(63)
        box = self._sealer.seal(table, row, content)
        self._usable().execute(f"INSERT INTO {table} VALUES (?, ?)", (row, box))
        digest, tally = self._sealer.digest(table, row, box), self.head.tallies[table]
        if self._tables[table].tally == tally:
            self._tables[table].put(row, content, digest)
        self.head = self.head.changed(table, tally.plus(digest), seals=1)
        return row

    def remove(self, table: str, row: int) -> None:
        """Delete a row, inside a transaction."""
        self.load(table)  # an abandoned transaction may have taken the row from memory
        opened = self._tables[table]
        self._usable().execute(f"DELETE FROM {table} WHERE id = ?", (row,))
        self.head = self.head.changed(table, self.head.tallies[table].minus(opened.digests[row]))
        opened.drop(row)

    def rewrite(self, contents: Mapping[str, Sequence[bytes]], to: tuple[str, bytes, bytes] | None = None) -> None:
        """Replace the store's id, its data key and all rows, inside a transaction; call `scrub` afterwards.

        Args:
            contents: table -> its rows.
            to: kind, hint and master key of another source.
        """
        link, record = self._usable(), self._record
        assert record is not None
        kind, hint, master = to or (record.kind, record.hint, self._master)
        data_key, store = secrets.token_bytes(KEY), secrets.token_bytes(16)
        self._record = KeyRecord.of(data_key, store, kind, hint, master, database.VERSION)
        self._record.write(link)
        self._use(data_key, store, database.VERSION)
        self.head = Head(number=self.head.number, erasing=True)
        for table, rows in contents.items():
            link.execute(f"DELETE FROM {table}")
            for content in rows:
                self.add(table, content)

    def rotate_master(self, contents: Callable[[], Mapping[str, Sequence[bytes]]], to: KeySource | None) -> None:
        """Replace the master key and the data key, atomically; call `scrub` afterwards.

        Args:
            contents: returns table -> its rows, inside the transaction.
            to: the new source; None replaces the key in its source.
        """
        source = to or self._source
        with self.transaction():
            hint, master = source.renew(self._master) if to is None else source.new()
            self.rewrite(contents(), (source.kind, hint, master))
        self._source, self._master = source, master
        with self.transaction():
            source.settle(master)

    def scrub(self) -> None:
        """Leave no trace of erased rows in free pages and in the write-ahead log.

        Raises:
            InputError: while another process reads; the next process that opens the store tries again.
        """
        with self._lock, database.one_line(self.path):
            link = self._usable()
            link.execute("VACUUM")
            if not database.truncate_log(link):
                raise InputError(
                    f"{self.path}: erased, but sealed traces stay in its write-ahead log while another process reads; "
                    "call it again"
                )
            with self.transaction():
                self.head = replace(self.head, erasing=False)

    def alone(self) -> None:
        """Refuse to run inside an open transaction. Raises: InputError."""
        with self._lock:
            if self._depth:
                raise InputError("this is a transaction of its own; call it after the open one")

    def _usable(self) -> sqlite3.Connection:
        if self._link is None:
            raise InputError(f"{self.path}: the store is closed; open it again")
        if self._pid != os.getpid():
            raise InputError(f"{self.path}: was opened before a fork; open it in the new process")
        return self._link

    def _catch_up(self) -> None:
        """Take what another process changed of key and head."""
        link = self._usable()
        if (version := database.layout_of(link, self.path)) != self._version:
            raise InputError(f"{self.path}: another process changed its layout to {version}; open it again")
        record = KeyRecord.read(link)
        if record != self._record:
            self._unlock(record)
        box = database.value(link, "SELECT sealed FROM head WHERE id = 1")
        if not isinstance(box, bytes):
            raise Damage("its head is missing")
        if box != self._box:
            self.head, self._box = Head.unpacked(self._sealer.open("head", 1, box)), box

    def _unlock(self, record: KeyRecord) -> None:
        source = self._source
        if (record.kind == Passphrase.kind) != (source.kind == Passphrase.kind):
            raise InputError(f"{self.path}: opens with a {record.kind}, and a {source.kind} was given; give the other")
        found = record.opened([self._master], self._version) if self._master else None
        found = found or record.opened(source.keys(record.hint), self._version)
        if found is None:
            raise InputError(f"{self.path}: does not open with this {source.kind}; give the key that it was made with")
        self._master, data_key = found
        self._record = record
        if data_key != self._data_key:
            self._use(data_key, record.store, self._version)

    def _use(self, data_key: bytes, store: bytes, version: int) -> None:
        self._data_key, self._version = data_key, version
        self._sealer, self._box = Sealer(data_key, store, version), b""
        self._tables = {table: Opened() for table in self._tables}

    def _write_head(self) -> None:
        if self.head.seals >= sealer.MOST_SEALS:
            raise InputError(f"{self.path}: its data key has sealed its share of values; call rotate_data_key")
        self.head = replace(self.head, seals=self.head.seals + 1)
        box = self._sealer.seal("head", 1, self.head.packed())
        self._usable().execute("UPDATE head SET sealed = ? WHERE id = 1", (box,))
        self._box = box

    def _migrate(self) -> None:
        target = database.VERSION
        with self.transaction():
            start = self._version
            contents = {
                table: [migrations.converted(start, target, table, content) for content in self.load(table).values()]
                for table in self._tables
            }
            for table in self._tables:
                self._usable().execute(f"DELETE FROM {table}")
            for line in migrations.statements(start, target):
                self._usable().execute(line)
            self.rewrite(contents)
            self._usable().execute(f"PRAGMA user_version={target}")
            database.check_tables(self._usable(), target)
