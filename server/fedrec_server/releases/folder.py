"""The folder that devices fetch releases from: the signed roles of the TUF specification, and content-addressed files.

    DIR/
      metadata/   N.root.json, N.targets.json, N.snapshot.json, timestamp.json
      targets/    SHA256.release.json
      parts/      each part of a file under its SHA-256

The metadata are those of python-tuf, so any client of the specification (1.0) reads them. A part is written before the
record that names it, and `timestamp.json` last: a device that fetches meanwhile gets the old release or the new one.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import FormatError
from tuf.api.exceptions import RepositoryError, StorageError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fedrec.audit.log.keys import PublicKey, SigningKey
from fedrec.durable import replace, sync
from fedrec.errors import InputError, VerificationError
from fedrec.releases import record
from fedrec.releases.record import Release
from fedrec_server.releases.roles import KeySigner, RoleKeys

METADATA, TARGETS = "metadata", "targets"
KEPT = 3
"""Newest releases that stay in a folder."""


@dataclass(frozen=True)
class Lifetimes:
    """How long the statements of each role are valid.

    Attributes:
        root: of the keys.
        targets: of the release and of the snapshot.
        timestamp: of the statement that this release is the newest; `renew` extends it.
    """

    root: timedelta = timedelta(days=730)
    targets: timedelta = timedelta(days=180)
    timestamp: timedelta = timedelta(days=7)


class ReleaseFolder:
    """A folder of releases.

    Args:
        path: of the folder.
        now: the current time, UTC; None for that of the clock.
        lifetimes: of what is signed.
    """

    def __init__(self, path: Path, now: datetime | None = None, lifetimes: Lifetimes | None = None) -> None:
        self.path, self._lifetimes = path, lifetimes or Lifetimes()
        self._now = (now or datetime.now(UTC)).replace(microsecond=0)

    @property
    def begun(self) -> bool:
        """Whether the folder has a root."""
        return (self.path / METADATA / "1.root.json").is_file()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folder and lock it: one process publishes at a time. Raises: InputError."""
        try:
            for name in (METADATA, TARGETS, record.PARTS):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be made ({error.strerror}); choose another folder") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); check disk and rights") from None
        finally:
            os.close(handle)

    # ---- keys

    def begin(self, roots: Sequence[SigningKey], keys: RoleKeys) -> None:
        """Sign the first root.

        Args:
            roots: the private keys of the root role.
            keys: of all roles.
        """
        self._write_root(keys.root(1, self._until(self._lifetimes.root)), roots)

    def rotate(
        self,
        signers: Sequence[SigningKey],
        online: SigningKey,
        *,
        roots: Sequence[SigningKey] = (),
        threshold: int | None = None,
        ledgers: Sequence[PublicKey] = (),
    ) -> int:
        """Replace keys: a new root, signed by the keys of before and by the new ones, and all other roles anew.

        Args:
            signers: private keys of the root of before, at least its threshold.
            online: release key from now on.
            roots: all keys of the new root role; none to keep those of before.
            threshold: how many of them must sign a later root; None for that of before.
            ledgers: all keys of ledgers from now on; none to keep those of before.

        Returns:
            Version of the new root.

        Raises:
            InputError: for too few keys.
        """
        old = self._root().signed
        before = RoleKeys.of(old)
        after = RoleKeys(
            tuple(key.public for key in roots) or before.roots,
            before.threshold if threshold is None else threshold,
            online.public,
            tuple(ledgers) or before.ledgers,
        )
        for keys, which in ((before, "its root"), (after, "the new root")):
            given = {key.public for key in (*signers, *roots)} & set(keys.roots)
            if len(given) < keys.threshold:
                raise InputError(
                    f"{self.path}: {which} needs {keys.threshold} of its keys to sign, and {len(given)} are here; give "
                    "them with --root-key"
                )
        valid = {*before.roots, *after.roots}
        made = after.root(old.version + 1, self._until(self._lifetimes.root))
        self._write_root(made, [key for key in (*signers, *roots) if key.public in valid])
        if self._versions(Targets.type):
            self._sign_all(self._load(Targets.type).signed, online)
        return made.version

    def check_keys(self, online: PublicKey, ledger: PublicKey | None = None) -> None:
        """Refuse a key that is not the release key, or not one of ledgers. Raises: InputError."""
        keys = RoleKeys.of(self._root().signed)
        if online != keys.online:
            raise InputError(f"{self.path}: its release key is {keys.online.id}, not {online.id}; give it with --key")
        if ledger is not None and ledger not in keys.ledgers:
            raise InputError(
                f"{self.path}: its root does not name the ledger's key {ledger.id}; add it with `fedrec server rotate "
                f"--ledger-key {ledger.text}` (repeat it for those of before)"
            )

    @property
    def root_until(self) -> datetime:
        """The time at which the root expires, UTC."""
        until: datetime = self._root().signed.expires
        return until

    # ---- releases

    def newest(self) -> Release | None:
        """Return the record of the newest release; None before the first. Raises: InputError for a damaged folder."""
        if not (self.path / METADATA / "timestamp.json").is_file():
            return None
        about = self._load(Targets.type).signed.targets[record.TARGET]
        (digest,) = about.hashes.values()
        try:
            return record.parsed((self.path / TARGETS / f"{digest}.{record.TARGET}").read_bytes())
        except OSError as error:
            raise InputError(f"{self.path}: lost its release ({error.strerror}); publish into a new folder") from None

    def add_part(self, digest: str, content: bytes) -> bool:
        """Write a part unless it is there; return whether it was written."""
        place = self.path / record.PARTS / digest
        if place.is_file() and place.stat().st_size == len(content):
            return False
        replace(place, content)
        return True

    def add(self, release: Release, online: SigningKey, keep: int = KEPT) -> None:
        """Sign a release as the newest, and remove what only old releases need.

        Args:
            release: its parts are there already.
            online: the release key.
            keep: newest releases whose parts stay, for devices that download one now.
        """
        content = release.content()
        if len(content) > record.LARGEST:
            raise InputError(f"the release's record has {len(content):,} bytes, more than {record.LARGEST:,}")
        about = TargetFile.from_data(record.TARGET, content, ["sha256"])
        replace(self.path / TARGETS / f"{about.hashes['sha256']}.{record.TARGET}", content)
        sync(self.path / record.PARTS)
        sync(self.path / TARGETS)
        version = self._version(Targets.type)
        targets = Targets(version, expires=self._until(self._lifetimes.targets), targets={record.TARGET: about})
        self._sign_all(targets, online, bump=False)
        self._remove_old(keep)

    def _remove_old(self, keep: int) -> None:
        known = []
        for file in (self.path / TARGETS).glob(f"*.{record.TARGET}"):
            try:
                found = record.parsed(file.read_bytes())
            except VerificationError:
                return  # of another version: nobody here knows which parts it needs
            known.append((found.sequence, file, {part.sha256 for each in found.files for part in each.parts}))
        known.sort(key=lambda entry: entry[0], reverse=True)
        used = set().union(*(parts for _, _, parts in known[:keep]))
        old = [file for _, file, _ in known[keep:]]
        old += [file for file in (self.path / record.PARTS).iterdir() if file.name not in used]
        for role in (Targets.type, Snapshot.type):
            last = self._version(role) - 1
            old += [file for file in self._versions(role) if int(file.name.split(".")[0]) <= last - keep]
        for file in old:
            file.unlink()

    def renew(self, online: SigningKey) -> datetime:
        """Sign again that the newest release is the newest, and the release where half of its time is over.

        Returns:
            The time until which the statement is valid, UTC.

        Raises:
            InputError: before the first release.
        """
        if self.newest() is None:
            raise InputError(f"{self.path}: holds no release; publish one first")
        targets = self._load(Targets.type).signed
        if targets.expires < self._now + self._lifetimes.targets / 2:
            return self._sign_all(targets, online)
        return self._sign_timestamp(self._load(Snapshot.type).signed.version, online)

    # ---- signing

    def _sign_all(self, targets: Targets, online: SigningKey, *, bump: bool = True) -> datetime:
        if bump:
            targets.version += 1
            targets.expires = self._until(self._lifetimes.targets)
        content = self._write(targets, f"{targets.version}.targets.json", [online])
        version = self._version(Snapshot.type)
        meta = {"targets.json": MetaFile.from_data(targets.version, content, ["sha256"])}
        snapshot = Snapshot(version, expires=self._until(self._lifetimes.targets), meta=meta)
        self._write(snapshot, f"{version}.snapshot.json", [online])
        return self._sign_timestamp(version, online)

    def _sign_timestamp(self, snapshot: int, online: SigningKey) -> datetime:
        version, until = 1, self._until(self._lifetimes.timestamp)
        if (self.path / METADATA / "timestamp.json").is_file():
            version = self._load(Timestamp.type).signed.version + 1
        content = (self.path / METADATA / f"{snapshot}.snapshot.json").read_bytes()
        about = MetaFile.from_data(snapshot, content, ["sha256"])
        timestamp = Timestamp(version, expires=until, snapshot_meta=about)
        sync(self.path / METADATA)
        self._write(timestamp, "timestamp.json", [online])
        sync(self.path / METADATA)
        return until

    def _version(self, role: str) -> int:
        return max((int(file.name.split(".")[0]) for file in self._versions(role)), default=0) + 1

    def _versions(self, role: str) -> list[Path]:
        files = (self.path / METADATA).glob(f"*.{role}.json")
        return [file for file in files if file.name.split(".")[0].isdigit()]

    def _load(self, role: str) -> Any:
        name = "timestamp.json" if role == Timestamp.type else f"{self._version(role) - 1}.{role}.json"
        try:
            found = Metadata.from_file(str(self.path / METADATA / name))
        except (DeserializationError, FormatError, StorageError, RepositoryError, OSError) as error:
            raise InputError(f"{self.path}/{METADATA}/{name}: damaged ({error}); restore the folder") from None
        return found

    def _root(self) -> "Metadata[Root]":
        found: Metadata[Root] = self._load(Root.type)
        return found

    def _write_root(self, root: Root, signers: Sequence[SigningKey]) -> None:
        self._write(root, f"{root.version}.root.json", signers)

    def _write(self, signed: Any, name: str, signers: Sequence[SigningKey]) -> bytes:
        made = Metadata(signed)
        for key in {key.public.id: key for key in signers}.values():
            made.sign(KeySigner(key), append=True)
        content = made.to_bytes()
        replace(self.path / METADATA / name, content)
        return content

    def _until(self, time: timedelta) -> datetime:
        return self._now + time
