"""What an auditor received: a run's folder, or the one file that `fedrec audit export` makes of it."""

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedrec.audit import chain as chains
from fedrec.audit import checkpoint_note
from fedrec.audit.checkpoint_note import Checkpoint
from fedrec.audit.layout import Layout
from fedrec.errors import InputError, VerificationError

LEDGER = "privacy/ledger.jsonl"
CHECKPOINT = "privacy/checkpoint"
PUBLIC_KEY = "privacy/ledger.pub"
STATEMENT = "privacy/statement.json"
MODEL = "model/model.safetensors"
EXPORTED = (LEDGER, CHECKPOINT, PUBLIC_KEY, STATEMENT, "privacy/statement.md", "scenario.toml", "model/manifest.json")
WITNESSED = "privacy/witness-*.note"
_DAMAGED = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, struct.error)
_LARGEST = 1 << 30  # bytes of one file in an export: far above any ledger, far below what hurts


@dataclass(frozen=True)
class Evidence:
    """The files, by their path in the run's `release/`, and the SHA-256 of those that are fixed by hash alone."""

    place: str
    files: Mapping[str, bytes]
    digests: Mapping[str, str]
    exported: bool = False

    @property
    def ledger(self) -> bytes:
        """The ledger's content."""
        return self.files[LEDGER]


def received(path: Path) -> Evidence:
    """What lies at `path`: a run's folder or an exported file. Raises: InputError when it is neither."""
    try:
        if path.is_dir():
            return _folder(path)
        with zipfile.ZipFile(path) as archive:
            return _archive(path, archive)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such run; give a run's folder or an exported file") from None
    except _DAMAGED:
        raise InputError(f"{path}: neither a run's folder nor an undamaged file of `fedrec audit export`") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def export(path: Path) -> bytes:
    """One file with all that `verify` needs but the model, the same bytes for the same run."""
    evidence = received(path)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(evidence.files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, evidence.files[name], zipfile.ZIP_DEFLATED)
    return content.getvalue()


@dataclass(frozen=True)
class Older:
    """What somebody kept of an earlier state. checkpoint: None where it is a ledger without one."""

    place: str
    size: int
    root: bytes
    checkpoint: Checkpoint | None


def older(path: Path) -> Older:
    """An older copy: a checkpoint (cosigned or not), a ledger's file, a run's folder or an exported file.

    Raises: InputError when it is none of these, VerificationError when the copy's own chain is broken.
    """
    try:
        if path.is_dir() or zipfile.is_zipfile(path):
            content = received(path).ledger
        else:
            content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
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


def _folder(path: Path) -> Evidence:
    where = Layout.of(path)
    release = where.release
    if not (release / LEDGER).is_file():
        raise InputError(f"{path}: holds no {LEDGER}; give a run's folder or an exported file")
    kept = [name for name in EXPORTED if (release / name).is_file()]
    kept += sorted(str(note.relative_to(release)) for note in release.glob(WITNESSED))
    digests = {}
    for folder, name in ((release, MODEL), (where.private, "history.csv"), (where.private, "summary.json")):
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return _evidence(path, {name: (release / name).read_bytes() for name in kept}, digests, exported=False)


def _archive(path: Path, archive: zipfile.ZipFile) -> Evidence:
    names = archive.namelist()
    if LEDGER not in names:
        raise InputError(f"{path}: holds no {LEDGER}; was it made by `fedrec audit export`?")
    if len(set(names)) < len(names):
        raise VerificationError(f"{path}: holds a file twice, so that two readers could see two ledgers")
    if any(entry.file_size > _LARGEST for entry in archive.infolist()):
        raise InputError(f"{path}: holds a file that is larger than {_LARGEST >> 20} MB when unpacked")
    return _evidence(path, {name: archive.read(name) for name in names}, {}, exported=True)


def _evidence(path: Path, files: dict[str, bytes], digests: dict[str, str], *, exported: bool) -> Evidence:
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return Evidence(str(path), files, found | digests, exported)
