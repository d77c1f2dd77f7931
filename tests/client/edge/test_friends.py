"""Shares between friends' devices: a person's way, and what attackers with a file, a device or their own code try."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fedrec_client import EdgeClient
from fedrec_client.consent.device_ledger import FILE
from fedrec_client.friends import friends as rules
from fedrec_client.friends import sealed
from fedrec_client.friends.book import Book
from fedrec_client.friends.payment import pay, run_of
from fedrec_client.store import Store

from fedrec.cli import run as fedrec
from fedrec.errors import BudgetExhausted, FedrecError, InputError, VerificationError
from fedrec.privacy.gaussian_curve import gaussian_epsilon
from fedrec.social.shares import Share, ShareTerms
from tests.client.edge.devices import IDS, als, device, kernel_rank, listed, released

Pair = tuple[EdgeClient, EdgeClient]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Ann, who has events, and Bob, who has one; each is the other's friend."""
    run = released(als(), tmp_path / "run")
    ann, bob = device(tmp_path / "ann", run), device(tmp_path / "bob", run)
    for place in range(6):
        ann.record(IDS[place])
    bob.record(IDS[20])
    ann.friends.add("bob", bob.friends.address)
    bob.friends.add("ann", ann.friends.address)
    return ann, bob


def store_of(client: EdgeClient) -> Store:
    return client._store


def forged(sender: EdgeClient, to: EdgeClient, file: Path, change: Callable[[Share], Share]) -> Path:
    """What a device with code of its own sends: any share, signed and sealed right."""
    held = sealed.decode(store_of(sender).state("share") or b"")
    keys, address = Book.of(store_of(sender)).keys, Book.of(store_of(to)).keys.address
    file.write_bytes(sealed.seal(sealed.encode(change(held)), keys, address))
    return file


