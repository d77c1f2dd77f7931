"""The ledger: one signed record a line, on disk before anything is released, under a signed tree.

Next to the file of records is `checkpoint`: the number of records and the root of their Merkle tree, signed. Each
record names the root of those before it, so the newest root (the tree's `head`) fixes all records. Signatures prove the
author. A checkpoint kept elsewhere reveals missing records.

`append` returns when the record is on disk. The checkpoint follows it: synced and replaced atomically, but in a fast
run at most once a second, since a second sync would double the time. The files after a crash:

| when | ledger | checkpoint | when it is opened again |
|---|---|---|---|
| while the files are made | none or empty | none, or of no records | a new ledger |
| in the write of a record | a last line without a newline | of those before | the line is dropped, with a warning |
| after it, before the checkpoint | whole | of fewer records | the rest is checked by its signatures, and sealed |
| in the write of the checkpoint | whole | the old one; `.checkpoint.new` is partial | the same |
| after it | whole | of all records | nothing to do |

A dropped line hides nothing, since a release waits for `append`. A crash cannot leave any other state, so a
VerificationError refuses fewer records than the checkpoint, a record that does not follow, a wrong signature, and a
missing checkpoint. The files alone do not reveal that both were cut off at the same older state. The key's own mark
reveals it (`fedrec.audit.log.marks`), unless the owner of the key deletes the mark, too. Witnesses protect against that
(`fedrec audit witness`).
"""

import os
import secrets
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedrec.audit.log import chain as chains
from fedrec.audit.log import checkpoint, envelope, keys
from fedrec.audit.log.chain import Chain
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.envelope import Entry
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.marks import Mark
from fedrec.audit.log.merkle import Frontier
from fedrec.durable import replace, sync
from fedrec.errors import InputError, VerificationError

SEAL_SECONDS = 1.0
"""A fast run writes its checkpoint at most this often."""


