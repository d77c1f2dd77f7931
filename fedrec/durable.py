"""Files that are whole after a crash, whenever it comes."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of files, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Put `content` at `path`, on disk before it takes the place of what was there; a link is replaced, not followed.

    After a crash the old file or the new one is there; that it is the new one is certain once the folder is synced.

    Args:
        mode: permission bits, masked by the umask.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # what a crash left may have another mode
    with open(fresh, "wb", opener=lambda name, flags: os.open(name, flags | os.O_EXCL | os.O_NOFOLLOW, mode)) as file:
        file.write(content)
    sync(fresh)
    os.replace(fresh, path)
