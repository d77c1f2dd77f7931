"""A deployment shows its nodes a run card, each round's charge and a ledger that only grows; nodes sign receipts."""

import json
from dataclasses import replace

import pytest
import torch
from fedrec_client.run_gate import Pins
from fedrec_client.run_memory import LastQuestion, RunMemory
from fedrec_server.flower.messenger import Messenger, TooFewNodes

from fedrec import private_files
from fedrec.audit.card.receipt import parse_receipt
from fedrec.audit.log import keys as ledger_keys
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.run.coordinator import Coordinator
from fedrec.wire import Packet
from tests.server.carded import CHANGES, FIRST, Carded
from tests.server.grid_in_memory import with_packet

SMALL = [part for change in CHANGES if not change.startswith("federation") for part in ("--set", change)]


@pytest.fixture
def carded(tmp_path, monkeypatch) -> Carded:
    made = Carded(tmp_path)
    monkeypatch.setenv(*made.environment())
    return made


def payloads(folder) -> list[dict]:
    return [entry.payload for entry in read_ledger(folder / "release" / "privacy" / "ledger.jsonl")[0]]


def test_every_question_proves_its_charge_and_every_answer_is_receipted(carded, tmp_path, capsys) -> None:
    carded.run(tmp_path / "run")
    records = payloads(tmp_path / "run")
    kinds = [record["type"] for record in records]
    assert kinds == ["begin", "charge", "receipts", "charge", "receipts", "end", "files"]
    card = records[0]["card"]
    assert (card["nodes"], card["receipts"], card["minimum_cohort"]) == (2, True, 60)
    questions = carded.questions()
    assert [packet.round for packet in questions] == [0, 1]
    assert ["card" in packet.facts for packet in questions] == [True, False], "a node is sent its card once"
    assert carded.codes() == []
    stored = [json.loads(line) for line in (tmp_path / "run" / "private" / "receipts.jsonl").read_text().splitlines()]
    for line, record in zip(stored, (records[2], records[4]), strict=True):
        found = [parse_receipt(text) for text in line["receipts"]]
        assert sorted(receipt.digest for receipt in found) == record["receipts"]
        assert {receipt.node for receipt in found} == {key.public for key in carded.keys}
        assert {receipt.question for receipt in found} == {record["question"]}
        for receipt in found:
            receipt.verify()
    run, own = str(tmp_path / "run"), tmp_path / "node0" / "runs" / f"{found[0].run}.receipts"
    assert fedrec(["audit", "verify", run, "--trust-run-key", "--receipts", str(own)]) == 0
    assert "2 receipts of this device" in capsys.readouterr().out
    check_shown(tmp_path, carded, capsys)
    shown = Checkpoint(found[0].run, 4, b"x" * 32).signed(ledger_keys.default_key())
    forks = own.with_suffix(".forks")
    forks.write_text(json.dumps({"older": shown.note, "newer": shown.note}) + "\n")
    assert fedrec(["audit", "verify", run, "--trust-run-key", "--receipts", str(forks)]) == 4
    assert "fixes other records than the first 4 of this ledger" in capsys.readouterr().out
    carded.run(tmp_path / "second")
    assert fedrec(["audit", "verify", str(tmp_path / "second"), "--trust-run-key", "--receipts", str(own)]) == 4
    assert "holds no receipt of run" in capsys.readouterr().out


