"""A released model of unknown origin: copied with its digests checked, and tried before it is used."""

import shutil
from pathlib import Path

import numpy as np

from fedrec.errors import InputError, VerificationError
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.history import History
from fedrec.ondevice.lists import Wishes, recommend
from fedrec.ondevice.released import read_manifest
from fedrec.received_files import copy_below

TENSORS, ITEMS, MANIFEST, PUBLIC = "model.safetensors", "items.json", "manifest.json", "public.safetensors"
LARGEST = {TENSORS: 1 << 34, ITEMS: 1 << 32, MANIFEST: 1 << 26, PUBLIC: 1 << 30}
"""Most bytes of each file."""


def copy_model(source: Path, to: Path, public: Path | None) -> None:
    """Copy the files of a released model into an empty folder.

    Args:
        source: of `fedrec.ondevice.released.model_folder`.
        to: the folder.
        public: file of `PublicItems.write`; None for `public.safetensors` in `source`, where there is one.

    Raises:
        InputError: for a file that its manifest does not name by its SHA-256, or that cannot be read.
        VerificationError: for a link, a pipe, a device, or an impossible size.
    """
    manifest, _ = read_manifest(source)
    try:
        digests = {TENSORS: manifest["sha256"], ITEMS: manifest["items"]["sha256"]}
    except (KeyError, TypeError):
        raise InputError(
            f"{source}: a model of an older version, without the ids of its items; release it again"
        ) from None
    for name, digest in digests.items():
        _check_room(source / name, to)
        if copy_below(source, name, to / name, LARGEST[name]) != digest:
            raise InputError(f"{source / name}: is not the file that {MANIFEST} names by its SHA-256; fetch it again")
    if copy_below(source, MANIFEST, to / MANIFEST, LARGEST[MANIFEST]) is None:
        raise InputError(f"{source}: lost its {MANIFEST} while it was copied; try again")
    place = source / PUBLIC if public is None else public
    if copy_below(place.parent, place.name, to / PUBLIC, LARGEST[PUBLIC]) is None and public is not None:
        raise InputError(f"{public}: no such file; name the public features of the items, or leave them out")


def _check_room(file: Path, to: Path) -> None:
    """Refuse a file that the disk cannot hold, before it is full."""
    size = file.lstat().st_size if file.exists() else 0
    if size > LARGEST[file.name]:
        raise VerificationError(f"{file}: is larger than {LARGEST[file.name]:,} bytes; a run has no such file")
    if size > shutil.disk_usage(to).free:
        raise InputError(f"{to}: the disk has no room for {size:,} bytes of {file.name}; free some")


def try_lists(model: DeviceModel, history: History, called: str) -> None:
    """Make the list of a new device and that of `history`.

    Args:
        model: to try.
        history: the person's own.
        called: the release in errors.

    Raises:
        InputError: where there is no list, or a score is no number.
    """
    try:
        with np.errstate(all="ignore"):
            lists = [recommend(model, model.fit(one), Wishes(seen=True)) for one in (History(), history)]
    except (InputError, ValueError, IndexError, KeyError, TypeError, ArithmeticError, MemoryError) as error:
        raise InputError(f"{called}: its model opens and makes no list ({error}); fetch another release") from None
    if not lists[0] or not np.isfinite([entry.score for one in lists for entry in one]).all():
        raise InputError(f"{called}: its model opens and its scores are no numbers; fetch another release")
