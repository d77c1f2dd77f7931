"""Nodes are witnesses: their receipts show a forked, cut or rewritten ledger, and a charge that asked nobody."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedrec.audit.card.receipt import Receipt
from fedrec.audit.entries.account import account
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.verify.receipts import DeviceRecord, ReceiptFindings, check, device_record
from fedrec.errors import InputError, VerificationError
from fedrec.transport.node_key import NodeKey, load_node_key, new_node_key
from tests.core.audit import ledgers
from tests.core.audit.carded import begin, charge

KEY = SigningKey.generate()
ROUNDS = 3


def full(payload: dict[str, Any]) -> dict[str, Any]:
    """A payload with the fields that no device needs."""
    if payload["type"] == "begin":
        return ledgers.begun(ledgers.plan_of()) | {"card": payload["card"]}
    if payload["type"] == "charge":
        return {"events": [], "epsilon": {"pld": "1.0", "rdp": "1.0"}} | payload
    return payload


class Run:
    """A ledger of three rounds over three nodes, two of which answered, with the receipts of both."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nodes = folder, []
        for n in range(2):
            new_node_key(folder / f"{n}.key")
            self.nodes.append(load_node_key(folder / f"{n}.key"))
        self.ledger = Ledger(folder / "ledger.jsonl", KEY, run="run1")
        self.ledger.append(begin(KEY))
        self.receipts: list[list[Receipt]] = []
        self.records: list[dict[str, Any]] = []
        for round_index in range(ROUNDS):
            self.ledger.append(charge(round_index))
            size, root = len(self.ledger.entries), bytes.fromhex(self.ledger.head)
            made = [self.receipt(node, round_index, size, root) for node in self.nodes]
            self.receipts.append(made)
            self.records.append(
                {
                    "type": "receipts",
                    "round": round_index,
                    "charge": size - 1,
                    "question": "ab" * 32,
                    "head": {"records": size, "root": root.hex()},
                    "receipts": sorted([receipt.digest for receipt in made] + ["0" * 64]),
                }
            )
            self.ledger.append(self.records[-1])
        self.store()

    def receipt(self, node: NodeKey, round_index: int, size: int, root: bytes, **changes: Any) -> Receipt:
        made = Receipt("run1", round_index, size - 1, "ab" * 32, "cd" * 32, size, root, node.public)
        return replace(made, **changes).signed(node.sign)

    def store(self) -> None:
        (self.folder / "private").mkdir(exist_ok=True)
        lines = [
            json.dumps({"round": n, "charge": 0, "receipts": [receipt.text for receipt in made]})
            for n, made in enumerate(self.receipts)
        ]
        (self.folder / "private" / "receipts.jsonl").write_text("\n".join(lines) + "\n")

    def check(self, change: Callable | None = None, devices: tuple[DeviceRecord, ...] = ()) -> ReceiptFindings:
        payloads = [json.loads(json.dumps(entry.payload)) for entry in self.ledger.entries]
        payloads = payloads if change is None else change(payloads) or payloads
        return check(
            account(list(map(full, payloads))), self.ledger.chain.roots, "run1", self.folder / "private", devices
        )

    def device(self, n: int = 0) -> DeviceRecord:
        return DeviceRecord("mine", tuple(made[n] for made in self.receipts))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def only(found: ReceiptFindings) -> str:
    (line,) = [line for group in found.faults for line in group]
    return line


def test_an_honest_run_has_no_fault(run: Run) -> None:
    found = run.check(devices=(run.device(0), run.device(1)))
    assert not any(found.faults)
    assert any("receipts of 3 round(s)" in note for note in found.notes)
    assert sum("3 receipts of this device" in note for note in found.notes) == 2


def test_a_charge_without_any_question_is_a_fault(run: Run) -> None:
    def silent(payloads: list) -> None:
        payloads[2] = {"type": "note", "what": "nothing"}

    assert "record 1 charges round 0, and no receipt" in only(run.check(silent))


def test_an_interrupted_charge_is_a_note(run: Run) -> None:
    def repeated(payloads: list) -> list:
        payloads[5]["round"] = 1  # round 1 was charged, interrupted, and charged again
        payloads[4] = {"type": "note", "what": "nothing"}
        payloads[6]["round"] = 1
        return payloads

    found = run.check(repeated)
    assert any("was interrupted" in note for note in found.notes)
    assert not any("no receipt shows" in line for group in found.faults for line in group)


def test_a_device_that_answered_an_interrupted_round_accuses_nobody(run: Run) -> None:
    """The server was killed after the device's answer and before the receipts were in the ledger."""
    answered = DeviceRecord("mine", (run.receipts[0][0], run.receipts[1][0]))

    def killed(payloads: list, *, again: bool) -> list:
        payloads[4] = {"type": "note", "what": "nothing"}
        if again:
            payloads[5]["round"] = payloads[6]["round"] = 1
        return payloads

    found = run.check(lambda payloads: killed(payloads, again=True), devices=(answered,))
    assert not any("device" in line or "mine" in line for group in found.faults for line in group)
    assert any("mine: 1 receipt(s) of charged rounds that were interrupted" in note for note in found.notes)
    found = run.check(lambda payloads: killed(payloads, again=False), devices=(answered,))
    assert any("asked what this ledger does not have" in line for group in found.faults for line in group)


