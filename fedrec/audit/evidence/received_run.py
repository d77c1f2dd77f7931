"""A run as an auditor receives it: a folder, or the one file that `fedrec audit export` makes of it."""

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedrec.audit.evidence import archive
from fedrec.audit.evidence.layout import RELEASED, Layout, listing
from fedrec.audit.log import chain as chains
from fedrec.audit.log import checkpoint as checkpoint_note
from fedrec.audit.log.checkpoint import Older
from fedrec.audit.log.keys import PublicKey, public_key_in
from fedrec.errors import InputError, VerificationError
from fedrec.received_files import digest_below, names_below, read_below

LEDGER = "privacy/ledger.jsonl"
CHECKPOINT = "privacy/checkpoint"
PUBLIC_KEY = "privacy/ledger.pub"
STATEMENT = "privacy/statement.json"
MODEL = "model/model.safetensors"
LARGEST_LEDGER = 64 << 20
"""Most bytes of a ledger: some 50,000 charges."""
EXPORTED: Mapping[str, int] = {
    LEDGER: LARGEST_LEDGER,
    CHECKPOINT: 1 << 16,
    PUBLIC_KEY: 1 << 16,
    STATEMENT: 16 << 20,
    "privacy/statement.md": 16 << 20,
    "scenario.toml": 4 << 20,
    "model/manifest.json": 4 << 20,
}
"""The files of an export -> their most bytes."""
_WITNESSED = re.compile(r"privacy/witness-[0-9A-Za-z_-]{1,64}\.note")
_MOST_WITNESSES = 100
OLDER_VERSIONS = ("history.csv", "summary.json")
"""Private files that runs of older versions keep next to the others, under plain digests."""


@dataclass(frozen=True)
class Evidence:
    """The files of a received run by their path in `release/`, and the SHA-256 of all files that a run writes there.

    Attributes:
        names: paths of all files, known or not.
        private: the private folder, None if it was not handed over.
    """

    place: str
    files: Mapping[str, bytes]
    digests: Mapping[str, str]
    exported: bool = False
    names: tuple[str, ...] = ()
    private: Path | None = None

    @property
    def ledger(self) -> bytes:
        """The ledger's content."""
        return self.files[LEDGER]

    def own_key(self, asked: str, remedy: str) -> PublicKey:
        """Return the public key that came with the run. It reveals damage, but not the author of the record.

        Args:
            asked: name of the command, for the message.
            remedy: how to give a key instead, for the message.

        Raises:
            InputError: when the run has no key, or the file is no key.
        """
        if PUBLIC_KEY not in self.files:
            raise InputError(f"{asked}: {self.place} holds no {PUBLIC_KEY}; give {remedy}")
        return public_key_in(self.files[PUBLIC_KEY], PUBLIC_KEY)


def received(path: Path, *, alone: bool = False) -> Evidence:
    """Read the run at `path`: a folder or an exported file.

    Args:
        path: named by the user.
        alone: refuse files of a folder that have another name elsewhere (hard links).

    Raises:
        InputError: when `path` is neither.
        VerificationError: when it contains links, pipes or files that are far too large, which no run has.
    """
    if path.is_dir():
        return _folder(path, alone)
    files, digests = archive.unpacked(path, _most, frozenset({MODEL}))
    if LEDGER not in files:
        raise InputError(f"{path}: holds no {LEDGER}; was it made by `fedrec audit export`?")
    return Evidence(str(path), files, digests, exported=True)


def export(path: Path) -> bytes:
    """Pack one file with all that `verify` needs but the model, the same bytes for the same run.

    Raises:
        InputError: as `received`.
        VerificationError: as `received`.
    """
    evidence = received(path, alone=True)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(evidence.files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, evidence.files[name], zipfile.ZIP_DEFLATED)
    return content.getvalue()


def named(path: Path, most: int = LARGEST_LEDGER) -> bytes:
    """Read a file that the user named: a proof, a checkpoint, a key.

    Raises:
        InputError: when the file cannot be read, or is larger than `most` bytes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file's name"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    if len(content) > most:
        raise InputError(f"{path}: is larger than {most:,} bytes; is it the right file?")
    return content


def older(path: Path) -> Older:
    """Read an older copy: a checkpoint (cosigned or not), a ledger's file, a run's folder or an exported file.

    Raises:
        InputError: when `path` is none of these.
        VerificationError: when the copy's own chain is broken.
    """
    content = received(path).ledger if path.is_dir() else named(path)
    if content.startswith(b"PK"):
        content = received(path).ledger
    if not content.startswith(b"{"):
        try:
            note = checkpoint_note.parsed(content.decode())
        except ValueError:
            raise InputError(f"{path}: neither a checkpoint nor a ledger") from None
        return Older(str(path), note.size, note.root, note)
    chain = chains.read(content)
    if chain.fault:
        raise VerificationError(f"{path}: {chain.fault}; this copy cannot be compared with")
    return Older(str(path), len(chain.records), chain.roots[-1], None)


def _folder(path: Path, alone: bool) -> Evidence:
    where = Layout.of(path)
    below = "" if where.flat else f"{where.release.name}/"
    names = [*EXPORTED]
    notes = [f"privacy/{name}" for name in names_below(where.root, f"{below}privacy")]
    names += [name for name in notes if _WITNESSED.fullmatch(name)]
    if len(names) > _MOST_WITNESSES:
        raise VerificationError(f"{path}: holds {len(names):,} cosigned checkpoints; keep the newest of each witness")
    files = {}
    for name in names:
        content = read_below(where.root, below + name, _most(name) or 0, alone=alone)
        if content is not None:
            files[name] = content
    if LEDGER not in files:
        raise InputError(f"{path}: holds no {LEDGER}; give a run's folder or an exported file")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for name in (*RELEASED, *(OLDER_VERSIONS if where.flat else ())):
        digest = None if name in digests else digest_below(where.root, below + name)
        if digest is not None:
            digests[name] = digest
    return Evidence(str(path), files, digests, names=tuple(listing(where.release)), private=where.private_at_hand)


def _most(name: str) -> int | None:
    """Return the most bytes to read of a file; None for a file that is not read."""
    return 1 << 16 if _WITNESSED.fullmatch(name) else EXPORTED.get(name)
