"""Checks that what nodes signed and what the ledger names agree: nodes are witnesses of the ledger.

| check | a lie that it catches |
|---|---|
| questions | a charge for which no node was asked; receipts for a round that was not charged |
| heads | nodes that were shown another ledger than this one: a fork, or a past that was rewritten |
| receipts | a receipt in `private/receipts.jsonl` that the ledger does not name, or that its node did not sign |
| a node's own record | a question that the ledger does not have, or a ledger that was longer when the node saw it |
| a node's contradictions | two states that the ledger's key signed, one of which is no beginning of this ledger |

What the ledger names and nobody signed stands for a node that did not answer: this cannot be told from a receipt that
was left out. A device's own record shows it, unless its answer was lost on the way.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedrec.audit.card.receipt import Receipt, parse_receipt
from fedrec.audit.entries.account import Account
from fedrec.audit.entries.records import ReceiptsRecord, StoppedRecord
from fedrec.audit.log import checkpoint
from fedrec.audit.log.checkpoint import Older
from fedrec.charge import Charge
from fedrec.errors import InputError, VerificationError
from fedrec.received_files import read_below

FILE = "receipts.jsonl"
MOST_BYTES = 256 << 20
"""Bytes of receipts that are read: some 400,000 receipts."""


@dataclass(frozen=True)
class DeviceRecord:
    """What a device kept of its answers, and of the server's contradictions.

    Attributes:
        place: where it came from, for messages.
        receipts: what the device signed.
        heads: checkpoints that the device saw and kept since they contradict each other.
    """

    place: str
    receipts: tuple[Receipt, ...] = ()
    heads: tuple[Older, ...] = ()


@dataclass
class ReceiptFindings:
    """The result: faults by kind, and notes."""

    faults: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def device_record(path: Path) -> DeviceRecord:
    """Read a device's own record: `ID.receipts` or `ID.forks` of a node (`fedrec_client.run_memory`).

    Raises: InputError when it cannot be read; VerificationError when it is no such record.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"--receipts {path}: cannot be read ({error.strerror})") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"--receipts {path}: is larger than {MOST_BYTES:,} bytes; is it the right file?")
    receipts, heads = [], []
    lines = content.splitlines()
    for number, line in enumerate(lines):
        try:
            values = json.loads(line)
            if "receipt" in values:
                receipts.append(parse_receipt(values["receipt"]))
            else:
                for which in ("older", "newer"):
                    note = checkpoint.parsed(values[which])
                    heads.append(Older(f"{path}, line {number + 1}", note.size, note.root, note))
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError, VerificationError):
            if number + 1 == len(lines) and not content.endswith(b"\n"):
                break  # cut short by a crash: nothing left the device on it
            raise VerificationError(f"--receipts {path}: line {number + 1} is no receipt of a node") from None
    return DeviceRecord(str(path), tuple(receipts), tuple(heads))


def check(
    known: Account,
    roots: Sequence[bytes],
    run: str,
    private: Path | None = None,
    devices: Sequence[DeviceRecord] = (),
) -> ReceiptFindings:
    """Compare a ledger with receipts.

    Args:
        known: the ledger's records.
        roots: the root over the first n records, for each n from 0.
        run: id of the run.
        private: the run's private folder, with the nodes' receipts; None where it was not handed over.
        devices: records of devices.
    """
    found = ReceiptFindings()
    records = {place: record for place, record in enumerate(known.records) if isinstance(record, ReceiptsRecord)}
    found.faults.append(list(_named(known, roots, records)))
    card = known.begin.card
    if card is not None and card.receipts:
        found.faults.append(list(_asked(known, records, found.notes)))
        found.faults.append(list(_counts(records, card.nodes)))
    if private is not None and records:
        found.faults.append(list(_stored(private, run, records, found.notes)))
    for device in devices:
        found.faults.append(list(_device(device, run, roots, records, _interrupted(known, records), found.notes)))
    return found


def _named(known: Account, roots: Sequence[bytes], records: Mapping[int, ReceiptsRecord]) -> Iterator[str]:
    for place, record in records.items():
        charge = known.records[record.charge] if record.charge < place else None
        if not isinstance(charge, Charge) or charge.round != record.round:
            yield f"record {place} names receipts for round {record.round}, not charged by record {record.charge}"
        elif not record.charge < record.head.records <= place:
            yield f"record {place}: its questions showed {record.head.records} records, without the charge or too many"
        elif roots[record.head.records].hex() != record.head.root:
            yield f"record {place}: its questions showed another ledger than this one: a fork, or a rewritten past"


def _unasked(known: Account, records: Mapping[int, ReceiptsRecord]) -> Iterator[tuple[int, int, bool]]:
    """Yield charges without receipts: place, round, and whether the round was interrupted (charged anew, or the last).

    Those of rounds that a stopped run left out are not among them.
    """
    asked = {record.charge for record in records.values()}
    placed = list(enumerate(known.records))
    stop = next((place for place, each in placed if isinstance(each, StoppedRecord)), len(placed))
    charges = [(place, each) for place, each in placed if isinstance(each, Charge) and each.queries]
    for number, (place, charge) in enumerate(charges):
        if place in asked or place > stop:
            continue
        later = [other for _, other in charges[number + 1 :]]
        yield place, charge.round, not later or later[0].round == charge.round


