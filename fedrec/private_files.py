"""Files that only their owner can read, from their first byte on: private keys."""

import errno
import os
import stat
from pathlib import Path

from fedrec.durable import replace
from fedrec.errors import InputError

_LARGEST = 1 << 20  # bytes of a key's file, far above any


def create(path: Path, content: bytes) -> None:
    """Write `content` to the new file `path`, mode 0600 under any umask, on disk when this returns.

    Raises:
        InputError: when the file exists, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink()  # half a key would stand in the way of a whole one
            raise
    except FileExistsError:
        raise InputError(f"{path}: exists already; a key is never overwritten, choose another file") from None
    except OSError as error:
        raise InputError(f"{path}: the key cannot be written ({error.strerror}); choose another file") from None


def read(path: Path, *, follow: bool = True) -> bytes:
    """The content of a file that nobody else can read.

    Args:
        path: of the file.
        follow: False to refuse a link, and what is no regular file.

    Raises:
        InputError: when others can read it, since they may have done so, or when it cannot be read.
    """
    try:
        own = 0 if follow else os.O_NOFOLLOW | os.O_NONBLOCK
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | own)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not follow and not stat.S_ISREG(mode):
                raise InputError(f"{path}: is no regular file; name the key's own file")
            mode = stat.S_IMODE(mode)
            content = file.read(_LARGEST)
    except OSError as error:
        if not follow and error.errno == errno.ELOOP:
            raise InputError(f"{path}: is a link; name the key's own file") from None
        raise InputError(f"{path}: the key cannot be read ({error.strerror})") from None
    if mode & 0o077:
        raise InputError(
            f"{path}: others can read this key (mode {mode:04o}); `chmod 600 {path}`, or make a new one if they may "
            f"have read it"
        )
    return content


def exchange(path: Path, content: bytes) -> None:
    """Put `content` in the place of what is at `path`, mode 0600; after a crash the old or the new is there."""
    replace(path, content, mode=0o600)
