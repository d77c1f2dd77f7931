"""The attack that read 30 of 30 histories: a cohort of one, a huge clip, no noise. Behind the gate it reads none."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import DeviceLedger
from fedrec_client.consent.policy import Policy
from fedrec_client.node import UserNode
from fedrec_client.run_gate import Pins, RunGate
from fedrec_client.sources import finder

from fedrec import wire
from fedrec.audit.card.receipt import parse_receipt
from fedrec.audit.log.keys import SigningKey
from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest
from fedrec.federation.exchange import LedgerProof
from fedrec.transport.node_key import load_node_key, new_node_key
from tests.server.hostile import USERS, Hostile, histories, read

PINNED, OTHER, WITNESS = (SigningKey.generate() for _ in range(3))
LOUD = {"clip": 1e6, "mu": 1e-4}
"""The largest clip that the wire ever let through."""


@pytest.fixture
def find(tmp_path: Path) -> Callable:
    return finder(histories(tmp_path))


@pytest.fixture
def catalogue(find: Callable) -> Catalogue:
    return find(DataRequest(data=DataConfig(name="nodes"), seed=1).text()).catalogue


class Victim(UserNode):
    """A node with a gate. state: its folder, which a test may restore."""

    def __init__(self, find: Callable, state: Path, pins: Pins | None = None, **options: object) -> None:
        key = state / "node.key"
        if not key.exists():
            new_node_key(key)
        fixed = pins or Pins((PINNED.public.text,))
        gate = RunGate(state / "runs", lambda: fixed, load_node_key(key), **options)
        super().__init__(find, gate=gate)


class Careful(Victim):
    """A node with a gate, a policy with the defaults of `fedrec client policy`, and a device ledger."""

    def __init__(self, find: Callable, state: Path) -> None:
        super().__init__(find, state)
        policy = Policy()
        ledger = DeviceLedger(state / "ledger" / "device-ledger.jsonl", policy)
        ledger.open()
        self._consent = Consent(policy, ledger)


def none_read(answers: list[wire.Packet], catalogue: Catalogue) -> set[str]:
    """The words of the refusals, after it was checked that no history was read."""
    assert answers
    assert not any(read(answer, user % USERS, catalogue) for user, answer in enumerate(answers))
    assert not any(answer.tensors for answer in answers)
    return {str(answer.facts.get("code")) for answer in answers}


def test_a_node_without_a_gate_is_read_whole(find, catalogue, tmp_path) -> None:
    """The attack works where all sides are one person's: the tests below can fail."""
    server = Hostile(tmp_path, OTHER, catalogue, **LOUD)
    node = UserNode(find)
    assert sum(read(server.ask(node, [user], None), user, catalogue) for user in range(USERS)) == USERS


def test_a_server_without_a_ledger_reads_none(find, catalogue, tmp_path) -> None:
    server, node = Hostile(tmp_path, OTHER, catalogue, **LOUD), Victim(find, tmp_path)
    answers = [server.ask(node, [user], None) for user in range(USERS)]
    empty = [server.ask(node, [user], LedgerProof("run1", "", "", "")) for user in range(USERS)]
    made_up = [server.ask(node, [user], LedgerProof("run1", "a\n\nb", "c", "d")) for user in range(USERS)]
    assert none_read(answers + empty + made_up, catalogue) == {"card"}


def test_a_ledger_of_a_key_that_is_not_pinned_reads_none(find, catalogue, tmp_path) -> None:
    server, node = Hostile(tmp_path, OTHER, catalogue, **LOUD), Victim(find, tmp_path)
    server.charge()
    assert none_read([server.ask(node, [user], server.proof()) for user in range(USERS)], catalogue) == {"key"}