def _asked(known: Account, records: Mapping[int, ReceiptsRecord], notes: list[str]) -> Iterator[str]:
    """Find charges for which nobody was asked."""
    for place, round_index, interrupted in _unasked(known, records):
        if interrupted:
            notes.append(f"record {place} charges round {round_index} and no node was asked: it was interrupted")
        else:
            yield f"record {place} charges round {round_index}, and no receipt shows that any node was asked"


def _interrupted(known: Account, records: Mapping[int, ReceiptsRecord]) -> frozenset[tuple[int, int]]:
    """Return (place of the charge, round) of rounds that ended before their receipts were in the ledger."""
    return frozenset((place, round_index) for place, round_index, broken in _unasked(known, records) if broken)


def _counts(records: Mapping[int, ReceiptsRecord], nodes: int) -> Iterator[str]:
    named: dict[int, int] = {}
    for record in records.values():
        named[record.charge] = named.get(record.charge, 0) + len(record.receipts)
    for charge, count in named.items():
        if nodes and count % nodes:
            yield f"the questions of record {charge} have {count} receipts, and the run has {nodes} nodes"


def _stored(private: Path, run: str, records: Mapping[int, ReceiptsRecord], notes: list[str]) -> Iterator[str]:
    """Check the receipts that the server kept."""
    content = read_below(private, FILE, MOST_BYTES)
    if content is None:
        yield f"private/{FILE} is missing: the ledger names receipts, and none is here"
        return
    named, orphans = _by_digest(records), 0
    for number, line in enumerate(content.splitlines()):
        try:
            receipts = [parse_receipt(text) for text in json.loads(line)["receipts"]]
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError, VerificationError):
            yield f"private/{FILE}, line {number + 1}: no receipts of a round"
            continue
        for receipt in receipts:
            record = named.get(receipt.digest)
            if record is None:
                orphans += 1
                continue
            yield from _agrees(receipt, record, run, f"private/{FILE}, line {number + 1}")
    rounds = {(record.round, record.charge) for record in records.values()}
    if orphans:
        notes.append(f"private/{FILE} holds {orphans} receipt(s) of rounds that were interrupted and asked again")
    notes.append(f"the ledger names the receipts of {len(rounds)} round(s)")


def _agrees(receipt: Receipt, record: ReceiptsRecord, run: str, where: str) -> Iterator[str]:
    try:
        receipt.verify()
    except VerificationError as error:
        yield f"{where}: {error}"
        return
    if receipt.run != run or (receipt.round_index, receipt.charge) != (record.round, record.charge):
        yield f"{where}: a receipt of another run or round than the record that names it"
    elif receipt.question != record.question:
        yield f"{where}: its node was asked another question than the ledger says"
    elif (receipt.size, receipt.root.hex()) != (record.head.records, record.head.root):
        yield f"{where}: its node was shown another ledger than the record says"


def _device(
    device: DeviceRecord,
    run: str,
    roots: Sequence[bytes],
    records: Mapping[int, ReceiptsRecord],
    interrupted: frozenset[tuple[int, int]],
    notes: list[str],
) -> Iterator[str]:
    """Compare a device's own record with the ledger.

    A round may end before its receipts are in the ledger, as when the server is killed. It is charged and charged anew,
    so a device that answered it is no sign of a lie; how often that happened is a note.
    """
    mine, named = [receipt for receipt in device.receipts if receipt.run == run], _by_digest(records)
    questions = {(record.charge, record.question) for record in records.values()}
    missing = lost = 0
    if not mine and not device.heads:
        yield f"{device.place}: holds no receipt of run {run}"
    for receipt in mine:
        where = f"{device.place}, round {receipt.round_index}"
        try:
            receipt.verify()
        except VerificationError as error:
            yield f"{where}: {error}"
            continue
        if receipt.size >= len(roots):
            yield f"{where}: the device saw {receipt.size} records, and {len(roots) - 1} are here: records were cut off"
        elif roots[receipt.size] != receipt.root:
            yield f"{where}: the device was shown another ledger than this one: a fork, or a rewritten past"
        elif (receipt.charge, receipt.round_index) in interrupted:
            lost += 1
        elif (receipt.charge, receipt.question) not in questions:
            yield f"{where}: the device was asked what this ledger does not have"
        elif receipt.digest not in named:
            missing += 1
        else:
            yield from _agrees(receipt, named[receipt.digest], run, where)
    if lost:
        notes.append(f"{device.place}: {lost} receipt(s) of charged rounds that were interrupted and asked again")
    if missing:
        notes.append(
            f"{device.place}: the ledger does not name {missing} of {len(mine)} receipts: their answers were lost on "
            "the way, or left out"
        )
    elif len(mine) > lost:
        held = len(mine) - lost
        notes.append(f"{device.place}: {held} receipts of this device, each in the ledger unless a fault says so")


def _by_digest(records: Mapping[int, ReceiptsRecord]) -> dict[str, ReceiptsRecord]:
    return {digest: record for record in records.values() for digest in record.receipts}
