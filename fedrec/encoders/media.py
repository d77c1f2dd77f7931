"""Pictures and sounds of a catalogue: files below its folder, read with limits, since strangers make catalogues too."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fedrec.encoders.recordings import Recording, read_wav
from fedrec.errors import InputError, first_line
from fedrec.extras import named

if TYPE_CHECKING:
    from PIL.Image import Image

BYTES = 64 << 20
"""Largest file of a picture or a sound."""
PIXELS = 40_000_000
"""Largest picture; a small file can unpack to more."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SHORT_SIDE = 512
"""Larger pictures are reduced to it when they are unpacked, so that memory holds a batch; encoders need less."""


class Unreadable(Exception):
    """A file that is no usable picture or sound; the item gets no vector."""


def located(cell: str, folder: Path, row: int, column: str) -> Path:
    """Return the path of a picture or sound, which must be in the catalogue's folder, links followed.

    Args:
        cell: path in the catalogue, relative to `folder`.
        folder: the catalogue's folder.
        row: from 1, for the message.
        column: for the message.

    Raises:
        InputError: for a path out of the folder.
    """
    try:
        root = folder.resolve()
        found = (root / cell).resolve()
    except (OSError, ValueError, RuntimeError):
        found = root.parent  # a loop of links, or a zero byte
    if not found.is_relative_to(root) or found == root:
        raise InputError(
            f"row {row}: '{column}' = '{cell}' leads out of {folder}; pictures and sounds are files below the folder "
            "of the catalogue"
        )
    return found


def content(file: Path) -> bytes:
    """Return a file's bytes. Raises: Unreadable for none, or one that is too large."""
    try:
        if not file.is_file():
            raise Unreadable("no such file")
        if file.stat().st_size > BYTES:
            raise Unreadable(f"larger than {BYTES >> 20} MiB")
        return file.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or "not readable") from None


def picture(data: bytes) -> "Image":
    """Unpack a picture as RGB, reduced to a short side of `SHORT_SIDE`.

    Raises:
        Unreadable: for another format, damage, or more than `PIXELS`.
    """
    with named("data encode"):
        from PIL import Image, UnidentifiedImageError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of sizes that are checked here
            opened = Image.open(io.BytesIO(data), formats=FORMATS)
            if opened.width * opened.height > PIXELS:
                raise Unreadable(f"{opened.width} x {opened.height} pixels are too many")
            opened.draft("RGB", (SHORT_SIDE, SHORT_SIDE))
            unpacked = opened.convert("RGB")
    except UnidentifiedImageError:
        raise Unreadable(f"no picture ({', '.join(FORMATS)})") from None
    except Unreadable:
        raise
    except Exception as error:  # a damaged file may raise anything in the library
        raise Unreadable(first_line(error)) from None
    share = SHORT_SIDE / min(unpacked.size)
    if share >= 1:
        return unpacked
    return unpacked.resize((round(share * unpacked.width), round(share * unpacked.height)), Image.Resampling.BICUBIC)


def sound(data: bytes) -> Recording:
    """Read a WAV file. Raises: Unreadable for another format or damage."""
    try:
        return read_wav(data)
    except ValueError as error:
        raise Unreadable(first_line(error)) from None