@pytest.mark.parametrize("trust", ["distributed", "local"])
def test_a_plain_sum_under_a_card_of_another_trust_model_reads_none(find, catalogue, tmp_path, trust) -> None:
    """The card promises masks or local noise, and the question asks for a sum without either."""
    server, node = Hostile(tmp_path, PINNED, catalogue, trust=trust, **LOUD), Victim(find, tmp_path)
    server.charge()
    answers = [server.ask(node, [user], server.proof()) for user in range(USERS)]
    assert answers[0].facts["code"] == "terms"
    assert none_read(answers, catalogue) <= {"terms", "charge"}


def test_terms_off_the_card_read_none(find, catalogue, tmp_path) -> None:
    """The card and its charge promise a clip of 1; the run's description asks for a million."""
    quiet = Hostile(tmp_path / "quiet", PINNED, catalogue, clip=1.0, mu=1.0)
    server = Hostile(tmp_path / "loud", PINNED, catalogue, plan=quiet.first["plan"], **LOUD)
    server.charge(queries=quiet.queries)
    node = Victim(find, tmp_path)
    assert none_read([server.ask(node, [user], server.proof()) for user in range(USERS)], catalogue) <= {
        *("terms", "charge")
    }
    loud = Hostile(tmp_path / "charge", PINNED, catalogue, clip=1.0, mu=1.0, run="run2", card={"serial": 99})
    loud.charge(queries=server.queries)
    assert none_read([loud.ask(node, [user], loud.proof()) for user in range(USERS)], catalogue) == {"terms"}


def test_a_card_that_the_policy_does_not_accept_reads_none(find, catalogue, tmp_path) -> None:
    """The key is pinned, card and charge are in order: only the terms are what no policy accepts."""
    server, node = Hostile(tmp_path, PINNED, catalogue, **LOUD), Careful(find, tmp_path)
    server.charge()
    everybody = server.ask(node, list(range(USERS)), server.proof())
    answers = [server.ask(node, [user], server.proof(2)) for user in range(USERS)]
    assert none_read([everybody], catalogue) == {"terms"}
    assert none_read(answers, catalogue) <= {"terms", "charge", "cohort"}


def test_a_cohort_of_one_reads_none_on_terms_that_are_accepted(find, catalogue, tmp_path) -> None:
    """Everything is in order but the cohort. The sums of a cohort of one are zero, whatever the user has."""
    server = Hostile(tmp_path, PINNED, catalogue, clip=1.0, mu=0.3, sampling=0.5)
    node, answers = Careful(find, tmp_path), []
    for user in range(3):
        server.charge()
        seen = len(server.ledger.entries) - 1 if user else None
        answers.append(server.ask(node, [user], server.proof(seen)))
    assert [answer.kind for answer in answers] == [exchange.SUMS] * 3
    assert not any(tensor.any() for answer in answers for tensor in answer.tensors.values())
    assert not any(read(answer, user, catalogue) for user, answer in enumerate(answers))
    server.charge()
    assert none_read([server.ask(node, [3], server.proof(4))], catalogue) == {"terms"}, "asked too often"
    honest = Hostile(tmp_path / "b", PINNED, catalogue, clip=1.0, mu=0.3, run="run2", card={"serial": 99})
    honest.charge()
    assert honest.ask(node, list(range(USERS)), honest.proof()).tensors["popularity"].any(), "an honest run is answered"


def test_a_run_that_asks_everybody_leaves_nobody_out(find, catalogue, tmp_path) -> None:
    """Two cohorts that differ by one user would give that user away."""
    server, node = Hostile(tmp_path, PINNED, catalogue, clip=1.0, mu=0.3), Victim(find, tmp_path)
    everybody, answers = list(range(USERS)), []
    for user in everybody[:5]:
        server.charge()
        seen = len(server.ledger.entries) - 1 if user else None
        answers.append(server.ask(node, [u for u in everybody if u != user], server.proof(seen)))
    assert none_read(answers, catalogue) == {"cohort"}