class Ledger:
    """The ledger in the file `path`, made if there is none. One writer at a time.

    Args:
        path: of the file.
        key: signs; None for the key of this user (`keys.default_key`).
        run: the id of a new ledger's run; None draws one.

    Attributes:
        chain: all records, for proofs of them (`fedrec.audit.log.proofs`); only `append` changes it.

    Raises:
        VerificationError: when the record was changed, or does not extend the records that the key has signed.
        InputError: when the file cannot be read or made, or another key signs it.
    """

    def __init__(self, path: Path, key: SigningKey | None = None, *, run: str | None = None) -> None:
        self.path = path
        self.key = key or keys.default_key()
        self._sealed_at = -float("inf")
        try:
            chain = self._made_or_read()
            sealed = self._sealed(chain)
            if chain.torn:
                warnings.warn(
                    f"{path}: dropped {chain.torn} bytes of an entry that a crash cut short; nothing was released on "
                    f"it",
                    stacklevel=2,
                )
                with path.open("r+b") as file:
                    file.truncate(chain.size_bytes)
                    os.fsync(file.fileno())
            self.run = sealed.run if sealed else run or secrets.token_hex(8)
            self._entries = [record.entry for record in chain.records]
            self._tree = Frontier(chain.leaves)
            self._size = chain.size_bytes
            self.chain = chain
            self._mark = self._marked(chain)
            if sealed is None or sealed.size < self._tree.size or not sealed.signed_by(self.key.public):
                self._seal()
            if sealed is None:
                sync(path.parent)
                sync(path.parent.parent)
        except OSError as error:
            raise InputError(
                f"{path}: the ledger cannot be opened ({error.strerror}); check folder and rights"
            ) from None
        self._sealed_at = -float("inf")

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    @property
    def head(self) -> str:
        """The root (hex) over all records, which fixes every one; that of the empty tree for an empty ledger."""
        return self._tree.root().hex()

    def append(self, payload: Mapping[str, Any], about: tuple[str, str] | None = None) -> str:
        """Write one record with a JSON `payload`, and return the new head once it is ON DISK: release only then.

        Args:
            payload: the content.
            about: name and SHA-256 (hex) of its subject; None for the ledger so far.

        Raises:
            ValueError: for NaN or infinity.
            InputError: when the record cannot be written.
            VerificationError: when another process has written to the file meanwhile.
        """
        head = self._write(payload, about)
        if time.monotonic() - self._sealed_at >= SEAL_SECONDS:
            self.seal()
        return head

    def rotate(self, new: SigningKey) -> None:
        """Hand over to another key: a record that the old one signs names it, and it signs from then on."""
        self._write({"type": "key", "old": self.key.public.text, "new": new.public.text}, None)
        if self._mark is not None:
            self._mark.sync()
        self.key = new
        self._mark = self._marked(chains.read(self.path.read_bytes()))
        self.seal()

    def seal(self) -> None:
        """Sign a checkpoint of all records and put it in place, on disk.

        Raises:
            InputError: when the checkpoint cannot be written.
        """
        try:
            self._seal()
        except OSError as error:
            raise InputError(
                f"{checkpoint_path(self.path)}: the checkpoint cannot be written ({error.strerror}); free the disk and "
                f"resume"
            ) from None

    def _marked(self, chain: Chain) -> Mark | None:
        """Return the key's mark at the state of this ledger. Raises: VerificationError unless the ledger extends it."""
        if self.key.marks is None:
            return None
        mark = Mark(self.key.marks, self.run)
        with mark.held():
            before = mark.read()
            if before is not None:
                extends = before.size <= len(chain.records) and chain.roots[before.size] == before.root
                if before.run != self.run or not extends:
                    raise self._forked(before, mark.path)
            if before is None or before.size < self._tree.size:
                mark.write(Checkpoint(self.run, self._tree.size, self._tree.root()).signed(self.key))
        return mark

    def _forked(self, mark: Checkpoint, place: Path) -> VerificationError:
        return VerificationError(
            f"{self.path}: this key has signed {mark.size} records of run {self.run}, and the {self._tree.size} here "
            f"are not those or not all: an older state or a second copy of the run; continue the newest ({place})"
        )

    def _write(self, payload: Mapping[str, Any], about: tuple[str, str] | None) -> str:
        if self._mark is None:
            return self._written(payload, about)
        with self._mark.held():
            before = self._mark.read()
            if before is not None and (before.size, before.root) != (self._tree.size, self._tree.root()):
                raise self._forked(before, self._mark.path)
            head = self._written(payload, about)
            self._mark.write(Checkpoint(self.run, self._tree.size, self._tree.root()).signed(self.key))
        return head

    def _written(self, payload: Mapping[str, Any], about: tuple[str, str] | None) -> str:
        record = envelope.signed(len(self._entries), self.head, self.run, payload, about, self.key)
        try:
            with self.path.open("r+b") as file:
                if file.seek(0, os.SEEK_END) != self._size:
                    raise VerificationError(f"{self.path}: somebody else writes to this ledger; give each run its own")
                file.write(record.line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: the charge cannot be written ({error.strerror}), so nothing is released; free the disk "
                f"and resume"
            ) from None
        self._size += len(record.line) + 1
        self._tree.append(record.leaf)
        self._entries.append(record.entry)
        self.chain.add(record, self._tree.root())
        return self.head

    def _seal(self) -> None:
        note = Checkpoint(self.run, self._tree.size, self._tree.root()).signed(self.key).note
        if self._mark is not None:
            self._mark.sync()
        replace(checkpoint_path(self.path), note.encode())
        self._sealed_at = time.monotonic()

    def _made_or_read(self) -> Chain:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab"):
            pass
        chain = chains.read(self.path.read_bytes())
        if chain.fault:
            raise VerificationError(f"{self.path}: {chain.fault}; the ledger was changed, restore it from a copy")
        return chain

    def _sealed(self, chain: Chain) -> Checkpoint | None:
        """Return the checkpoint in the files, after everything was checked against it; None in a new ledger."""
        place = checkpoint_path(self.path)
        try:
            sealed = checkpoint.parsed(place.read_bytes().decode())
        except FileNotFoundError:
            if not chain.records:
                return None
            raise VerificationError(f"{place}: is missing, though records are there; restore it from a copy") from None
        except ValueError:
            raise VerificationError(f"{place}: is no checkpoint; it was changed, restore it from a copy") from None
        size = len(chain.records)
        if sealed.size > size:
            raise VerificationError(
                f"{self.path}: the checkpoint covers {sealed.size} records and {size} are there; restore the ledger"
            )
        if sealed.root != chain.roots[sealed.size] or any(record.run != sealed.run for record in chain.records[:1]):
            raise VerificationError(f"{place}: belongs to other records; restore the files that belong together")
        try:
            in_force = chains.keys(chain.records, chains.first_key(chain.records, self.key.public))
        except ValueError as error:
            raise VerificationError(f"{self.path}: {error}; restore it from a copy") from None
        if size and in_force[-1] != self.key.public:
            raise self._another_key()
        if size and not sealed.signed_by(in_force[sealed.size]):
            raise self._another_key()
        for record, key in list(zip(chain.records, in_force, strict=False))[sealed.size :]:
            if not record.signed_by(key):
                raise VerificationError(f"{self.path}: record {record.index} is not signed by the ledger's key")
        return sealed

    def _another_key(self) -> VerificationError:
        return VerificationError(
            f"{self.path}: is signed by another key than {self.key.public.id}; set {keys.KEY_VARIABLE} to that key's "
            f"file, or hand over with `fedrec audit keys rotate`"
        )


def checkpoint_path(ledger: Path) -> Path:
    """Return the path of a ledger's checkpoint."""
    return ledger.with_name("checkpoint")


def read_ledger(path: Path) -> tuple[tuple[Entry, ...], str]:
    """Read entries and head of another owner's ledger. The file is not touched; a torn last line does not count.

    The chain is checked, but not the signatures, which `fedrec.audit.verify.verification` checks.

    Raises:
        InputError: when there is no such file.
        VerificationError: when the chain is broken.
    """
    try:
        chain = chains.read(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: the ledger cannot be read ({error.strerror})") from None
    if chain.fault:
        raise VerificationError(f"{path}: {chain.fault}; the ledger was changed, restore it from a copy")
    return tuple(record.entry for record in chain.records), chain.head
