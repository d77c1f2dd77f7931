"""Safe unpacking of archives: nothing is written outside the folder, no link is made, and the size is bounded."""

import errno
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from fedrec.errors import InputError
from fedrec.received_files import DAMAGED_ZIP

MOST = 20
"""Most unpacked bytes a packed byte, but always `AT_LEAST` (text packs to a fifth, a zip bomb to a thousandth)."""
AT_LEAST = 1 << 28
_NOT_OF_THE_DISK = (None, errno.EINVAL)
"""Messages with which `zipfile` and bz2 report a damaged archive in an OSError."""


def unpack(file: Path, folder: Path) -> None:
    """Unpack a `.zip` into `folder`, without the single folder that may contain all its files; move any other file.

    Raises:
        InputError: for an archive that is damaged, larger than `MOST` allows, or points outside `folder`; then nothing
            is written outside and the archive is deleted.
    """
    if file.suffix != ".zip":
        shutil.copyfile(file, folder / file.name)
        return
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            paths = [_inside(file, member) for member in members]
            folders = {parent for path in paths for parent in path.parents}
            if len(set(paths)) < len(paths) or not folders.isdisjoint(paths):
                raise InputError(f"{file}: holds two files of one name; it was deleted: get it again")
            if sum(member.file_size for member in members) > max(AT_LEAST, MOST * file.stat().st_size):
                raise InputError(f"{file}: would unpack to far more than it should; it was deleted")
            tops = {path.parts[0] for path in paths}
            strip = len(tops) == 1 and all(len(path.parts) > 1 for path in paths)
            for member, path in zip(members, paths, strict=True):
                target = folder.joinpath(*path.parts[1 if strip else 0 :])
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, target.open("wb") as out:
                    shutil.copyfileobj(packed, out)
    except InputError:
        file.unlink()
        raise
    except (*DAMAGED_ZIP, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NOT_OF_THE_DISK:
            raise
        file.unlink()
        raise InputError(f"{file}: a damaged archive ({error}); it was deleted: get it again") from None


def _inside(file: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0] or link:
        raise InputError(f"{file}: {member.filename!r} points outside of the archive; it was deleted, nothing unpacked")
    return path