def test_rounds_that_a_stopped_run_left_out_ask_nobody(run: Run) -> None:
    def stopped(payloads: list) -> list:
        return [*payloads, {"type": "stopped", "round": 2, "why": "x", "unrun": [3, 4]}, charge(3), charge(4)]

    assert not any(run.check(stopped).faults)
    assert any(
        "no receipt" in line
        for group in run.check(lambda payloads: [*payloads, charge(3), charge(4)]).faults
        for line in group
    )


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"charge": 3}, "not charged by record 3"),
        ({"charge": 0}, "not charged by record 0"),
        ({"charge": 99}, "not charged by record 99"),
        ({"head": {"records": 1, "root": "00" * 32}}, "without the charge or too many"),
        ({"head": {"records": 9, "root": "00" * 32}}, "without the charge or too many"),
        ({"head": {"records": 2, "root": "00" * 32}}, "another ledger than this one"),
        ({"receipts": ["0" * 64]}, "have 1 receipts, and the run has 3 nodes"),
        ({"question": "ff" * 32}, "another question than the ledger says"),
    ],
)
def test_a_record_that_contradicts_the_ledger_or_the_receipts_is_a_fault(run: Run, changes: dict, fault: str) -> None:
    found = run.check(lambda payloads: payloads[2].update(changes))
    assert any(fault in line for group in found.faults for line in group)


def test_a_receipt_that_its_node_did_not_sign_is_a_fault(run: Run) -> None:
    forged = replace(run.receipts[0][0], node=run.nodes[1].public)
    run.receipts[0][0] = forged
    run.store()
    found = run.check(lambda payloads: payloads[2]["receipts"].append(forged.digest))
    assert any("is not signed by its node's key" in line for group in found.faults for line in group)


def test_missing_receipts_are_a_fault(run: Run) -> None:
    (run.folder / "private" / "receipts.jsonl").unlink()
    assert "receipts.jsonl is missing" in only(run.check())


def test_a_damaged_line_is_a_fault_and_no_error(run: Run) -> None:
    (run.folder / "private" / "receipts.jsonl").write_text('{"receipts": [5]}\nnothing\n')
    lines = [line for group in run.check().faults for line in group]
    assert lines == [f"private/receipts.jsonl, line {n}: no receipts of a round" for n in (1, 2)]


def test_a_device_that_saw_another_ledger_convicts_the_server(run: Run) -> None:
    head = run.receipts[1][0]
    for changes, fault in [
        ({"root": b"x" * 32}, "shown another ledger than this one: a fork"),
        ({"size": 99}, "the device saw 99 records, and 7 are here: records were cut off"),
        ({"question": "ff" * 32}, "asked what this ledger does not have"),
        ({"charge": 0}, "asked what this ledger does not have"),
    ]:
        seen = replace(head, **changes).signed(run.nodes[0].sign)
        assert fault in only(run.check(devices=(DeviceRecord("mine", (seen,)),)))
    unsigned = replace(head, size=99)
    assert "not signed" in only(run.check(devices=(DeviceRecord("mine", (unsigned,)),)))
    other = replace(head, run="run2").signed(run.nodes[0].sign)
    assert "holds no receipt of run run1" in only(run.check(devices=(DeviceRecord("mine", (other,)),)))


def test_a_receipt_that_the_ledger_does_not_name_is_reported(run: Run) -> None:
    again = run.receipts[1][0].signed(run.nodes[0].sign)
    found = run.check(devices=(DeviceRecord("mine", (run.receipts[0][0], again)),))
    assert not any(found.faults)
    assert any("does not name 1 of 2 receipts" in note for note in found.notes)


def test_a_device_record_is_read_from_its_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run1.receipts"
    lines = [json.dumps({"receipt": receipt.text, "nonce": "00"}) for receipt in run.device().receipts]
    file.write_text("\n".join(lines) + "\n" + lines[0][:50])
    assert device_record(file).receipts == run.device().receipts, "a line that a crash cut short does not count"
    file.write_text("\n".join(["{}", *lines]) + "\n")
    with pytest.raises(VerificationError, match="line 1 is no receipt"):
        device_record(file)
    forks = tmp_path / "run1.forks"
    note = Checkpoint("run1", 4, b"x" * 32).signed(KEY)
    forks.write_text(json.dumps({"older": note.note, "newer": note.note}) + "\n")
    assert [(head.size, head.root) for head in device_record(forks).heads] == [(4, b"x" * 32)] * 2
    with pytest.raises(InputError, match="cannot be read"):
        device_record(tmp_path / "absent")
