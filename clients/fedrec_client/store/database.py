"""The SQLite file of a store: its layout, its settings, and its errors in one line.

Layout 1, all values but the first five columns sealed:

| table | columns | content |
|---|---|---|
| `key` | id = 1, store, kind, hint, wrapped | the store's random id, the key's source, the wrapped data key |
| `spare` | as `key` | the same again, on another page, for `salvage` |
| `head` | id = 1, sealed | next number, count and sum of each table, seals so far |
| `rows` | id (random), sealed | one event each |
| `states` | id (random), sealed | name and value of a private state each |
"""

import contextlib
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fedrec.durable import sync
from fedrec.errors import InputError, VerificationError
from fedrec_client.store.damage import Damage

VERSION = 1
APPLICATION = 0x46524543  # "FREC", in the file's header
PAGE = 4096
"""Bytes of a page."""
_KEY = "(id INTEGER PRIMARY KEY, store BLOB, kind TEXT, hint BLOB, wrapped BLOB)"
_SEALED = "(id INTEGER PRIMARY KEY, sealed BLOB)"
LAYOUTS = {1: {"key": _KEY, "spare": _KEY, "head": _SEALED, "rows": _SEALED, "states": _SEALED}}
"""Version -> table -> its columns."""
_LEFT = 3600  # seconds after which the start of a store is a crash's
_CHECKPOINT = 256  # pages of the write-ahead log, 1 MiB
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DISK = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
}


@contextlib.contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into errors of one line: where, what, how to fix it."""
    try:
        yield
    except Damage as error:
        raise damaged(path, str(error)) from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            raise InputError(f"{path}: another process is using the store; try again") from None
        if code in _DISK:
            raise InputError(f"{path}: cannot be used ({error}); check disk and rights") from None
        raise damaged(path, str(error)) from None


def damaged(path: Path, why: str) -> VerificationError:
    """Make the error of a store that was damaged or edited."""
    return VerificationError(f"{path}: damaged ({why}); restore a copy, or save what still opens with salvage")


def connect(path: Path, timeout: float) -> sqlite3.Connection:
    """Open an existing file with the settings of a store.

    Args:
        timeout: seconds to wait for another process.

    Raises:
        InputError, sqlite3.Error.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is a link or no regular file; name the store's own file")
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        os.chmod(path, 0o600)
    link = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    try:
        for setting in ("trusted_schema=OFF", "cell_size_check=ON", "secure_delete=ON", "temp_store=MEMORY"):
            link.execute(f"PRAGMA {setting}")
        link.execute("PRAGMA synchronous=FULL")
        link.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
        if value(link, "PRAGMA application_id") != APPLICATION:
            raise InputError(f"{path}: is empty or no store of fedrec; name another file, or restore a copy")
        if value(link, "PRAGMA journal_mode=WAL") != "wal":
            raise InputError(f"{path}: this file system has no shared memory for SQLite; use a local disk")
    except BaseException:
        link.close()
        raise
    return link


def value(link: sqlite3.Connection, statement: str) -> object:
    """Return the first value that a statement gives."""
    found = link.execute(statement).fetchone()
    return None if found is None else found[0]


def layout_of(link: sqlite3.Connection, path: Path) -> int:
    """Return the version of a file's layout.

    Raises:
        InputError: for a version of a newer fedrec.
    """
    version = value(link, "PRAGMA user_version")
    assert isinstance(version, int)
    if version > VERSION:
        raise InputError(f"{path}: has layout {version}, and this fedrec reads up to {VERSION}; update fedrec")
    return version


def check_tables(link: sqlite3.Connection, version: int) -> None:
    """Refuse a file with other tables than a store's: a trigger or a view could act on each write.

    Raises:
        Damage.
    """
    tables = LAYOUTS.get(version, {})
    found = {(kind, name, text) for kind, name, text in link.execute("SELECT type, name, sql FROM sqlite_schema")}
    if found != {("table", name, f"CREATE TABLE {name}{columns}") for name, columns in tables.items()}:
        raise Damage("its tables are not those of a store")


def create(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Make a whole store at `path`, mode 0600, or leave the one that another process made first.

    A crash leaves no half store: the file gets its name when it is complete and synced.

    Args:
        fill: writes the first content, in a transaction.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.new-{secrets.token_hex(8)}")
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        link = sqlite3.connect(fresh, isolation_level=None)
        try:
            link.execute(f"PRAGMA page_size={PAGE}")
            link.execute("BEGIN IMMEDIATE")
            link.execute(f"PRAGMA application_id={APPLICATION}")
            link.execute(f"PRAGMA user_version={VERSION}")
            for name, columns in LAYOUTS[VERSION].items():
                link.execute(f"CREATE TABLE {name}{columns}")
            fill(link)
            link.execute("COMMIT")
            link.execute("PRAGMA journal_mode=WAL")
        finally:
            link.close()
        sync(fresh)
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(fresh, path)
        fresh.unlink()
        for left in path.parent.glob(f".{path.name}.new-*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _LEFT:  # a crash left it
                    left.unlink()
        sync(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror}); choose another folder") from None


def truncate_log(link: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and empty it; return False while another process reads."""
    busy, _, _ = link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy
