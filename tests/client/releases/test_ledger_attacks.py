"""Releases that are signed as they must be, and that the ledger of the run does not prove: each is refused."""

import pytest

pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")

import base64
import contextlib
from pathlib import Path

from fedrec_client import EdgeClient, SyncOptions
from fedrec_server.releases import publish

from fedrec.audit.log.keys import SigningKey
from fedrec.errors import InputError, VerificationError
from fedrec.releases import proven
from fedrec.releases.record import FORMAT, Release, parsed
from tests.client.edge.devices import als, listed
from tests.client.releases.publisher import OPERATOR, Publisher, bare, changed, close
from tests.client.releases.test_tuf_attacks import KEYS, refused, with_first
from tests.client.releases.web_server import Web


def genuine(publisher: Publisher, seed: int = 2) -> Release:
    place = publisher.model(als(seed))
    return publisher.release(place, publisher.ledger(place))


def another_model(publisher: Publisher, release: Release) -> Release:
    """The files of a model that the ledger does not name."""
    place = publisher.model(als(9))
    return changed(release, files=publisher.release(place, publisher.ledger(place)).files)


def another_run(publisher: Publisher, release: Release) -> Release:
    return changed(release, run="0123456789abcdef")


def another_key(publisher: Publisher, release: Release) -> Release:
    return changed(release, ledger_key=SigningKey.generate().public.text)


def no_key(publisher: Publisher, release: Release) -> Release:
    return changed(release, ledger_key="/etc/passwd")


def a_false_path(publisher: Publisher, release: Release) -> Release:
    """One bit of the inclusion proof is another."""
    lines = release.proof.split("\n")
    path = bytearray(base64.b64decode(lines[5]))
    path[0] ^= 1
    lines[5] = base64.b64encode(path).decode()
    return changed(release, proof="\n".join(lines))


def an_earlier_record(publisher: Publisher, release: Release) -> Release:
    """A genuine proof of a record that is not the last one."""
    from fedrec.audit.log import proofs
    from fedrec.audit.log.checkpoint import Checkpoint

    place = publisher.model(als(2))
    ledger = publisher.ledger(place)
    ledger.append({"type": "note", "what": "after the model"})
    chain = ledger.chain
    sealed = Checkpoint(ledger.run, len(chain.records), chain.roots[-1]).signed(ledger.key)
    proof = proofs.of_record(chain, sealed, sealed.size - 2)
    return changed(release, proof=proof, run=ledger.run)


def an_unsigned_checkpoint(publisher: Publisher, release: Release) -> Release:
    lines = release.proof.rstrip("\n").split("\n")
    return changed(release, proof="\n".join(lines[:-1]) + "\n")


def no_proof(publisher: Publisher, release: Release) -> Release:
    return changed(release, proof="")


ATTACKS = [
    (another_model, "not in the last record"),
    (another_run, "its ledger of"),
    (another_key, "names no ledger of the key"),
    (no_key, "names no key"),
    (a_false_path, "not in the ledger"),
    (an_earlier_record, "no closing record at the end"),
    (an_unsigned_checkpoint, "not signed by the key"),
    (no_proof, "is no proof"),
]


