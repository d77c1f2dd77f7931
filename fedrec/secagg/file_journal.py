"""A journal on disk: what a node or a helper must remember of a round, whatever ends its process."""

import hashlib
import os
import secrets
from pathlib import Path

from fedrec.durable import sync

SECRET = 0o600


class FileJournal:
    """A journal of one small file a claim, in a folder of its own.

    A claim is on disk as a whole, or not at all: its file is written under another name and linked to its own, which
    fails where a claim of that name is there.

    Args:
        folder: made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claimed(self, name: bytes) -> bytes | None:
        """Return what is kept under a name; None for nothing."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def claim(self, name: bytes, value: bytes) -> bytes | None:
        """Keep a value under a new name, on disk, and return None; or return the one that is there."""
        before = self.claimed(name)
        if before is not None:
            return before
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._folder / f".{secrets.token_hex(8)}.new"
        try:
            with open(fresh, "wb", opener=lambda path, _: os.open(path, _NEW, SECRET)) as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, self._path(name))
            except FileExistsError:  # another thread or process was faster
                return self._path(name).read_bytes()
        finally:
            fresh.unlink(missing_ok=True)
        sync(self._folder)
        return None

    def _path(self, name: bytes) -> Path:
        return self._folder / hashlib.sha256(name).hexdigest()


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
