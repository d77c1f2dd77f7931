"""Verification: all checks of a ledger that need the ledger, a public key, and no trust.

| check | result |
|---|---|
| signatures | every record was written by the key, or by one that it handed over to |
| chain | no record was changed, dropped, inserted or moved |
| checkpoint | none was cut off since the checkpoint was signed |
| older copies | each kept or cosigned state is a beginning of this ledger: the past was not rewritten |
| own mark | if this user's own key signs, the ledger extends the signed records (`fedrec.audit.log.marks`) |
| terms, epsilon | see `fedrec.audit.verify.charges` |
| files | every file of the run is there, is the one that the ledger names, and there is no other |
| receipts | see `fedrec.audit.verify.receipts` |
| curve, shared budget | see `fedrec.audit.verify.end_checks` |
| statement | made anew from the records, `statement.json` and `statement.md` are the same |

It cannot show that the records are true. The owner of the key could have trained differently. It remains an assumption
that the code ran as published and that the server keeps its promises (the statement lists the assumptions).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedrec.audit.entries.account import account
from fedrec.audit.evidence.received_run import CHECKPOINT, Evidence
from fedrec.audit.log import chain as chains
from fedrec.audit.log import checkpoint, marks
from fedrec.audit.log.chain import Chain
from fedrec.audit.log.checkpoint import Checkpoint, Older
from fedrec.audit.log.keys import PublicKey
from fedrec.audit.statement.agreement import compare
from fedrec.audit.verify import charges, end_checks, receipts
from fedrec.audit.verify.files import artefacts
from fedrec.audit.verify.receipts import DeviceRecord
from fedrec.errors import VerificationError

MOST_LINES = 5
"""Most faults of one kind that are listed one by one."""


@dataclass
class Verdict:
    """The result of a verification.

    Attributes:
        faults: one line each; none means that all holds.
        notes: further information for an auditor.
        facts: recorded and recomputed values, JSON-able.
    """

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = "verified: everything that was checked holds" if self.holds else "does NOT verify"
        epsilon = self.facts.get("epsilon", {}).get("recomputed", {}).get("tight")
        known = "" if epsilon is None else f"; epsilon {epsilon} at delta {self.facts['delta']}, recomputed"
        return "\n".join(
            [f"{said}{known}", *(f"note: {note}" for note in self.notes), *(f"FAULT: {each}" for each in self.faults)]
        )

    @property
    def holds(self) -> bool:
        """True if there is no fault."""
        return not self.faults

    def blame(self, found: Iterable[str]) -> None:
        """Add faults of one kind, the first few of many."""
        lines = list(found)
        self.faults += lines[:MOST_LINES]
        if len(lines) > MOST_LINES:
            self.faults.append(f"... and {len(lines) - MOST_LINES:,} more of this kind")


def verify(
    evidence: Evidence,
    key: PublicKey,
    *,
    copies: Sequence[Older] = (),
    witnesses: Sequence[PublicKey] = (),
    model: str | None = None,
    devices: Sequence[DeviceRecord] = (),
) -> Verdict:
    """Check everything.

    Args:
        evidence: the received files.
        key: the one that began the ledger, from a source that the auditor trusts.
        copies: older states that were kept elsewhere.
        witnesses: keys whose cosignatures are required.
        model: SHA-256 (hex) of a model file that was handed over apart; None without.
        devices: records of nodes, of what they answered.
    """
    verdict = Verdict()
    chain = chains.read(evidence.ledger)
    verdict.facts |= {"records": len(chain.records), "head": chain.head, "key": key.text}
    if chain.fault:
        verdict.faults.append(f"{chain.fault}: the records were changed, dropped, put in or moved")
    if chain.torn:
        verdict.notes.append(f"the last {chain.torn} bytes are a record that was cut short: a crash, or a cut")
    if not chain.records:
        verdict.faults.append("there is no record")
        return verdict
    verdict.facts["run"] = chain.records[0].run
    in_force = _signatures(chain, key, verdict)
    signed = verdict.holds
    sealed = _checkpoint(evidence, chain, in_force, verdict)
    _copies(chain, in_force, [*copies, *(head for device in devices for head in device.heads)], verdict)
    _own_mark(chain, in_force, verdict)
    _witnessed(evidence, chain, in_force, sealed, witnesses, verdict)
    if not signed:
        return verdict  # unsigned or unchained records have no meaning
    try:
        known = account([record.payload for record in chain.records])
    except VerificationError as error:
        verdict.faults.append(str(error))
        return verdict
    spent = charges.check(known)
    for group in spent.faults:
        verdict.blame(group)
    verdict.notes += spent.notes
    verdict.facts |= spent.facts
    faults, notes = artefacts(evidence, known, key, model)
    verdict.blame(faults)
    verdict.notes += notes
    found = compare(known, [root.hex() for root in chain.roots], evidence.files)
    verdict.faults += found.faults
    verdict.notes += found.notes
    verdict.blame(end_checks.check(known))
    signed_for = receipts.check(known, chain.roots, chain.records[0].run, evidence.private, devices)
    for group in signed_for.faults:
        verdict.blame(group)
    verdict.notes += signed_for.notes
    return verdict


def integrity(
    evidence: Evidence, key: PublicKey, copies: Sequence[Older] = ()
) -> tuple[Chain, Checkpoint | None, list[str]]:
    """Check the chain and its checkpoint, as a witness does.

    Returns:
        Chain and checkpoint, and their faults.
    """
    verdict, chain = Verdict(), chains.read(evidence.ledger)
    if chain.fault or not chain.records:
        return chain, None, [chain.fault or "there is no record"]
    in_force = _signatures(chain, key, verdict)
    sealed = _checkpoint(evidence, chain, in_force, verdict)
    _copies(chain, in_force, copies, verdict)
    return chain, sealed, verdict.faults


def _signatures(chain: Chain, key: PublicKey, verdict: Verdict) -> list[PublicKey]:
    try:
        in_force = chains.keys(chain.records, key)
    except ValueError as error:
        verdict.faults.append(str(error))
        in_force = [key] * (len(chain.records) + 1)
    pairs = zip(chain.records, in_force, strict=False)
    verdict.blame(
        f"record {record.index} is not signed by the key {signer.id}, which is in force there"
        for record, signer in pairs
        if not record.signed_by(signer)
    )
    if in_force[-1] != key:
        verdict.notes.append(f"the ledger's key is {in_force[-1].text} by now, handed over to by signed records")
    return in_force


def _checkpoint(evidence: Evidence, chain: Chain, in_force: Sequence[PublicKey], verdict: Verdict) -> Checkpoint | None:
    try:
        sealed = checkpoint.parsed(evidence.files[CHECKPOINT].decode())
    except KeyError:
        verdict.faults.append(f"{CHECKPOINT} is missing: whether records were cut off cannot be told")
        return None
    except ValueError:
        verdict.faults.append(f"{CHECKPOINT} is no checkpoint")
        return None
    verdict.faults += _against(chain, in_force, sealed.size, sealed.root, sealed, CHECKPOINT)
    after = len(chain.records) - sealed.size
    if after > 0:
        verdict.notes.append(
            f"{after} record(s) at the end are signed and chained but not yet under the checkpoint: the run continues, "
            f"or was broken off"
        )
    return sealed


def _against(
    chain: Chain, in_force: Sequence[PublicKey], size: int, root: bytes, sealed: Checkpoint | None, name: str
) -> list[str]:
    """List the contradictions between a ledger and a checkpoint (or an older copy without one)."""
    found = []
    if size > len(chain.records):
        found.append(f"{name} covers {size} records and {len(chain.records)} are here: records were cut off")
    elif root != chain.roots[size]:
        found.append(f"{name} fixes other records than the first {size} of this ledger")
    if sealed is not None:
        if sealed.run != chain.records[0].run:
            found.append(f"{name} is of the run {sealed.run}, the ledger of {chain.records[0].run}")
        if not sealed.signed_by(in_force[min(size, len(chain.records))]):
            found.append(f"{name} is not signed by the key {in_force[min(size, len(chain.records))].id}")
    return found


def _copies(chain: Chain, in_force: Sequence[PublicKey], copies: Sequence[Older], verdict: Verdict) -> None:
    for copy in copies:
        faults = _against(chain, in_force, copy.size, copy.root, copy.checkpoint, copy.place)
        verdict.faults += faults
        if not faults:
            verdict.notes.append(f"{copy.place}: its {copy.size} records are a beginning of this ledger")


def _own_mark(chain: Chain, in_force: Sequence[PublicKey], verdict: Verdict) -> None:
    """Check the mark of this user's own key, which is an older copy where the key signed the run."""
    try:
        verdict.faults += marks.contradictions(chain, in_force)
    except VerificationError as error:
        verdict.faults.append(str(error))


def _witnessed(
    evidence: Evidence,
    chain: Chain,
    in_force: Sequence[PublicKey],
    sealed: Checkpoint | None,
    witnesses: Sequence[PublicKey],
    verdict: Verdict,
) -> None:
    """Check cosigned checkpoints next to the ledger as older copies; those of `witnesses` must be among them."""
    seen = [sealed] if sealed else []
    for name, content in evidence.files.items():
        if name.startswith("privacy/witness-"):
            try:
                note = checkpoint.parsed(content.decode())
            except ValueError:
                verdict.faults.append(f"{name} is no checkpoint")
                continue
            verdict.faults += _against(chain, in_force, note.size, note.root, note, name)
            seen.append(note)
    for witness in witnesses:
        sizes = [note.size for note in seen if note.cosigned_at(witness) is not None]
        if not sizes:
            verdict.faults.append(f"the witness {witness.id} has cosigned no checkpoint of this run")
        else:
            verdict.notes.append(f"the witness {witness.id} has cosigned the first {max(sizes)} records")
