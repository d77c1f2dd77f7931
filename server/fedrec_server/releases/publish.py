"""Publish a run: verify it, cut its model into parts, prove its ledger, and sign the release."""

import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedrec.audit.evidence import received_run
from fedrec.audit.evidence.layout import Layout
from fedrec.audit.evidence.received_run import CHECKPOINT, Evidence
from fedrec.audit.log import chain as chains
from fedrec.audit.log import checkpoint, proofs
from fedrec.audit.log.chain import Chain
from fedrec.audit.log.checkpoint import Checkpoint, Older
from fedrec.audit.log.keys import PublicKey, SigningKey, public_key
from fedrec.audit.verify.verification import verify
from fedrec.errors import InputError, VerificationError
from fedrec.ondevice.released import open_released
from fedrec.received_files import copy_below
from fedrec.releases import parity, proven
from fedrec.releases.parts import Part, cut
from fedrec.releases.proven import Head
from fedrec.releases.record import PUBLIC, REQUIRED, ExpectedList, Release, ReleasedFile
from fedrec_server.releases.folder import KEPT, ReleaseFolder

LARGEST_FILE = 1 << 34


@dataclass(frozen=True)
class Published:
    """A published release. Attributes: release; new_bytes: of its parts that no earlier release had."""

    release: Release
    new_bytes: int


@dataclass(frozen=True)
class Packed:
    """A model in parts. Attributes: files; lists: expected ones; new_bytes: see `Published`."""

    files: tuple[ReleasedFile, ...]
    lists: tuple[ExpectedList, ...]
    new_bytes: int


@dataclass(frozen=True)
class Verified:
    """A run that verifies. Attributes: evidence; chain; key: in force at its end; sealed: its checkpoint, cosigned."""

    evidence: Evidence
    chain: Chain
    key: PublicKey
    sealed: Checkpoint


def publish(
    run: Path,
    folder: ReleaseFolder,
    online: SigningKey,
    ledger_key: PublicKey,
    *,
    public: Path | None = None,
    witnesses: Sequence[PublicKey] = (),
    keep: int = KEPT,
) -> Published:
    """Publish the release of a run as the newest of a folder.

    Args:
        run: a run's folder, or its `release/`. It is only read.
        folder: with a root, locked.
        online: the release key.
        ledger_key: the key that began the run's ledger.
        public: file with the public features of the items; None without.
        witnesses: keys that must all have cosigned the ledger's head.
        keep: see `ReleaseFolder.add`.

    Raises:
        VerificationError: for a run that does not verify, or whose ledger does not extend the published one.
        InputError: for a run without a closing record or a model for devices.
    """
    found = verified(run, ledger_key, witnesses)
    folder.check_keys(online.public, found.key)
    before = folder.newest()
    with tempfile.TemporaryDirectory(prefix="fedrec-publish-") as name:
        packed = pack(Path(name), _copied(run, Path(name), public), folder)
    release = Release(
        sequence=1 if before is None else before.sequence + 1,
        run=found.sealed.run,
        min_rating=_min_rating(found.evidence),
        files=packed.files,
        ledger_key=found.key.text,
        proof=proofs.of_record(found.chain, found.sealed, found.sealed.size - 1),
        growth=tuple(_growth(found, before)),
        lists=packed.lists,
    )
    proven.check(release, [found.key], _published_head(before, release.run), witnesses)
    folder.add(release, online, keep)
    return Published(release, packed.new_bytes)


def pack(model: Path, digests: Mapping[str, str], folder: ReleaseFolder) -> Packed:
    """Cut a model's files into parts in the folder, and make the lists that devices compare.

    Args:
        model: its folder, which nobody else changes.
        digests: name and SHA-256 of its files.
        folder: gets the parts.

    Raises:
        InputError: for a model without a form for devices, or without the ids of its items.
    """
    opened = open_released(model)
    if opened.ids is None:
        raise InputError("a model of an older version, without the ids of its items; release it again")
    files, new_bytes = [], 0
    for file, digest in digests.items():
        made: list[Part] = []
        for part, content in cut(model / file):
            made.append(part)
            new_bytes += part.size if folder.add_part(part.sha256, content) else 0
        files.append(ReleasedFile(file, digest, tuple(made)))
    return Packed(tuple(files), parity.expected(opened.model, opened.ids), new_bytes)


