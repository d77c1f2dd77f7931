"""High-water marks: the last state of each ledger that a key signed, kept next to the key and not next to the ledger.

A run's folder that was rolled back to an older state, or a second copy of it, is consistent in itself. The mark does
not move with the folder. It is the newest checkpoint (`fedrec.audit.log.checkpoint`) that the key signed of each run. A
key signs a record only if the ledger has exactly the records of its mark.

| when a crash comes | ledger | mark | when it is opened again |
|---|---|---|---|
| before the record is on disk | n records | n | nothing to do; a torn line is dropped |
| after it, before the mark | n + 1 | n | the ledger extends the mark, which follows |
| after the mark | n + 1 | n + 1 | nothing to do |

Nothing is released on a record before both are written. So if another record can replace one, nothing was released on
it. A mark survives the process at once. It is synced with the ledger's checkpoint, in a fast run once a second. After a
power failure it may be one second behind, and a roll-back within that second is not noticed.

The marks are files in `KEY.signed/` (or FEDREC_KEY_MARKS). Without its file, the mark of a run is gone. So marks stop
mistakes, and attackers who can change folders but not reach the key. Older copies and witnesses protect against the
owner of the key.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedrec.audit.log import checkpoint
from fedrec.audit.log.chain import Chain
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import PublicKey, marks_folder
from fedrec.durable import sync
from fedrec.errors import InputError, VerificationError

_LARGEST = 4096


class Mark:
    """The mark of one key for one run.

    Args:
        folder: the folder of the key's marks, made if needed.
        run: the run's id.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.path = folder / f"{run}.note"
        try:
            fresh = not folder.is_dir()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._file = os.fdopen(handle, "r+b", buffering=0)
            for place in (folder, *([folder.parent] if fresh else [])):
                sync(place)
        except OSError as error:
            raise InputError(
                f"{self.path}: the key's mark cannot be written ({error.strerror}), so nothing is signed; set "
                f"FEDREC_KEY_MARKS to a folder that can be"
            ) from None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the mark against other processes that sign with the key."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def read(self) -> Checkpoint | None:
        """Return the newest checkpoint that the key signed; None for a run that it never signed.

        Raises:
            VerificationError: for a damaged mark.
        """
        return _parsed(os.pread(self._file.fileno(), _LARGEST, 0), self.path)

    def write(self, signed: Checkpoint) -> None:
        """Put a newer checkpoint in place; other processes see it when this returns."""
        content = signed.note.encode()
        os.pwrite(self._file.fileno(), content, 0)
        os.ftruncate(self._file.fileno(), len(content))

    def sync(self) -> None:
        """Write the mark to disk, and return then."""
        os.fdatasync(self._file.fileno())


def contradictions(chain: Chain, in_force: Sequence[PublicKey] | None = None) -> list[str]:
    """List the contradictions between a ledger and this user's own mark; empty where there is no mark of the run.

    Args:
        chain: the ledger, at least one record.
        in_force: the ledger's keys; None if unknown. A mark that none of them signed does not count.

    Raises:
        VerificationError: for a damaged mark.
    """
    run = chain.records[0].run
    path = marks_folder() / f"{run}.note"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    with os.fdopen(handle, "rb") as file:
        mark = _parsed(file.read(_LARGEST), path)
    if mark is None or mark.run != run:
        return []
    if in_force is not None and not any(mark.signed_by(key) for key in in_force):
        return []
    if mark.size > len(chain.records):
        return [
            f"your own key signed {mark.size} records of run {run} and {len(chain.records)} are here: rolled back, or "
            f"an older copy ({path})"
        ]
    if chain.roots[mark.size] != mark.root:
        return [f"your own key signed other records of run {run} than the first {mark.size} here: a fork ({path})"]
    return []


def _parsed(content: bytes, path: Path) -> Checkpoint | None:
    if not content:
        return None
    try:
        return checkpoint.parsed(content.decode())
    except ValueError:
        raise VerificationError(
            f"{path}: the key's mark was damaged; if the run's ledger is the newest, delete the mark"
        ) from None
