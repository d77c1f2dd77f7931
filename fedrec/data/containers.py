"""Containers of tables: plain files, gzip, the one table of a zip archive, or a folder of parts."""

import contextlib
import gzip
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fedrec.errors import InputError
from fedrec.received_files import DAMAGED_ZIP

TEXT = (".csv", ".tsv", ".txt", ".dat", ".data")
JSON = (".jsonl", ".ndjson", ".json")
PARQUET = ".parquet"
FORMATS = (PARQUET, *TEXT, *JSON)
"""Endings of tables, in any case; each may also be gzipped (`.gz`) or the only table in a `.zip`."""

_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
# Narrower than DAMAGED_ZIP: exceptions of the stream's reader pass through the same place.
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError)


def kind(file: Path) -> str:
    """Return the ending that gives the format, in lower case, without `.gz`; for a `.zip` that of its one table."""
    name = file.name.lower()
    if name.endswith(".zip") and file.is_file():
        name = _member(file).lower()
    return PurePosixPath(name.removesuffix(".gz")).suffix


def parts(folder: Path) -> list[Path]:
    """Return the tables of a folder, sorted by name, without files whose name begins with `.` or `_`.

    Raises:
        InputError: when the folder has no table, or tables of several formats.
    """
    found = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name[0] not in "._"]
    tables = [file for file in found if kind(file) in FORMATS]
    kinds = sorted({kind(file) for file in tables})
    if len(kinds) != 1:
        held = f"tables of several formats ({', '.join(kinds)})" if kinds else "no table"
        raise InputError(
            f"{folder}: format not recognised; it holds {held}. A folder holds the parts of one log, all .parquet or "
            "all .csv; or name one file"
        )
    return tables


def located(path: str, folder: Path) -> str:
    """Return `path` in full: `~` is the home folder, and a relative path begins at `folder`.

    Raises:
        InputError: when `~` has no known folder.
    """
    try:
        return os.path.abspath(folder / Path(path).expanduser())
    except RuntimeError:
        raise InputError(f"{path}: no home folder is known for it; write the path in full") from None


def existing(file: Path) -> Path:
    """Return `file` if it has content.

    Raises:
        InputError: when the file is missing or empty.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    if not file.stat().st_size:
        raise InputError(f"{file}: is empty; put the data there, or name another file")
    return file


def content(file: Path) -> bytes:
    """Return the unpacked bytes of `file`.

    Raises:
        InputError: when the file is missing, empty or damaged.
    """
    with opened(existing(file)) as stream:
        return stream.read()


@contextlib.contextmanager
def opened(file: Path) -> Iterator[io.BufferedIOBase]:
    """Open `file` as a stream of bytes, unpacked if it is a `.gz` or `.zip`.

    Raises:
        InputError: when the archive is damaged, also during a later read.
    """
    name = file.name.lower()
    if name.endswith(".zip"):
        with _unzipped(file) as stream:
            yield stream
        return
    try:
        with gzip.open(file) if name.endswith(".gz") else file.open("rb") as stream:
            yield stream
    except _DAMAGED as error:
        raise InputError(f"{file}: not a whole gzip file ({error}); get it again") from None


@contextlib.contextmanager
def _unzipped(file: Path) -> Iterator[io.BufferedIOBase]:
    member = _member(file)
    try:
        with zipfile.ZipFile(file) as archive, archive.open(member) as packed:
            if member.lower().endswith(".gz"):
                with gzip.open(packed) as stream:
                    yield stream
            else:
                yield packed  # type: ignore[misc]
    except _DAMAGED_ZIP as error:
        raise InputError(f"{file}: not a whole zip archive ({error}); get it again") from None


def _member(file: Path) -> str:
    """Return the name of the one table in a zip archive. Raises: InputError unless there is exactly one."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [member.filename for member in archive.infolist() if not member.is_dir()]
    except DAMAGED_ZIP as error:
        raise InputError(f"{file}: not a whole zip archive ({error}); get it again") from None
    shown = [name for name in names if not any(part[0] in "._" for part in PurePosixPath(name).parts)]
    tables = [name for name in shown if PurePosixPath(name.lower().removesuffix(".gz")).suffix in FORMATS]
    if len(tables) != 1:
        held = ", ".join(tables[:4]) or "none of its files is one"
        raise InputError(f"{file}: holds {len(tables)} tables ({held}); unpack it and name the file")
    return tables[0]
