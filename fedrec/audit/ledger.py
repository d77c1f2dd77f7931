"""The ledger: what was spent, one JSON line a charge, on disk before anything is released, each line fixed by the next.

A hash chain in the manner of append-only logs: every line holds the SHA-256 of the line before, so the newest hash
(`head`) fixes all that went before it. It shows that nothing was changed afterwards to whoever kept a head; who
wrote it, signatures will tell.

When a ledger is opened:

| what is found | what happens |
|---|---|
| no file, or an empty one | a new ledger |
| a last line without its newline | dropped with a warning: a crash cut the write short, so `append` never returned |
| any other line that does not fit the chain | VerificationError: the file was changed |

A dropped line hides nothing, since a release waits for `append`.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedrec.errors import InputError, VerificationError

BEGINNING = "0" * 64
"""What the first line names as the hash before it."""


class Ledger:
    """The ledger in the file `path`, made if there is none. One writer at a time.

    Raises: VerificationError when the chain is broken, InputError when the file cannot be read or made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            with path.open("ab"):
                pass
            if new:
                sync(path.parent)
            whole, torn = _whole_lines(path)
            if torn:
                warnings.warn(
                    f"{path}: dropped {torn} bytes of an entry that a crash cut short; nothing was released on it",
                    stacklevel=2,
                )
                with path.open("r+b") as file:
                    file.truncate(len(whole))
                    os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"{path}: the ledger cannot be opened ({error.strerror}); check folder and rights"
            ) from None
        self._entries, self._head = _verified(whole, path)
        self._size = len(whole)

    @property
    def entries(self) -> tuple[dict[str, Any], ...]:
        """All entries, oldest first: {"index", "previous", "payload"}, the last being what `append` was given."""
        return tuple(self._entries)

    @property
    def head(self) -> str:
        """SHA-256 (hex) of the last line, which fixes every line; `BEGINNING` for an empty ledger."""
        return self._head

    def append(self, payload: Mapping[str, Any]) -> str:
        """Write one entry with a JSON `payload`, and return the new head once it is ON DISK: release only then.

        Raises: ValueError for NaN or infinity, InputError when it cannot be written, VerificationError when somebody
        else has written to the file meanwhile.
        """
        line = _line(len(self._entries), self._head, payload)
        try:
            with self.path.open("r+b") as file:
                if file.seek(0, os.SEEK_END) != self._size:
                    raise VerificationError(f"{self.path}: somebody else writes to this ledger; give each run its own")
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: the charge cannot be written ({error.strerror}), so nothing is released; free the disk "
                f"and resume"
            ) from None
        self._size += len(line)
        self._head = _hash(line)
        self._entries.append(json.loads(line))
        return self._head


def read_ledger(path: Path) -> tuple[tuple[dict[str, Any], ...], str]:
    """Entries and head of somebody else's ledger. The file is not touched; a torn last line does not count.

    Raises: InputError when there is no such file, VerificationError when the chain is broken.
    """
    try:
        whole, _ = _whole_lines(path)
    except OSError as error:
        raise InputError(f"{path}: the ledger cannot be read ({error.strerror})") from None
    entries, head = _verified(whole, path)
    return tuple(entries), head


def _whole_lines(path: Path) -> tuple[bytes, int]:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    return whole, len(content) - len(whole)


def _verified(content: bytes, path: Path) -> tuple[list[dict[str, Any]], str]:
    entries: list[dict[str, Any]] = []
    head = BEGINNING
    for line in content.splitlines(keepends=True):
        try:
            entry = json.loads(line)
            intact = line == _line(len(entries), head, entry["payload"])
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise VerificationError(
                f"{path}: line {len(entries) + 1} does not follow from the line before; the ledger was changed, "
                f"restore it from a copy"
            )
        entries.append(entry)
        head = _hash(line)
    return entries, head


def _line(index: int, previous: str, payload: Mapping[str, Any]) -> bytes:
    value = {"index": index, "previous": previous, "payload": dict(payload)}
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode("ascii") + b"\n"


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of files, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
