"""The files of a release, put together from parts: of the installed model where they are the same, else fetched.

A finished part is under its SHA-256 in `parts/`, an unfinished one under `SHA256.part`, so a later try continues. What
the server sent before it failed counts only when the whole part has its digest.
"""

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fedrec.durable import sync
from fedrec.errors import InputError, VerificationError
from fedrec.releases import record
from fedrec.releases.parts import Part, cut
from fedrec.releases.record import Release
from fedrec_client.releases.places import ReleasePlaces
from fedrec_client.releases.web import Missing, TooSlow, Unreachable, WebServer

TRIES = 4
"""Tries of a part, with 1, 2 and 4 seconds between them, each varied by half."""

Progress = Callable[[int, int], None]
"""Gets bytes that are here, and bytes of the release."""


@dataclass(frozen=True)
class Fetched:
    """A release on the disk. Attributes: folder: with its files; from_server: bytes that were downloaded."""

    folder: Path
    from_server: int


def fetch(
    release: Release,
    places: ReleasePlaces,
    server: WebServer,
    installed: Path | None,
    progress: Progress,
) -> Fetched:
    """Put the files of a release together.

    Args:
        release: a checked record.
        places: of the device, locked.
        server: of the releases.
        installed: folder of the model in use, whose parts are not fetched; None without.
        progress: is called after each part.

    Raises:
        InputError: where the server cannot be reached, or the disk has no room.
        VerificationError: for a part or a file with another digest.
    """
    wanted = {part.sha256: part for file in release.files for part in file.parts}
    for left in places.parts.iterdir():
        if left.name.removesuffix(".part").removesuffix(".etag") not in wanted:
            left.unlink()
    free = shutil.disk_usage(places.path).free
    if 3 * release.size > free:
        raise InputError(f"{places.path}: the disk has no room for {release.size:,} bytes three times; free some")
    missing = {digest: part for digest, part in wanted.items() if not _whole(places.parts / digest, part)}
    if installed is not None:
        _take(missing, installed, release, places.parts)
    before, left_over = server.received, sum(part.size for part in missing.values())
    for part in missing.values():
        progress(release.size - left_over, release.size)
        _fetch_part(part, places.parts, server)
        left_over -= part.size
    progress(release.size, release.size)
    return Fetched(_together(release, places), server.received - before)


def _take(missing: dict[str, Part], installed: Path, release: Release, to: Path) -> None:
    """Copy the parts of an older model's files that are wanted."""
    for file in release.files:
        old = installed / file.name
        if not missing or not old.is_file() or old.is_symlink():
            continue
        try:
            for part, content in cut(old):
                if missing.pop(part.sha256, None) is not None:
                    _write(to / part.sha256, [content])
        except InputError:
            continue  # a damaged old file has nothing to give


def _fetch_part(part: Part, to: Path, server: WebServer) -> None:
    unfinished, tag = to / f"{part.sha256}.part", to / f"{part.sha256}.etag"
    for attempt in range(TRIES):
        if attempt:
            time.sleep(2.0 ** (attempt - 1) * random.uniform(0.5, 1.5))
        try:
            _continue(part, unfinished, tag, server)
        except Unreachable as error:
            if attempt == TRIES - 1 or isinstance(error, TooSlow):
                raise
            continue
        except Missing as error:
            raise Unreachable(f"{server.url}: lacks a part of its release (status {error.status})") from None
        tag.unlink(missing_ok=True)
        if _whole(unfinished, part):
            sync(unfinished)
            os.replace(unfinished, to / part.sha256)
            return
        unfinished.unlink(missing_ok=True)
    raise VerificationError(f"{server.url}: a part of the release is not the signed one; do not trust this server")


def _continue(part: Part, place: Path, tag: Path, server: WebServer) -> None:
    """Fetch what is missing of a part, from the server's start where it has no ranges."""
    have = place.stat().st_size if place.is_file() else 0
    if have >= part.size:
        place.unlink()
        have = 0
    known = tag.read_text() if have and tag.is_file() else None
    with server.get(f"{record.PARTS}/{part.sha256}", part.size, have, known) as answer:
        if answer.etag is not None:
            tag.write_text(answer.etag)
        else:
            tag.unlink(missing_ok=True)
        with place.open("r+b" if answer.start else "wb") as file:
            file.seek(answer.start)
            for block in answer.blocks:
                file.write(block)
    if place.stat().st_size < part.size:
        raise Unreachable(f"{server.url}: ended a download early; try again later")


def _together(release: Release, places: ReleasePlaces) -> Path:
    """Write the files of the release from their parts into an empty folder."""
    shutil.rmtree(places.new, ignore_errors=True)
    places.new.mkdir(mode=0o700)
    for file in release.files:
        _write(places.new / file.name, ((places.parts / part.sha256).read_bytes() for part in file.parts))
        with (places.new / file.name).open("rb") as made:
            if hashlib.file_digest(made, "sha256").hexdigest() != file.sha256:
                raise VerificationError(f"{file.name}: its parts do not give the signed file; ask its publisher")
    return places.new


def _whole(place: Path, part: Part) -> bool:
    if not place.is_file() or place.is_symlink() or place.stat().st_size != part.size:
        return False
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == part.sha256


def _write(place: Path, blocks: Iterable[bytes]) -> None:
    with place.open("wb") as file:
        for block in blocks:
            file.write(block)
    sync(place)
