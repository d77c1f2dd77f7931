"""The one file of `fedrec audit export`, read with distrust.

A small zip can unpack to any size. Its table of contents may contain wrong sizes, a name twice, or millions of names.
So the table must be short, only known names are read, and unpacked bytes are counted.
"""

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from fedrec.errors import InputError, VerificationError
from fedrec.received_files import DAMAGED_ZIP

MOST_PACKED = 256 << 20
"""Bytes of the file."""
MOST_UNPACKED = 1 << 30
"""Most bytes of all files that are read; the model is hashed while it is unpacked, and not kept."""
MOST_NAMES = 1000
_TABLE = 1 << 18  # bytes of the table of contents
_CHUNK = 1 << 20
_END = struct.Struct("<4s4H2LH")


def unpacked(
    path: Path, most: Callable[[str], int | None], hashed: frozenset[str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the content of the known files, and the SHA-256 (hex) of files that are only hashed, by name.

    Args:
        path: the file, named by the user.
        most: largest size in bytes of the file of that name; None for a name that is not read.
        hashed: names of files that are hashed and not kept.

    Raises:
        InputError: when the file is no undamaged zip.
        VerificationError: for a zip that no export writes.
    """
    try:
        with path.open("rb") as file:
            _check(path, file.fileno())
            with zipfile.ZipFile(file) as archive:
                return _read(path, archive, most, hashed)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such run; give a run's folder or an exported file") from None
    except DAMAGED_ZIP:
        raise InputError(f"{path}: neither a run's folder nor an undamaged file of `fedrec audit export`") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or 'damaged'})") from None


def _check(path: Path, handle: int) -> None:
    """Refuse a file that is not regular, is too large, or has a table of contents that no export has."""
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: neither a run's folder nor a file")
    if found.st_size > MOST_PACKED:
        raise InputError(f"{path}: is larger than {MOST_PACKED >> 20} MB; no export is")
    end = os.pread(handle, _END.size, max(0, found.st_size - _END.size))
    before = os.pread(handle, 4, max(0, found.st_size - _END.size - 20))
    if len(end) < _END.size:
        raise zipfile.BadZipFile
    signature, _, _, _, _, size, _, comment = _END.unpack(end)
    if signature != b"PK\x05\x06" or comment or before == b"PK\x06\x07" or size > _TABLE:
        raise zipfile.BadZipFile


def _read(
    path: Path, archive: zipfile.ZipFile, most: Callable[[str], int | None], hashed: frozenset[str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    entries = archive.infolist()
    if len(entries) > MOST_NAMES:
        raise VerificationError(f"{path}: holds {len(entries):,} files; no export does")
    if len({entry.filename for entry in entries}) < len(entries):
        raise VerificationError(f"{path}: holds a file twice, so that two readers could see two ledgers")
    files: dict[str, bytes] = {}
    digests: dict[str, str] = {}
    left = MOST_UNPACKED
    for entry in entries:
        name, largest = entry.filename, most(entry.filename)
        if name not in hashed and largest is None:
            continue
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise VerificationError(f"{path}: {name} is encrypted or packed in a way that no export uses")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise VerificationError(f"{path}: {name} is a link; no export holds one")
        digest, kept, size = hashlib.sha256(), [], 0
        with archive.open(entry) as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > left or (largest is not None and size > largest):
                    raise VerificationError(f"{path}: {name} is larger when unpacked than any export's")
                digest.update(chunk)
                if name not in hashed:
                    kept.append(chunk)
        left -= size
        digests[name] = digest.hexdigest()
        if name not in hashed:
            files[name] = b"".join(kept)
    return files, digests