def test_a_share_is_paid_written_taken_and_in_the_list(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    alone = listed(bob)
    given = ann.friends.share("bob", tmp_path / "one", 8.0)
    assert given.paid
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    spent = ann.budget()
    assert [(each.algorithm, each.trust, each.rounds) for each in spent.runs] == [("friends", "local", 1)]
    assert spent.epsilon == pytest.approx(8.0, rel=1e-5)
    assert bob.friends.take(tmp_path / "one") == "ann"
    assert [(each.name, each.epsilon, each.fits) for each in bob.friends.known()] == [("ann", 8.0, True)]
    found = bob.recommend(25, diversity=0.0, friends=1.0)
    assert listed(bob) == alone  # nothing changes where friends are not asked for
    assert [(each.item, each.score) for each in found] != alone[:25]
    heavy = bob.recommend(5, diversity=0.0, friends=100.0)
    assert {each.why for each in heavy} <= {"friends", "exact"}
    assert "friends" in {each.why for each in heavy}
    with pytest.raises(InputError, match="no share of the model in use"):
        ann.recommend(friends=1.0)


def test_all_friends_get_the_same_bytes_for_one_price(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    carol = device(tmp_path / "carol", tmp_path / "run")
    ann.friends.add("carol", carol.friends.address)
    carol.friends.add("ann", ann.friends.address)
    ann.friends.share("bob", tmp_path / "one", 4.0)
    before = ann.budget().epsilon
    assert not ann.friends.share("carol", tmp_path / "two").paid
    assert ann.budget().epsilon == before
    bob.friends.take(tmp_path / "one")
    carol.friends.take(tmp_path / "two")
    held = [Book.of(store_of(each)).friends["ann"].share for each in (bob, carol)]
    assert held[0] == held[1]
    with pytest.raises(InputError, match="friends have one at epsilon 4"):
        ann.friends.share("bob", tmp_path / "three", 2.0)


def test_shares_and_runs_have_one_filter_and_forgetting_gives_nothing_back(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    ann.friends.share("bob", tmp_path / "one", 8.0)
    ann.forget(everything=True)
    ann.record(IDS[3])
    ann.friends.add("bob", bob.friends.address)
    with pytest.raises(BudgetExhausted, match="epsilon 8 does not fit"):
        ann.friends.share("bob", tmp_path / "two", 8.0)
    assert not (tmp_path / "two").exists()
    lines = (ann.path / FILE).read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines].count("charge") == 2  # the refused one paid nothing
    assert [json.loads(line)["paid"] for line in lines if '"charge"' in line] == ["all", "none"]


def test_two_shares_cost_what_their_composition_costs(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    terms = ShareTerms("ab" * 32, 6, 1.0, 2.0, 1e-5)
    for _ in range(2):
        pay(tmp_path / "ann", terms)
    paid = [
        json.loads(line)["gaussian"]
        for line in (tmp_path / "ann" / FILE).read_text().splitlines()
        if '"charge"' in line
    ]
    assert paid == [run_of(terms).cost(0).gaussian] * 2
    assert gaussian_epsilon(paid[0] / 1e12, 1e-5) == pytest.approx(2.0, rel=1e-6)
    assert run_of(terms).rounds[0][0].noise_std == pytest.approx(
        run_of(terms).rounds[0][0].noise_multiplier * 2 * terms.clip
    )


def test_nothing_is_made_before_it_is_charged(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill right after the charge loses the budget and releases nothing."""
    ann, _ = pair

    def killed(*_: object) -> int:
        pay(ann.path, ShareTerms("ab" * 32, 6, 1.0, 8.0, 1e-5))
        raise KeyboardInterrupt

    monkeypatch.setattr(rules, "pay", killed)
    with pytest.raises(KeyboardInterrupt):
        ann.friends.share("bob", tmp_path / "one", 8.0)
    assert not (tmp_path / "one").exists()
    assert store_of(ann).state("share") is None
    assert ann.budget().epsilon == pytest.approx(8.0, rel=1e-5)


def test_an_edited_file_and_a_wrong_recipient_are_refused(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    eve = device(tmp_path / "eve", tmp_path / "run")
    eve.friends.add("ann", ann.friends.address)
    ann.friends.share("bob", tmp_path / "one", 4.0)
    content = (tmp_path / "one").read_bytes()
    for place in (20, 60, 140, 300, len(content) - 1):
        (tmp_path / "edited").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(VerificationError, match="changed on its way") as refused:
            bob.friends.take(tmp_path / "edited")
        assert "damaged" not in str(refused.value), "the store is whole"
    for cut in (b"", content[:10], content[:15], content[:100], b"x" * 100_000):
        (tmp_path / "edited").write_bytes(cut)
        with pytest.raises(VerificationError):
            bob.friends.take(tmp_path / "edited")
    with pytest.raises(VerificationError, match="sealed for another device"):
        eve.friends.take(tmp_path / "one")


def test_a_friend_cannot_pass_a_share_on_and_a_stranger_cannot_send_one(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    carol = device(tmp_path / "carol", tmp_path / "run")
    carol.friends.add("ann", ann.friends.address)
    ann.friends.share("bob", tmp_path / "one", 4.0)
    keys, address = Book.of(store_of(bob)).keys, Book.of(store_of(carol)).keys.address
    inner = sealed._SUITE.decrypt(
        (tmp_path / "one").read_bytes()[len(sealed.FORMAT) :],
        sealed.X25519PrivateKey.from_private_bytes(keys.seal),
        sealed.FORMAT + keys.address.content,
    )
    again = sealed._SUITE.encrypt(
        inner, sealed.X25519PublicKey.from_public_bytes(address.seal), sealed.FORMAT + address.content
    )
    (tmp_path / "passed").write_bytes(sealed.FORMAT + again)
    with pytest.raises(VerificationError, match="no signature of its sender for this device"):
        carol.friends.take(tmp_path / "passed")
    carol.record(IDS[1])
    carol.friends.add("bob", bob.friends.address)
    carol.friends.share("bob", tmp_path / "strange", 4.0)
    with pytest.raises(InputError, match="is no friend of this device"):
        bob.friends.take(tmp_path / "strange")


def test_a_replayed_an_old_and_a_future_share_are_refused(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    ann.friends.share("bob", tmp_path / "one", 2.0)
    bob.friends.take(tmp_path / "one")
    ann.friends.share("bob", tmp_path / "again")
    for file in ("one", "again"):
        with pytest.raises(InputError, match="the same share is here already"):
            bob.friends.take(tmp_path / file)
    newer = forged(ann, bob, tmp_path / "newer", lambda each: replace(each, made=each.made + 1))
    assert bob.friends.take(newer) == "ann"
    with pytest.raises(InputError, match="older than the one that is here"):
        bob.friends.take(tmp_path / "one")
    for days in (-91, 2):
        later = sealed.decode(store_of(ann).state("share") or b"").made + days * 86400
        wrong = forged(ann, bob, tmp_path / "when", partial(replace, made=later))
        with pytest.raises(InputError, match=r"older than|from the future"):
            bob.friends.take(wrong)


def test_a_share_beyond_clip_and_noise_or_with_terms_of_its_own_is_refused(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    ann.friends.share("bob", tmp_path / "one", 4.0)
    attacks: list[Callable[[Share], Share]] = [
        lambda each: replace(each, vector=each.vector * 1e6),
        lambda each: replace(each, vector=each.vector * np.nan),
        lambda each: replace(each, terms=replace(each.terms, clip=1e6)),
        lambda each: replace(each, terms=replace(each.terms, width=5), vector=each.vector[:5]),
        lambda each: replace(each, vector=each.vector[:5]),
    ]
    for attack in attacks:
        with pytest.raises(VerificationError):
            bob.friends.take(forged(ann, bob, tmp_path / "big", attack))
    assert bob.friends.known()[0].epsilon is None


def test_a_share_of_another_model_is_refused(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    ann.install(released(als(seed=5), tmp_path / "other"))
    ann.friends.share("bob", tmp_path / "one", 4.0)
    with pytest.raises(InputError, match="both need the same release"):
        bob.friends.take(tmp_path / "one")


def test_two_devices_of_one_person_pay_each_and_are_two_friends(pair: Pair, tmp_path: Path) -> None:
    """Each device has its own ledger, so what a friend sees of the person is the sum; neither speaks for the other."""
    ann, bob = pair
    second = device(tmp_path / "ann-2", tmp_path / "run")
    second.record(IDS[2])
    second.friends.add("bob", bob.friends.address)
    ann.friends.share("bob", tmp_path / "one", 8.0)
    second.friends.share("bob", tmp_path / "two", 8.0)
    assert ann.budget().epsilon == second.budget().epsilon == pytest.approx(8.0, rel=1e-5)
    bob.friends.take(tmp_path / "one")
    with pytest.raises(InputError, match="no friend"):
        bob.friends.take(tmp_path / "two")
    with pytest.raises(InputError, match="is a friend already"):
        bob.friends.add("ann's tablet", ann.friends.address)
    bob.friends.add("ann's tablet", second.friends.address)
    assert bob.friends.take(tmp_path / "two") == "ann's tablet"


def test_a_copied_device_cannot_pay_with_an_old_ledger(pair: Pair, tmp_path: Path) -> None:
    ann, _ = pair
    ledger = ann.path / FILE
    ann.friends.share("bob", tmp_path / "zero", 1.0)
    before = ledger.read_bytes()
    ann.friends.share("bob", tmp_path / "one", 8.0, anew=True)
    os.replace(ledger, tmp_path / "kept")
    ledger.write_bytes(before)
    with pytest.raises(BudgetExhausted, match="lines of the device ledger are missing"):
        ann.friends.share("bob", tmp_path / "two", 8.0, anew=True)


def test_a_device_shares_nothing_where_it_opted_out_has_no_event_or_no_space(pair: Pair, tmp_path: Path) -> None:
    ann, bob = pair
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: ann.friends.share("dan", tmp_path / "x", 1.0), "no friend 'dan'"),
        (lambda: ann.friends.share("bob", tmp_path / "x"), "name --epsilon"),
        (lambda: ann.friends.share("bob", tmp_path / "x", 0.0), "share without noise"),
        (lambda: ann.friends.add("me", ann.friends.address), "this device itself"),
        (lambda: ann.friends.add("x", "fedrec-friend:AAAA"), "a friend's address is"),
        (lambda: ann.friends.take(tmp_path / "nothing"), "cannot be read"),
        (lambda: ann.friends.remove("dan"), "no friend 'dan'"),
    ]
    bob.forget(everything=True)
    bob.friends.add("ann", ann.friends.address)
    calls.append((lambda: bob.friends.share("ann", tmp_path / "x", 1.0), "no event counts"))
    for call, expected in calls:
        with pytest.raises(FedrecError, match=expected) as found:
            call()
        assert "\n" not in str(found.value)
    ann.opt_out()
    with pytest.raises(InputError, match="opted out"):
        ann.friends.share("bob", tmp_path / "x", 1.0)
    assert not ann.budget().runs
    assert not (tmp_path / "x").exists()


def test_a_kernel_model_has_a_space_too(tmp_path: Path) -> None:
    run = released(kernel_rank(), tmp_path / "run")
    with device(tmp_path / "ann", run) as ann, device(tmp_path / "bob", run) as bob:
        ann.record(IDS[3])
        ann.friends.add("bob", bob.friends.address)
        bob.friends.add("ann", ann.friends.address)
        ann.friends.share("bob", tmp_path / "one", 8.0)
        bob.friends.take(tmp_path / "one")
        assert len(bob.recommend(5, friends=0.5)) == 5


def test_the_commands_of_two_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = released(als(), tmp_path / "run")

    def call(who: str, *words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert fedrec(["client", *words, "--state", str(tmp_path / who)]) == code, words
        found = capsys.readouterr()
        return found.err if code else found.out

    for who in ("ann", "bob"):
        call(who, "install", str(run))
        call(who, "record", "item-3")
    call("ann", "friends", "add", "bob", call("bob", "friends", "address").strip())
    call("bob", "friends", "add", "ann", call("ann", "friends", "address").strip())
    assert "no share" in call("bob", "friends", "list")
    file = str(tmp_path / "for-bob")
    assert "charged now" in call("ann", "friends", "share", "bob", file, "--epsilon", "6")
    assert "does not fit" in call("ann", "friends", "share", "bob", file + "2", "--epsilon", "9", "--anew", code=3)
    assert "Took a share of ann" in call("bob", "friends", "take", file)
    assert "already" in call("bob", "friends", "take", file, code=2)
    assert "another device" in call("ann", "friends", "take", file, code=4)
    assert "epsilon 6, this model" in call("bob", "friends", "list")
    assert len(call("bob", "recommend", "-k", "4", "--friends", "1").splitlines()) == 4
    assert "Removed ann" in call("bob", "friends", "remove", "ann")