def test_a_card_of_another_description_reads_none(find, catalogue, tmp_path) -> None:
    """An honest card is swapped in for a loud description, or its fingerprint is the attacker's."""
    honest = Hostile(tmp_path / "a", PINNED, catalogue, clip=1.0, mu=1.0)
    honest.charge()
    server, node = Hostile(tmp_path / "b", PINNED, catalogue, run="run2", **LOUD), Victim(find, tmp_path)
    answers = [server.ask(node, [user], honest.proof()) for user in range(USERS)]
    assert none_read(answers, catalogue) == {"fingerprint"}
    renamed = [
        node.answer(replace(server.question([user], honest.proof()), fingerprint=honest.spec.fingerprint))
        for user in range(USERS)
    ]
    assert none_read(renamed, catalogue) <= {"fingerprint", "charge"}


def test_a_card_edited_after_signing_reads_none(find, catalogue, tmp_path) -> None:
    server, node = Hostile(tmp_path, PINNED, catalogue, clip=1.0, mu=1.0), Victim(find, tmp_path)
    server.charge()
    proof = server.proof()
    assert proof.card is not None
    edited = replace(proof, card=proof.card.replace('"clip_norm":"1.0"', '"clip_norm":"9.9"'))
    assert edited != proof
    assert none_read([server.ask(node, [user], edited) for user in range(USERS)], catalogue) == {"card"}


def test_an_expired_card_reads_none(find, catalogue, tmp_path) -> None:
    server = Hostile(tmp_path, PINNED, catalogue, **LOUD)
    server.charge()
    node = Victim(find, tmp_path, now=lambda: datetime(2100, 1, 1, tzinfo=UTC))
    assert none_read([server.ask(node, [user], server.proof()) for user in range(USERS)], catalogue) == {"expired"}


def test_a_charge_pays_for_one_question_and_not_for_a_thousand(find, catalogue, tmp_path) -> None:
    """Cohorts of one after the other under one charge, and differences of two cohorts."""
    server, node = Hostile(tmp_path, PINNED, catalogue, clip=1.0, mu=1.0), Victim(find, tmp_path)
    server.charge()
    everybody = list(range(USERS))
    assert server.ask(node, everybody, server.proof()).kind == exchange.SUMS
    assert server.ask(node, everybody, server.proof(2)).kind == exchange.SUMS, "a lost answer is given again"
    without = [server.ask(node, [u for u in everybody if u != user], server.proof(2)) for user in everybody]
    alone = [server.ask(node, [user], server.proof(2)) for user in everybody]
    other = [node.answer(server.question(everybody, server.proof(2), {"x": torch.ones(1) * k})) for k in range(3)]
    assert none_read(without + alone + other, catalogue) == {"charge"}


def test_a_charge_that_is_not_in_the_ledger_reads_none(find, catalogue, tmp_path) -> None:
    server, node = Hostile(tmp_path, PINNED, catalogue, **LOUD), Victim(find, tmp_path)
    secret = Hostile(tmp_path / "secret", PINNED, catalogue, **LOUD)
    secret.charge()
    server.ledger.append({"type": "note", "what": "nothing"})
    proof = replace(secret.proof(), growth=server.proofs.growth(1), card=server.proofs.card_text())
    answers = [server.ask(node, [user], proof) for user in range(USERS)]
    assert none_read(answers, catalogue) <= {"charge", "head"}


def test_a_ledger_that_is_cut_back_reads_none_and_leaves_a_trace(find, catalogue, tmp_path) -> None:
    server, node = Hostile(tmp_path / "a", PINNED, catalogue, clip=1.0, mu=1.0), Victim(find, tmp_path)
    server.charge()
    server.charge()
    everybody = list(range(USERS))
    assert server.ask(node, everybody, server.proof()).kind == exchange.SUMS
    back = Hostile(tmp_path / "b", PINNED, catalogue, clip=1.0, mu=1.0)
    back.charge()
    answers = [server.ask(node, [user], replace(back.proof(), card=None)) for user in everybody]
    assert none_read(answers, catalogue) == {"head"}
    assert (tmp_path / "runs" / "run1.forks").read_text().count("fedrec/run/run1") >= 2


