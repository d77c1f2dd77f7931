"""A lying server against the helper: what it opens and cosigns, and what it never does, also after a restart."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fedrec_client.run_gate import Pins
from fedrec_server.helper.keys import HelperKeys
from fedrec_server.helper.messages import CosignRequest, HelperAnswer, RoundRequest
from fedrec_server.helper.service import HeadUnknown, HelperService

from fedrec.audit.log import chain as chains
from fedrec.audit.log import checkpoint, proofs
from fedrec.audit.log.checkpoint import Checkpoint, Older
from fedrec.audit.log.keys import SigningKey, default_key
from fedrec.audit.log.ledger import Ledger
from fedrec.errors import FedrecError
from fedrec.secagg import Malformed, OpenRequest, Refused
from tests.server.carded import Carded
from tests.server.nearby import Nearby
from tests.server.test_trust_over_nodes import DISTRIBUTED


@dataclass
class Finished:
    """A run of 2 rounds over 4 nodes: what its helper was asked, and its folder before each question."""

    cards: list[CosignRequest]
    asked: list[RoundRequest]
    folders: list[Path]
    ledger: bytes

    def at(self, number: int, tmp_path: Path, **options: Any) -> HelperService:
        """The helper as it restarts before question `number`; 0 is the one for a cosignature."""
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folders[number], folder)
        return HelperService(folder, HelperKeys(folder), **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    place = tmp_path_factory.mktemp("finished")
    helper, folders = Nearby(place / "helper"), []

    def kept(*_: object) -> None:
        folders.append(shutil.copytree(place / "helper", place / f"copy{len(folders)}"))

    helper.before = kept
    kept()
    pins = Pins((default_key().public.text,), helpers=(helper.named.key.text,))
    carded = Carded(place / "nodes", nodes=4, users=20, pins=pins)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(*carded.environment())
        carded.run(place / "run", (*DISTRIBUTED, "privacy.dropout=0.25"), helper=helper)
    kept()
    return Finished(helper.cards, helper.asked, folders, (place / "run/release/privacy/ledger.jsonl").read_bytes())


def changed(asked: RoundRequest, change: Callable[[OpenRequest], OpenRequest]) -> RoundRequest:
    return replace(asked, opening=change(OpenRequest.decode(asked.opening)).encode())


def seeds(chosen: slice) -> Callable[[RoundRequest], RoundRequest]:
    return lambda asked: changed(asked, lambda request: replace(request, seeds=request.seeds[chosen]))


def test_what_an_honest_server_asks_is_cosigned_and_opened(finished: Finished, tmp_path: Path) -> None:
    answer = finished.at(0, tmp_path).cosign(finished.cards[0])
    found = checkpoint.parsed(answer.note)
    assert found.cosigned_at(HelperKeys(finished.folders[0]).signing.public) is not None
    assert found.size == 1
    opened = finished.at(1, tmp_path).open(finished.asked[0])
    assert checkpoint.parsed(opened.note).size == 2
    again = HelperService(tmp_path / "copy", HelperKeys(tmp_path / "copy")).open(finished.asked[0])
    assert again.opening == opened.opening, "a lost reply is sent again after a restart"


def test_a_second_survivor_set_is_refused_after_a_restart(finished: Finished, tmp_path: Path) -> None:
    """The difference of two sums of masks unmasks the node that is in one of them."""
    finished.at(1, tmp_path).open(finished.asked[0])
    for _ in range(2):
        service = HelperService(tmp_path / "copy", HelperKeys(tmp_path / "copy"))
        with pytest.raises(Refused, match="was opened for another survivor set"):
            service.open(seeds(slice(1, 4))(finished.asked[0]))


def forged(asked: RoundRequest) -> RoundRequest:
    """A seed that the server sealed itself, to know all masks but one."""

    def change(request: OpenRequest) -> OpenRequest:
        own = replace(request.seeds[0], sealed=bytes(80))
        return replace(request, seeds=(own, *request.seeds[1:]))

    return changed(asked, change)


def foreign(asked: RoundRequest) -> RoundRequest:
    """The seed of one node under the name of another."""

    def change(request: OpenRequest) -> OpenRequest:
        return replace(request, seeds=(replace(request.seeds[1], sender=0), *request.seeds[1:]))

    return changed(asked, change)


def uncharged(asked: RoundRequest) -> RoundRequest:
    """The run card's own proof in the place of a charge's."""
    return changed(asked, lambda request: replace(request, charge=b"no proof"))


def other_question(asked: RoundRequest) -> RoundRequest:
    return replace(asked, question="0" * 64)


def more_users(asked: RoundRequest) -> RoundRequest:
    """Three nodes who are said to have many users, so that one is enough."""
    return replace(asked, counts=tuple(count + 100 for count in asked.counts))


def shorter(asked: RoundRequest) -> RoundRequest:
    """A round over part of the vector, whose mask is that of the whole one."""
    return changed(asked, lambda request: replace(request, round=replace(request.round, length=1)))


def other_helper(asked: RoundRequest) -> RoundRequest:
    return changed(asked, lambda request: replace(request, round=replace(request.round, helper=bytes(32))))


def other_run(asked: RoundRequest) -> RoundRequest:
    return replace(asked, run="other")


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (seeds(slice(0, 2)), "noise of 30 users; the run counts 45"),
        (forged, "is not signed by its key on the roster"),
        (foreign, "is not signed by its key on the roster"),
        (uncharged, "a proof without a checkpoint"),
        (lambda asked: replace(asked, round_index=1), "does not charge this round"),
        (other_question, "on other terms"),
        (more_users, "on other terms"),
        (shorter, "is not signed by its key on the roster"),
        (other_helper, "is one of another helper"),
        (other_run, "not taken up"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_request_that_is_changed_opens_nothing(finished: Finished, tmp_path: Path, attack, why: str) -> None:
    service = finished.at(1, tmp_path)
    with pytest.raises(FedrecError, match=why):
        service.open(attack(finished.asked[0]))
    assert not list((tmp_path / "copy").glob("opened/*")), "nothing was opened"
    service.open(finished.asked[0])


def test_a_charge_opens_no_other_rounds_masks(finished: Finished, tmp_path: Path) -> None:
    """Seeds of round 0 under the charge of round 1, and the other way round."""
    first, second = (OpenRequest.decode(asked.opening) for asked in finished.asked)
    mixed = replace(finished.asked[1], opening=replace(second, seeds=first.seeds).encode())
    with pytest.raises(Refused, match="is not signed by its key"):
        finished.at(2, tmp_path).open(mixed)
    reused = replace(finished.asked[1], opening=replace(first, charge=second.charge).encode())
    with pytest.raises(Refused, match="is not its charge"):
        finished.at(2, tmp_path).open(reused)


def test_an_old_round_is_not_opened_once_the_ledger_has_grown(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cut back or forked"):
        finished.at(3, tmp_path).open(finished.asked[0])


class Fork:
    """The run's ledger, cut back to its first record and continued otherwise, by the ledger's own key."""

    def __init__(self, finished: Finished, folder: Path) -> None:
        original = chains.read(finished.ledger)
        key = SigningKey(default_key()._key)
        folder.mkdir()
        (folder / "ledger.jsonl").write_bytes(finished.ledger.split(b"\n", 1)[0] + b"\n")
        first = Checkpoint(original.records[0].run, 1, original.roots[1]).signed(key)
        (folder / "checkpoint").write_text(first.note)
        ledger = Ledger(folder / "ledger.jsonl", key, run=original.records[0].run)
        ledger.append({"type": "note", "what": "another history"})
        ledger.append(dict(original.records[1].payload))
        ledger.append({"type": "note", "what": "to be the longer one"})
        self.chain = ledger.chain
        self.sealed = Checkpoint(ledger.run, len(self.chain.records), self.chain.roots[-1]).signed(key)

    def proof(self, record: int) -> str:
        return proofs.of_record(self.chain, self.sealed, record)

    def growth(self, size: int) -> str:
        return proofs.of_growth(self.chain, self.sealed, Older("", size, self.chain.roots[size], None))


def test_a_forked_ledger_is_neither_cosigned_nor_opened_and_the_evidence_is_kept(
    finished: Finished, tmp_path: Path
) -> None:
    fork, asked = Fork(finished, tmp_path / "fork"), finished.asked[0]
    charged = changed(asked, lambda request: replace(request, charge=fork.proof(2).encode()))
    for growth in (fork.growth(1), fork.growth(2), asked.growth):
        with pytest.raises(HeadUnknown, match="not shown to extend the 2 records"):
            finished.at(2, tmp_path).open(replace(charged, growth=growth))
        card = CosignRequest(fork.proof(0), growth, finished.cards[0].roster)
        with pytest.raises(HeadUnknown, match="not shown to extend the 2 records"):
            finished.at(2, tmp_path).cosign(card)
    rolled = finished.cards[0]
    with pytest.raises(Refused, match="cut back or forked"):
        finished.at(2, tmp_path).cosign(rolled)
    (kept,) = (tmp_path / "copy").glob("runs/*.forks")
    assert rolled.card.partition("\n\n")[2].strip() in kept.read_text().encode().decode("unicode_escape")


def test_a_card_that_does_not_name_the_helper_is_not_cosigned(finished: Finished, tmp_path: Path) -> None:
    other = Nearby(tmp_path / "other")
    with pytest.raises(FedrecError, match="does not name this helper"):
        other.cosign(finished.cards[0], 0.0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda card: replace(card, roster=card.roster[1:]), "are not those of its card"),
        (lambda card: replace(card, roster=(bytes(32), *card.roster[1:])), "are not those of its card"),
        (lambda card: replace(card, roster=card.roster[:1] * 4), "no key twice"),
        (lambda card: replace(card, card=card.card.replace('"users":60', '"users":61')), "not in the ledger"),
        (lambda card: replace(card, card="no card"), "without a checkpoint"),
    ],
)
def test_a_card_that_is_changed_is_not_cosigned(finished: Finished, tmp_path: Path, change, why: str) -> None:
    with pytest.raises(FedrecError, match=why):
        finished.at(0, tmp_path).cosign(change(finished.cards[0]))
    assert not (tmp_path / "copy/runs").exists()


def test_an_expired_card_and_a_ledger_that_is_not_pinned_are_refused(finished: Finished, tmp_path: Path) -> None:
    late = datetime.now(UTC) + timedelta(days=40)
    with pytest.raises(Refused, match="expired"):
        finished.at(0, tmp_path, now=lambda: late).cosign(finished.cards[0])
    with pytest.raises(Refused, match="expired"):
        finished.at(1, tmp_path, now=lambda: late).open(finished.asked[0])
    with pytest.raises(Refused, match="signed by no key"):
        finished.at(0, tmp_path, ledgers=[SigningKey.generate().public]).cosign(finished.cards[0])
    assert finished.at(0, tmp_path, ledgers=[default_key().public]).cosign(finished.cards[0]).note


def test_its_own_minimum_binds(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="minimum cohort of 3; here at least 4"):
        finished.at(1, tmp_path, min_nodes=4).open(finished.asked[0])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"{}\n", b"[]\n", b"nothing", b'{"card": 1, "growth": ""}\n' + bytes(32),
        b'{"card": "", "growth": ""}\n' + bytes(31), b'{"run": "r", "round": -1, "counts": [], "growth": ""}\n',
        b'{"run": "r", "round": 0, "question": "x", "counts": [true], "growth": ""}\n', b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_bytes_that_are_no_message(data: bytes) -> None:
    for kind in (CosignRequest, RoundRequest, HelperAnswer):
        with pytest.raises(Malformed):
            kind.decode(data)


def test_messages_have_one_reading(finished: Finished) -> None:
    for made in (finished.cards[0], *finished.asked, HelperAnswer("note", b"rest")):
        assert type(made).decode(made.encode()) == made
