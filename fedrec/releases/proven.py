"""What the ledger of a run proves of a release, checked with `cryptography` alone.

| check | against |
|---|---|
| the key of the run's ledger is one that the signed root names | a thief of the release key with a ledger of his own |
| the checkpoint is signed by that key, and by every witness that the device names | an unsigned or hidden ledger |
| the proof puts the record under that checkpoint, at its end | a record that the ledger does not hold |
| that record fixes the digests of model, manifest and ids | another model under a genuine ledger |
| the head grew from the one that the device saw last | a ledger that was rewritten or shortened |
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fedrec.audit.log import proofs
from fedrec.audit.log.keys import PREFIX, PublicKey, public_key
from fedrec.errors import FedrecError, InputError, VerificationError
from fedrec.releases.record import REQUIRED, Release


@dataclass(frozen=True)
class Head:
    """The state of a ledger. Attributes: size: number of records; root: of their tree, hex."""

    size: int
    root: str


def check(
    release: Release, ledgers: Collection[PublicKey], seen: Head | None, witnesses: Sequence[PublicKey] = ()
) -> Head:
    """Check a release against the ledger of its run.

    Args:
        release: a record whose signature was checked.
        ledgers: keys that the signed root names for ledgers.
        seen: the run's head that this device saw last; None for a run that is new to it.
        witnesses: keys that must all have cosigned the head.

    Returns:
        The head under the release.

    Raises:
        VerificationError: where something does not hold, one line.
    """
    key = _key(release)
    if key not in ledgers:
        raise VerificationError(f"the root of the releases names no ledger of the key {key.id}; do not install it")
    found = _checked(release.proof, key)
    sealed, record = found.checkpoint, found.record
    if record is None or record.index != sealed.size - 1 or record.payload.get("type") != "files":
        raise VerificationError("the release proves no closing record at the end of its ledger; do not install it")
    if sealed.run != release.run:
        raise VerificationError(f"the release is of the run {release.run}, its ledger of {sealed.run}")
    if record.key_id != key.id:
        raise VerificationError("the ledger's last record is not signed by the ledger's key; do not install it")
    fixed = record.payload.get("release")
    for name in REQUIRED:
        if not isinstance(fixed, dict) or fixed.get(f"model/{name}") != release.digests[name]:
            raise VerificationError(f"{name}: its digest is not in the last record of the ledger; do not install it")
    for witness in witnesses:
        if sealed.cosigned_at(witness) is None:
            raise VerificationError(f"the witness {witness.id} has not cosigned the ledger's head; wait for it")
    head = Head(sealed.size, sealed.root.hex())
    if seen is not None and seen != head:
        _check_growth(release, key, seen, head)
    return head


def _check_growth(release: Release, key: PublicKey, seen: Head, head: Head) -> None:
    for text in release.growth:
        found = _checked(text, key)
        grown = Head(found.checkpoint.size, found.checkpoint.root.hex())
        if found.checkpoint.run == release.run and grown == head and found.before is not None:
            size, root = found.before
            if Head(size, root.hex()) == seen:
                return
    raise VerificationError(
        f"run {release.run}: its ledger of {head.size} records does not extend the {seen.size} that this device saw; "
        "it was forked or rolled back, do not trust this server"
    )


def _checked(text: str, key: PublicKey) -> proofs.Proven:
    try:
        return proofs.check(text, key)
    except FedrecError as error:
        raise VerificationError(f"the release's proof does not hold: {error}") from None


def _key(release: Release) -> PublicKey:
    try:
        if release.ledger_key.startswith(PREFIX):
            return public_key(release.ledger_key)
    except InputError:
        pass
    raise VerificationError("the release names no key of its ledger; do not install it")