def test_a_ledger_that_is_forked_between_nodes_shows_in_two_receipts(find, catalogue, tmp_path) -> None:
    """Each node sees one fork, and refuses the other; their receipts together convict the server."""
    forks = [Hostile(tmp_path / name, PINNED, catalogue, clip=1.0, mu=1.0) for name in "ab"]
    forks[0].charge()
    forks[1].charge(epsilon="another")
    nodes = [Victim(find, tmp_path / f"node{n}") for n in range(2)]
    everybody, receipts = list(range(USERS)), []
    for server, node in zip(forks, nodes, strict=True):
        proof = replace(server.proof(), card=forks[0].proofs.card_text())
        if server is forks[1]:
            proof = server.proof()
        answer = server.ask(node, everybody, proof)
        assert answer.kind == exchange.SUMS
        receipts.append(parse_receipt(answer.facts[exchange.RECEIPT]))
    assert receipts[0].size == receipts[1].size
    assert receipts[0].root != receipts[1].root
    crossed = [forks[1].ask(nodes[0], [user], replace(forks[1].proof(2), card=None)) for user in everybody]
    assert none_read(crossed, catalogue) == {"head"}


def test_an_old_card_replayed_after_a_newer_one_reads_none(find, catalogue, tmp_path) -> None:
    node, everybody = Victim(find, tmp_path), list(range(USERS))
    new = Hostile(tmp_path / "new", PINNED, catalogue, clip=1.0, mu=1.0, run="run2", card={"serial": 50})
    new.charge()
    assert new.ask(node, everybody, new.proof()).kind == exchange.SUMS
    old = Hostile(tmp_path / "old", PINNED, catalogue, run="run1", card={"serial": 49}, **LOUD)
    old.charge()
    assert none_read([old.ask(node, [user], old.proof()) for user in everybody], catalogue) == {"serial"}


def test_a_second_card_of_one_run_reads_none(find, catalogue, tmp_path) -> None:
    node, everybody = Victim(find, tmp_path), list(range(USERS))
    first = Hostile(tmp_path / "a", PINNED, catalogue, clip=1.0, mu=1.0)
    first.charge()
    assert first.ask(node, everybody, first.proof()).kind == exchange.SUMS
    second = Hostile(tmp_path / "b", PINNED, catalogue, **LOUD)
    second.charge()
    second.charge()
    assert none_read([second.ask(node, [user], second.proof(2)) for user in everybody], catalogue) == {"card"}


def test_a_card_that_no_witness_cosigned_reads_none_where_one_is_asked_for(find, catalogue, tmp_path) -> None:
    server = Hostile(tmp_path, PINNED, catalogue, **LOUD)
    server.charge()
    node = Victim(find, tmp_path, Pins((PINNED.public.text,), (WITNESS.public.text,)))
    assert none_read([server.ask(node, [user], server.proof()) for user in range(USERS)], catalogue) == {"witness"}


def test_hostile_facts_end_in_a_word(find, catalogue, tmp_path) -> None:
    server, node = Hostile(tmp_path, PINNED, catalogue, **LOUD), Victim(find, tmp_path)
    server.charge()
    good = server.question([0], server.proof())
    for name in ("run", "charge", "growth", "card"):
        for value in ("", "../../etc/passwd", "\n\n", "x" * 100_000, 5, 1.5, True, "\ud800", "fedrec-record@v1\n\n\n"):
            answer = node.answer(replace(good, facts={**good.facts, name: value}))
            assert answer.kind == exchange.REFUSAL
            assert answer.facts["code"] in exchange.REFUSALS
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["lock"], "nothing of it was kept"


def test_what_a_hello_asks_does_not_change_the_number_of_users(find) -> None:
    node = UserNode(find)
    answers = [
        node.answer(exchange.ask_hello(DataRequest(data=DataConfig(name="nodes", min_rating=rating), seed=1)))
        for rating in (None, 2, 3, 4, 5)
    ]
    assert {answer.facts["users"] for answer in answers} == {USERS}