def verified(run: Path, ledger_key: PublicKey, witnesses: Sequence[PublicKey] = ()) -> Verified:
    """Verify a run, as `fedrec audit verify` does, and merge the cosignatures of its head.

    Raises:
        VerificationError: where it does not verify.
        InputError: for a run without a closing record, which has not ended or is of an older version.
    """
    evidence = received_run.received(run)
    verdict = verify(evidence, ledger_key, witnesses=witnesses)
    if not verdict.holds:
        count = len(verdict.faults)
        raise VerificationError(f"{run}: does NOT verify, so it is not published: {verdict.faults[0]} (1 of {count})")
    chain = chains.read(evidence.ledger)
    sealed = checkpoint.parsed(evidence.files[CHECKPOINT].decode())
    if sealed.size != len(chain.records) or chain.records[-1].payload.get("type") != "files":
        raise InputError(f"{run}: has no closing record, so its ledger does not fix the model; finish the run first")
    return Verified(evidence, chain, chains.keys(chain.records, ledger_key)[-1], _cosigned(evidence, sealed))


def _cosigned(evidence: Evidence, sealed: Checkpoint) -> Checkpoint:
    """Return the checkpoint with the lines of every witness of the same head."""
    lines = list(sealed.lines)
    for name, content in sorted(evidence.files.items()):
        if name.startswith("privacy/witness-"):
            note = checkpoint.parsed(content.decode())
            lines += [line for line in note.lines if note.text == sealed.text and line not in lines]
    return replace(sealed, lines=tuple(lines))


def _copied(run: Path, to: Path, public: Path | None) -> dict[str, str]:
    """Copy the model, so that it cannot change while it is cut; return the SHA-256 of each file."""
    release = Layout.of(run).release
    digests = {}
    for name in REQUIRED:
        digest = copy_below(release, f"model/{name}", to / name, LARGEST_FILE)
        if digest is None:
            raise InputError(f"{run}: its model has no {name}; release it again with this version")
        digests[name] = digest
    if public is not None:
        digest = copy_below(public.parent, public.name, to / PUBLIC, LARGEST_FILE)
        if digest is None:
            raise InputError(f"--public {public}: no such file")
        digests[PUBLIC] = digest
    return digests


def _min_rating(evidence: Evidence) -> float | None:
    """Return `data.min_rating` of the run's scenario."""
    scenario = tomllib.loads(evidence.files["scenario.toml"].decode())
    found = scenario.get("data", {}).get("min_rating")
    return None if found is None else float(found)


def _growth(found: Verified, before: Release | None) -> Iterator[str]:
    """Yield proofs of growth from the heads of this run that devices may have seen."""
    heads = [] if before is None or before.run != found.sealed.run else published_heads(before)
    for head in heads:
        if head.size < found.sealed.size:
            older = Older("an earlier release", head.size, bytes.fromhex(head.root), None)
            yield proofs.of_growth(found.chain, found.sealed, older)


def published_heads(release: Release) -> list[Head]:
    """Return the heads of the run's ledger that this release and earlier ones published, oldest first."""
    key = public_key(release.ledger_key)
    grown = [proofs.check(text, key).before for text in release.growth]
    sealed = proofs.check(release.proof, key).checkpoint
    heads = [Head(size, root.hex()) for size, root in filter(None, grown)]
    return [*heads, Head(sealed.size, sealed.root.hex())]


def _published_head(before: Release | None, run: str) -> Head | None:
    return None if before is None or before.run != run else published_heads(before)[-1]
