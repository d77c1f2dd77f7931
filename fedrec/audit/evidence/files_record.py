"""The record that closes a ledger: the digest of every file of the run.

    {"type": "files", "release": {NAME: SHA-256}, "private": {NAME: salted digest}}

It is appended after statement and page, which derive from the records before it. A command that writes a file later
appends another record, and the last one counts. The record leaves out the ledger and its checkpoint, which are signed
themselves, cosignatures, which come later, and files of other programs (an experiment tracker).
"""

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from fedrec.audit.entries.account import account
from fedrec.audit.entries.records import FilesRecord
from fedrec.audit.evidence import salted
from fedrec.audit.evidence.layout import RELEASED, SALT, Layout, fixed, fixed_private, listing
from fedrec.audit.log.ledger import Ledger
from fedrec.received_files import read_below

LARGEST_PRIVATE = 1 << 33
"""Bytes of a private file that is read in verification."""


def fix(ledger: Ledger, run: Layout) -> None:
    """Append the digests of a run's files, unless the last closing record has the same; set all file times to one.

    The times of files would otherwise reveal how long rounds took, which depends on who took part.
    """
    if run.flat or not ledger.entries:
        return
    known = account([entry.payload for entry in ledger.entries])
    if not known.begin.fixes_files:
        return  # a run of an older version, which promised no such record
    release = {name: _sha256(run.release / name) for name in RELEASED if (run.release / name).is_file()}
    salt, names = salted.salt_in(run.private), sorted(filter(fixed_private, listing(run.private)))
    private = {name: salted.file_digest(salt, name, run.private / name) for name in names}
    record = FilesRecord(type="files", release=release, private=private)
    if known.files != record:
        ledger.append(record.payload())
        ledger.seal()
    _one_time(run, known.begin.started)


def release_faults(
    names: Sequence[str], digests: Mapping[str, str], record: FilesRecord, exported: Collection[str] | None
) -> Iterator[str]:
    """Yield the differences from the closing record, a line each.

    Args:
        names: paths of the files in `release/`.
        digests: SHA-256 (hex) by name, at least of the files that a run writes.
        record: the closing record.
        exported: the names that an export must hold; None for a folder, which must hold all.
    """
    for name, digest in record.release.items():
        if name not in digests and (exported is None or name in exported):
            yield f"{name} is missing, the ledger fixes it as {digest}"
        elif name in digests and digests[name] != digest:
            yield f"{name} is not the file that the ledger names (SHA-256 {digests[name]})"
    for name in sorted(names):
        if name not in record.release and fixed(name):
            yield f"{name} is not a file of the run: no record names it"


def private_faults(private: Path, record: FilesRecord) -> Iterator[str]:
    """Yield the differences of a private folder from the closing record, a line each."""
    salt, there = read_below(private, SALT, salted.BYTES), set(listing(private))
    if salt is None:
        yield f"private/{SALT} is missing: whether the private files are the run's cannot be checked"
        return
    for name, digest in record.private.items():
        if name not in there:
            yield f"private/{name} is missing, the ledger fixes it"
        elif not _readable(private / name) or salted.file_digest(salt, name, private / name) != digest:
            yield f"private/{name} is not the file that the ledger names"
    for name in sorted(there):
        if name not in record.private and fixed_private(name):
            yield f"private/{name} is not a file of the run: no record names it"


def _readable(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST_PRIVATE


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_time(run: Layout, began: str) -> None:
    at = datetime.fromisoformat(began).timestamp()
    for name in [*listing(run.release), "privacy", "model", "."]:
        os.utime(run.release / name, (at, at), follow_symlinks=False)