@pytest.mark.parametrize(("attack", "words"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_what_the_ledger_does_not_prove(tmp_path: Path, publisher: Publisher, web: Web, attack, words: str) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.offer(attack(publisher, genuine(publisher)))
        refused(client, words)


def test_a_ledger_that_grew(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """A device that saw the first head accepts each later one, also where it missed some between."""
    place = publisher.model(als(1))
    ledger = publisher.ledger(place, run="theRun")
    last = publisher.offer(publisher.release(place, ledger))
    with bare(tmp_path / "device") as client, bare(tmp_path / "often") as often:
        for each in (client, often):
            each.sync(web.url, keys=KEYS)
        for seed in (2, 3):
            place = publisher.model(als(seed))
            close(ledger, place)
            last = publisher.offer(publisher.release(place, ledger, after=last))
            often.sync()
        assert client.sync().sequence == 3
        assert listed(client) == listed(often)


@pytest.mark.parametrize("how", ["forked", "longer fork", "shortened", "unproven"])
def test_a_ledger_that_was_rewritten(tmp_path: Path, publisher: Publisher, web: Web, how: str) -> None:
    """The device compares the head with the one that it saw last of this run."""
    first, second = publisher.model(als(1)), publisher.model(als(2))
    ledger = publisher.ledger(first, name="genuine", run="theRun")
    release = publisher.offer(publisher.release(first, ledger))
    with bare(tmp_path / "device") as client:
        client.sync(web.url, keys=KEYS)
        if how == "unproven":
            close(ledger, second)
            publisher.offer(publisher.release(second, ledger))
        else:
            other = publisher.ledger(
                second, name="other", run="theRun", records={"forked": 3, "longer fork": 5, "shortened": 2}[how]
            )
            made = publisher.release(second, other)
            publisher.offer(changed(made, growth=release.growth))
        refused(client, "forked or rolled back")


def test_the_head_is_kept_before_the_model_is_used(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """A fork is also seen by a device that could not finish the download of the release before."""
    first = publisher.model(als(1))
    publisher.offer(publisher.release(first, publisher.ledger(first, name="one", run="theRun")))
    with bare(tmp_path / "device") as client:
        web.hooks.append(lambda request: request.path.startswith("/parts/") and not request.send_error(503))
        with pytest.raises(InputError, match="lacks a part"):
            client.sync(web.url, keys=KEYS)
        web.hooks.clear()
        second = publisher.model(als(2))
        publisher.offer(publisher.release(second, publisher.ledger(second, name="two", run="theRun", records=4)))
        with pytest.raises(VerificationError, match="forked"):
            client.sync()
        assert client.model is None


def test_witnesses_must_have_cosigned(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    one, two = SigningKey.generate(), SigningKey.generate()
    place = publisher.model(als(1))
    ledger = publisher.ledger(place)
    publisher.offer(publisher.release(place, ledger, witnesses=[one]))
    both = SyncOptions(witnesses=[one.public.text, two.public.text])
    with bare(tmp_path / "device") as client:
        with pytest.raises(VerificationError, match=f"witness {two.public.id} has not cosigned"):
            client.sync(web.url, keys=KEYS, options=both)
        publisher.offer(publisher.release(place, ledger, witnesses=[one, two]))
        client.sync()
        other = publisher.model(als(2))
        publisher.offer(publisher.release(other, publisher.ledger(other)))
        refused(client, "has not cosigned")


# ---- the model itself


def lists_fail(client: EdgeClient, words: str) -> None:
    refused(client, words, InputError)
    models = [each for each in (client.path / "models").iterdir() if each.is_dir()]
    assert len(models) == 1


def test_a_model_that_makes_no_list(
    tmp_path: Path, publisher: Publisher, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every signature and proof holds, and the model is of no use: the old one comes back."""
    with with_first(tmp_path / "device", publisher, web) as client:
        bad = als(2)
        bad.tensors()["items"].fill_(float("nan"))
        bad.tensors()["popularity"].fill_(float("nan"))
        place = publisher.model(bad)
        with pytest.raises(InputError, match="range of float32"):
            publisher.release(place, publisher.ledger(place, name="careful"))
        monkeypatch.setattr(publish.parity, "expected", lambda *_: ())
        publisher.offer(publisher.release(place, publisher.ledger(place)))
        lists_fail(client, "makes no list")


def test_a_model_that_scores_otherwise_here(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        made, other = genuine(publisher, 2), genuine(publisher, 3)
        publisher.offer(changed(made, lists=other.lists))
        lists_fail(client, "other scores here")


def test_events_are_read_as_the_model_was_trained(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """`min_rating` and the public features come with the release."""
    from tests.client.edge.devices import features

    place = publisher.model(als(1))
    features(place / "public.safetensors")
    publisher.offer(publisher.release(place, publisher.ledger(place), min_rating=4.0))
    with bare(tmp_path / "device") as client:
        client.sync(web.url, keys=KEYS)
        client.record("item-3", "rating", weight=3.5)
        assert "item-3" not in {item for item, _ in listed(client)}, "a low rating is a dislike"
        assert client._state.model().public is not None
        assert client._state.model().pointer.min_rating == 4.0


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[" * 100_000,
        b"\xff",
        b'{"format": "fedrec-release/2"}',
        f'{{"format": "{FORMAT}", "files": {{"../../x": {{}}}}}}'.encode(),
    ],
)
def test_a_record_of_another_shape_is_one_line(content: bytes) -> None:
    with pytest.raises(VerificationError, match="no release that this version reads"):
        parsed(content)


def test_a_record_survives_its_own_text(publisher: Publisher) -> None:
    made = genuine(publisher)
    assert parsed(made.content()) == made
    assert proven.check(parsed(made.content()), [OPERATOR.public], None).size == 3


def test_no_damage_of_a_record_is_accepted_as_another_model(publisher: Publisher) -> None:
    """200 bytes of a record, changed one at a time: an error of one line, or the same model under the same proof."""
    made = genuine(publisher)
    content, accepted = made.content(), 0
    for number in range(200):
        place = number * len(content) // 200
        damaged = content[:place] + bytes([content[place] ^ (1 << number % 7)]) + content[place + 1 :]
        with contextlib.suppress(VerificationError):
            found = parsed(damaged)
            proven.check(found, [OPERATOR.public], None)
            assert found.digests == made.digests
            accepted += 1
    assert 0 < accepted < 150
