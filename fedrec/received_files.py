"""Files in a folder of unknown origin, read and written without following links.

The maker of a received folder chooses the targets of its links. A read through a link could show or pack a private file
of the reader, and a write could replace one. A named pipe never ends. So each step below the folder is opened relative
to the one before (`openat`) and must be a folder, and the file must be a regular one. The reader names the folder
itself, and may use links for it.
"""

import errno
import hashlib
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from fedrec.durable import replace
from fedrec.errors import InputError, VerificationError

DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # encrypted, or a method that is not known
    ValueError,  # a name that is no text
    IndexError,
)
"""Exceptions of `zipfile` for a damaged archive, in addition to OSError."""
_PART = 1 << 20  # bytes that are copied at once
_LINK = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO)


def read_below(folder: Path, name: str, most: int, *, alone: bool = False) -> bytes | None:
    """The content of the regular file `name` below `folder`; None where there is none.

    Args:
        folder: named by the user.
        name: the file's path in it, with slashes.
        most: most bytes of the file.
        alone: True to refuse a file with a second name (a hard link), which may belong to another user.

    Raises:
        VerificationError: for a link, a pipe or a device, and for a file above `most` bytes.
        InputError: where it cannot be read.
    """
    with _opened(folder, name, alone) as handle:
        if handle is None:
            return None
        with os.fdopen(os.dup(handle), "rb") as file:
            content = file.read(min(os.fstat(handle).st_size, most) + 1)
    if len(content) > most:
        raise _larger(folder, name, most)
    return content


def digest_below(folder: Path, name: str) -> str | None:
    """The SHA-256 (hex) of the regular file `name` below `folder`; None where there is none.

    Raises: as `read_below`.
    """
    with _opened(folder, name, False) as handle:
        if handle is None:
            return None
        with os.fdopen(os.dup(handle), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def copy_below(folder: Path, name: str, to: Path, most: int) -> str | None:
    """Copy the regular file `name` below `folder` to the new file `to`, mode 0600, and sync it.

    Args:
        folder: named by the user.
        name: the file's path in it, with slashes.
        to: of the copy, where nothing is yet.
        most: most bytes of the file.

    Returns:
        The SHA-256 (hex) of what was copied; None where there is no such file.

    Raises:
        VerificationError: as `read_below`.
        InputError: where it cannot be read, or the copy cannot be written.
    """
    with _opened(folder, name, False) as handle:
        if handle is None:
            return None
        digest, left = hashlib.sha256(), most
        if os.fstat(handle).st_size > most:
            raise _larger(folder, name, most)
        try:
            made = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(os.dup(handle), "rb") as file, os.fdopen(made, "wb") as copy:
                while part := file.read(_PART):
                    left -= len(part)
                    if left < 0:
                        raise _larger(folder, name, most)
                    digest.update(part)
                    copy.write(part)
                copy.flush()
                os.fsync(copy.fileno())
        except OSError as error:
            raise InputError(f"{to}: cannot be written ({error.strerror}); check disk and rights") from None
    return digest.hexdigest()


def write_below(folder: Path, name: str, content: bytes, mode: int = 0o644) -> None:
    """Put `content` at `name` below `folder`, in the place of what was there, without following a link.

    Raises:
        VerificationError: for a link on the way.
        InputError: where it cannot be written.
    """
    *parents, last = PurePosixPath(name).parts
    fresh = f".{last}.new"
    try:
        handle = _folder(folder, parents)
        try:
            if fresh in os.listdir(handle):
                os.unlink(fresh, dir_fd=handle)  # what a crash left
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(fresh, flags, mode, dir_fd=handle), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, last, src_dir_fd=handle, dst_dir_fd=handle)
        finally:
            os.close(handle)
    except OSError as error:
        _refuse_links(error, folder, name)
        raise InputError(f"{folder}/{name}: cannot be written ({error.strerror}); check folder and rights") from None


def replace_named(path: Path, content: bytes) -> None:
    """Put `content` at a path that the user named, in the place of what was there; a link is replaced, not followed.

    Raises:
        InputError: where it cannot be written.
    """
    try:
        replace(path, content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another file") from None


def names_below(folder: Path, name: str) -> list[str]:
    """The names in the folder `name` below `folder`, sorted; none where there is no such folder.

    Raises:
        VerificationError: for a link on the way.
    """
    try:
        handle = _folder(folder, list(PurePosixPath(name).parts))
    except FileNotFoundError:
        return []
    except OSError as error:
        _refuse_links(error, folder, name)
        raise InputError(f"{folder}/{name}: cannot be read ({error.strerror})") from None
    try:
        return sorted(os.listdir(handle))
    finally:
        os.close(handle)


def refuse_links(folder: Path) -> None:
    """Raises: VerificationError where anything below `folder` is no regular file and no folder: a link, pipe, device.

    For code that writes into a run's folder in many ways. A folder that is not there holds nothing.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            mode = os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise VerificationError(
                    f"{path}: is a link, pipe or device, and a run's folder holds none; copy the run without it"
                )


def _larger(folder: Path, name: str, most: int) -> VerificationError:
    return VerificationError(f"{folder}/{name}: is larger than {most:,} bytes; a run has no such file")


@contextmanager
def _opened(folder: Path, name: str, alone: bool) -> Iterator[int | None]:
    *parents, last = PurePosixPath(name).parts
    try:
        place = _folder(folder, parents)
        try:
            handle = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
        finally:
            os.close(place)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        _refuse_links(error, folder, name)
        raise InputError(f"{folder}/{name}: cannot be read ({error.strerror})") from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise VerificationError(f"{folder}/{name}: is no regular file, and a run holds nothing else")
        if alone and found.st_nlink > 1:
            raise VerificationError(
                f"{folder}/{name}: is one file with another one elsewhere (a hard link); copy the run's folder first"
            )
        yield handle
    finally:
        os.close(handle)


def _folder(folder: Path, parents: list[str]) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parents:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
    except OSError:
        os.close(handle)
        raise
    return handle


def _refuse_links(error: OSError, folder: Path, name: str) -> None:
    if error.errno in _LINK:
        raise VerificationError(
            f"{folder}/{name}: a link, pipe or device is on the way, and a run's folder holds none; ask for the files"
        ) from None