def check_shown(tmp_path, carded, capsys) -> None:
    """The card as `fedrec audit card` shows it, and as a file on another machine."""
    key, file = ledger_keys.default_key().public.text, tmp_path / "mine.card"
    assert fedrec(["audit", "card", str(tmp_path / "run"), "--key", key, "-o", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "algorithm: als" in shown
    assert "rounds 0 to 1:" in shown
    assert "items (20 x 6): clip 3.5, noise" in shown
    assert fedrec(["audit", "card", str(file), "--key", key, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["users"], facts["nodes"], facts["trust"], facts["ledger_key"]) == (60, 2, "central", key)
    assert fedrec(["audit", "card", str(file), "--key", SigningKey.generate().public.text]) == 4
    file.write_text(file.read_text().replace('"users":60', '"users":61'))
    assert fedrec(["audit", "card", str(file), "--key", key]) == 4
    assert fedrec(["audit", "card", str(tmp_path / "run"), "--witness", key]) == 4
    packed = str(tmp_path / "run.zip")
    assert fedrec(["audit", "export", str(tmp_path / "run"), "-o", packed]) == 0
    for command in (["verify", packed, "--key", key], ["card", packed, "--key", key], ["show", packed]):
        assert fedrec(["audit", *command]) == 0
    assert fedrec(["simulate", "quickstart", "--quiet", "--out", str(tmp_path / "alone"), *SMALL]) == 0
    assert fedrec(["audit", "card", str(tmp_path / "alone")]) == 2
    assert "simulations and older runs do not" in capsys.readouterr().err


def test_the_ledger_does_not_show_which_nodes_answered(carded, tmp_path) -> None:
    over = carded.grid()
    over.twists[FIRST] = lambda message, record: None if message.metadata.message_type == "train" else record
    carded.run(tmp_path / "run", ("federation.min_nodes=1",), over)
    records = payloads(tmp_path / "run")
    assert [len(record["receipts"]) for record in records if record["type"] == "receipts"] == [2, 2]
    stored = [json.loads(line) for line in (tmp_path / "run" / "private" / "receipts.jsonl").read_text().splitlines()]
    assert [len(line["receipts"]) for line in stored] == [1, 1]
    ledger = (tmp_path / "run" / "release" / "privacy" / "ledger.jsonl").read_text()
    assert not any(key.public.line.split()[1] in ledger for key in carded.keys)


def test_a_lost_reply_costs_nothing_and_a_second_question_must_be_the_same(carded, tmp_path) -> None:
    over, lost = carded.grid(), []

    def lose_one(message, record):
        if message.metadata.message_type == "train" and not lost:
            lost.append(message)
            return None
        return record

    over.twists[FIRST] = lose_one
    carded.run(tmp_path / "run", ("federation.deadline=8",), over)
    assert [packet.round for packet in carded.questions()] == [0, 0, 1]
    assert carded.codes() == []
    assert [record["type"] for record in payloads(tmp_path / "run")].count("charge") == 2


def test_a_resumed_run_shows_that_its_ledger_grew(carded, tmp_path) -> None:
    class Stop(Exception):
        pass

    def stop(report):
        raise Stop

    with pytest.raises(Stop):
        carded.run(tmp_path / "run", on_round=stop)
    carded.run(tmp_path / "run", resume=True)
    assert carded.codes() == ["head"], "the server learns how far the node saw the ledger, and shows growth from there"
    assert fedrec(["audit", "verify", str(tmp_path / "run"), "--trust-run-key"]) == 0


@pytest.mark.parametrize(("seed", "signed"), [((), 2), (("seed=5",), 3)])
def test_a_run_that_is_interrupted_in_a_question_continues(carded, tmp_path, seed, signed, capsys) -> None:
    """With a seed the same question is asked again under the same charge. Without one, the budget has no new charge."""
    over, asked = carded.grid(), []

    def interrupt(message, record):
        asked.append(message.metadata.message_type)
        if asked.count("train") == 2:
            raise KeyboardInterrupt
        return record

    over.twists[FIRST] = interrupt
    with pytest.raises(KeyboardInterrupt):
        carded.run(tmp_path / "run", seed, over)
    carded.run(tmp_path / "run", seed, resume=True)
    charged = [record["round"] for record in payloads(tmp_path / "run") if record["type"] == "charge"]
    assert charged == [0, 1]
    assert fedrec(["audit", "verify", str(tmp_path / "run"), "--trust-run-key"]) == 0
    capsys.readouterr()
    own = next((tmp_path / "node0" / "runs").glob("*.receipts"))
    assert fedrec(["audit", "verify", str(tmp_path / "run"), "--trust-run-key", "--receipts", str(own)]) == 0
    assert f"does not name 1 of {signed} receipts" in capsys.readouterr().out, (
        "the answer that was lost in the interruption"
    )


def test_a_sampled_run_shows_no_cohort_in_ledger_or_receipts(carded, tmp_path) -> None:
    carded.run(tmp_path / "run", ("privacy.sampling=0.5",))
    assert carded.codes(0) == carded.codes(1) == []
    first, second = carded.questions(0)[0], carded.questions(1)[0]
    assert not torch.equal(first.tensors["cohort"], second.tensors["cohort"])
    signed = [
        parse_receipt(str(packet.facts[exchange.RECEIPT]))
        for n in range(2)
        for packet in carded.answered[n]
        if packet.kind == exchange.SUMS and packet.round == 0
    ]
    assert signed[0].question == signed[1].question, "the question that is signed leaves the cohort out"
    assert signed[0].answer != signed[1].answer


@pytest.mark.parametrize("what", ["none", "another nonce", "another answer", "another node's key", "of round 0"])
def test_an_answer_without_its_receipt_is_not_used(carded, tmp_path, caplog, what) -> None:
    over, kept = carded.grid(), {}

    def change(packet: Packet) -> Packet:
        if packet.kind != exchange.SUMS:
            return packet
        facts, tensors = dict(packet.facts), dict(packet.tensors)
        kept.setdefault("first", facts)
        if what == "none":
            facts = {}
        elif what == "another nonce":
            facts[exchange.NONCE] = "00" * 32
        elif what == "another answer":
            tensors = {name: tensor + 1 for name, tensor in tensors.items()}
        elif what == "another node's key":
            other = replace(parse_receipt(str(facts[exchange.RECEIPT])), node=carded.keys[1].public)
            facts[exchange.RECEIPT] = other.signed(carded.keys[1].sign).text
        else:
            facts = kept["first"]
        return replace(packet, facts=facts, tensors=tensors)

    over.twists[FIRST] = with_packet(change)
    with pytest.raises(TooFewNodes, match="round 1" if what == "of round 0" else "round 0"):
        carded.run(tmp_path / "run", (), over)
    assert "receipt from node 50, not used" in caplog.text


def test_a_key_that_is_not_pinned_gets_nothing(tmp_path, monkeypatch) -> None:
    carded = Carded(tmp_path, pins=Pins((SigningKey.generate().public.text,)))
    monkeypatch.setenv(*carded.environment())
    with pytest.raises(TooFewNodes, match=r"a node refused: it has not pinned the key of the run's ledger"):
        carded.run(tmp_path / "run")
    assert set(carded.codes()) == {"key"}
    assert not any(packet.kind == "sums" for packet in carded.answered[0])


def test_without_pins_the_first_key_is_pinned(tmp_path, monkeypatch) -> None:
    carded = Carded(tmp_path, pins=Pins())
    monkeypatch.setenv(*carded.environment())
    carded.run(tmp_path / "run")
    other = tmp_path / "other-key.pem"
    ledger_keys.new_key(other)
    monkeypatch.setenv(ledger_keys.KEY_VARIABLE, str(other))
    with pytest.raises(TooFewNodes):
        carded.run(tmp_path / "second")
    assert set(carded.codes()) == {"key"}


def test_a_node_that_asks_for_a_witness_gets_a_cosigned_card(tmp_path, monkeypatch) -> None:
    seer = SigningKey.generate()
    carded = Carded(tmp_path, pins=Pins((ledger_keys.default_key().public.text,), (seer.public.text,)))
    monkeypatch.setenv(*carded.environment())
    with pytest.raises(TooFewNodes):
        carded.run(tmp_path / "unseen")
    assert set(carded.codes()) == {"witness"}
    wait = (f'federation.witnesses=["{seer.public.text}"]',)
    with pytest.raises(InputError, match=r"no witness of federation\.witnesses has cosigned"):
        carded.run(tmp_path / "late", wait)
    assert [record["type"] for record in payloads(tmp_path / "late")] == ["begin"], "nothing is charged before"
    with pytest.raises(InputError, match=r"no witness .* and continue with --resume"):
        carded.run(tmp_path / "late", wait, resume=True)
    carded.answered[0].clear()
    seer_key, memory = tmp_path / "witness.pem", tmp_path / "memory"
    private_files.create(seer_key, seer.pem(None))

    def cosign(_: Messenger) -> None:
        command = ["audit", "witness", str(tmp_path / "run"), "--key", ledger_keys.default_key().public.text]
        assert fedrec([*command, "--witness-key", str(seer_key), "--memory", str(memory)]) == 0

    monkeypatch.setattr(Messenger, "wait", cosign)
    carded.run(tmp_path / "run", wait)
    assert carded.codes() == []


@pytest.mark.parametrize("written", ["keys.json", ".card", ".json"])
def test_a_node_killed_while_it_keeps_a_new_card_takes_part_when_it_is_asked_again(
    tmp_path, monkeypatch, written: str
) -> None:
    """After each file of the three: one that refused its own run's card forever would end a run that needs it."""
    carded = Carded(tmp_path)
    monkeypatch.setenv(*carded.environment())
    grid, write, killed = carded.grid(), RunMemory._write, []

    def dying(self: RunMemory, name: str, text: str) -> None:
        write(self, name, text)
        if not killed and name.endswith(written):
            killed.append(name)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunMemory, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            carded.run(tmp_path / "run", over=grid)
    assert killed
    carded.run(tmp_path / "run", resume=True)
    assert "serial" not in carded.codes()
    assert fedrec(["audit", "verify", str(tmp_path / "run"), "--trust-run-key"]) == 0


def test_an_older_card_and_another_of_an_answered_run_stay_refused(tmp_path) -> None:
    memory = RunMemory(tmp_path / "runs")
    with memory.held():
        assert memory.new("00" * 8, "key", 5)
        memory.accept("00" * 8, "card", "key", 5)
        memory.asked("00" * 8, LastQuestion("note", 1, "question"))
        assert not memory.new("11" * 8, "key", 4)
        assert not memory.new("00" * 8, "key", 5)
        assert memory.new("11" * 8, "key", 6)


def test_a_run_that_ended_after_its_first_record_continues(carded, tmp_path, monkeypatch) -> None:
    """Its card has the public seed, which is on disk before the card is: nobody has to start anew."""

    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Coordinator, "run", dying)
        with pytest.raises(KeyboardInterrupt):
            carded.run(tmp_path / "run")
    assert [record["type"] for record in payloads(tmp_path / "run")] == ["begin"]
    carded.run(tmp_path / "run", resume=True)
    assert [record["type"] for record in payloads(tmp_path / "run")].count("charge") == 2
    assert fedrec(["audit", "verify", str(tmp_path / "run"), "--trust-run-key"]) == 0
