"""The files of releases in a device's folder, and what the device keeps of them.

DEVICE/releases/          mode 0700
  source.json             address, pinned root keys, the root that they signed, and witnesses
  metadata/               newest trusted metadata of each role, kept by python-tuf
  seen.json               the head of each run's ledger that this device saw last
  installed.json          which release is installed
  parts/, new/            an unfinished download; empty after it
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedrec.audit.log.keys import PublicKey, public_key
from fedrec.durable import replace as replace_file
from fedrec.durable import sync
from fedrec.errors import InputError
from fedrec.received_files import read_below
from fedrec.releases.proven import Head

_MOST = 1 << 22


@dataclass(frozen=True)
class Source:
    """Where a device gets releases, and whom it trusts.

    Attributes:
        url: of the folder that `fedrec server publish` writes.
        keys: pinned keys of the root.
        witnesses: keys that must have cosigned each ledger.
        root: the root that the pinned keys signed; empty before the first sync.
    """

    url: str
    keys: tuple[PublicKey, ...]
    witnesses: tuple[PublicKey, ...] = ()
    root: bytes = b""


class ReleasePlaces:
    """The places of releases in a device's folder. Args: device: the folder."""

    def __init__(self, device: Path) -> None:
        self.path = device / "releases"
        self.metadata, self.parts, self.new = self.path / "metadata", self.path / "parts", self.path / "new"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folders and lock them: one process syncs at a time, another one waits. Raises: InputError."""
        try:
            for folder in (self.path, self.metadata, self.metadata / "root_history", self.parts):
                folder.mkdir(exist_ok=True, mode=0o700)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be used ({error.strerror}); check disk and rights") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            for left in self.metadata.glob("tmp*"):  # of a process that was killed
                left.unlink(missing_ok=True)
            yield
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); check disk and rights") from None
        finally:
            os.close(handle)

    def tidy(self) -> None:
        """Remove what a download left."""
        for left in (self.new, self.parts):
            shutil.rmtree(left, ignore_errors=True)

    # ---- whom to trust

    def source(self, url: str | None, keys: Sequence[PublicKey], witnesses: Sequence[PublicKey]) -> Source:
        """Return the source to use: what is given, else what was given at the first sync.

        Args:
            url: None for the known one. A new one is another mirror of the same releases.
            keys: of the root; none for those that are pinned.
            witnesses: none for the known ones.

        Raises:
            InputError: without an address or keys, and for other keys than the pinned ones.
        """
        from fedrec_client.releases.web import checked_url

        known = self._known_source()
        if known is None and (url is None or not keys):
            raise InputError("sync: give the address and the root key of the releases, with --url and --key, once")
        if known is not None and keys and set(keys) != set(known.keys):
            raise InputError(
                f"{self.path}: other root keys are pinned; they change by signed rotation alone. To trust another "
                f"publisher, remove that folder"
            )
        if known is None:
            return Source(checked_url(str(url)), tuple(keys), tuple(witnesses))
        address = known.url if url is None else checked_url(url)
        return replace(known, url=address, witnesses=tuple(witnesses) or known.witnesses)

    def keep_source(self, source: Source) -> None:
        """Keep a source whose root was checked; nothing is pinned before that."""
        value = {
            "url": source.url,
            "keys": [key.text for key in source.keys],
            "witnesses": [key.text for key in source.witnesses],
            "root": source.root.decode(),
        }
        if self._read("source.json") != value:
            self._write("source.json", value)

    def _known_source(self) -> Source | None:
        found = self._read("source.json")
        if found is None:
            return None
        try:
            keys, witnesses = (tuple(map(_key, found[name])) for name in ("keys", "witnesses"))
            if not keys:
                raise ValueError("no key")
            return Source(str(found["url"]), keys, witnesses, found["root"].encode())
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self.damaged("source.json") from None

    # ---- what was seen

    def seen(self, run: str) -> Head | None:
        """Return the head of a run that this device saw last; None for a new run. Raises: InputError."""
        about = (self._read("seen.json") or {}).get(run)
        try:
            return None if about is None else Head(int(about["size"]), str(about["root"]))
        except (KeyError, TypeError, ValueError):
            raise self.damaged("seen.json") from None

    def keep_seen(self, run: str, head: Head) -> None:
        """Keep the head of a run, on disk."""
        known = self._read("seen.json") or {}
        self._write("seen.json", known | {run: {"size": head.size, "root": head.root}})

    def installed(self) -> tuple[str, str] | None:
        """Return the SHA-256 of the installed release's record, and the folder of its model; None where unknown."""
        try:
            found = self._read("installed.json") or {}
        except InputError:
            return None  # the release is installed again, from the parts of the model in use
        record, model = found.get("record"), found.get("model")
        return (record, model) if isinstance(record, str) and isinstance(model, str) else None

    def keep_installed(self, record: str, model: str) -> None:
        """Keep which release is installed."""
        self._write("installed.json", {"record": record, "model": model})

    def _read(self, name: str) -> dict[str, Any] | None:
        content = read_below(self.path, name, _MOST)
        if content is None:
            return None
        try:
            found = json.loads(content)
            if isinstance(found, dict):
                return found
        except (ValueError, RecursionError):
            pass
        raise self.damaged(name)

    def damaged(self, name: str) -> InputError:
        """Return the error for a damaged file."""
        return InputError(f"{self.path}/{name}: damaged; remove that folder and sync with --url and --key")

    def _write(self, name: str, value: dict[str, Any]) -> None:
        self._put(name, json.dumps(value).encode())

    def _put(self, name: str, content: bytes) -> None:
        replace_file(self.path / name, content, 0o600)
        sync(self.path)


def _key(text: object) -> PublicKey:
    if not isinstance(text, str):
        raise ValueError("no key")
    try:
        return public_key(text)
    except InputError as error:
        raise ValueError(str(error)) from None
