"""A modified server against an honest helper, with a real ledger: what it opens, and what it never does."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedrec.audit.log import chain as chains
from fedrec.audit.log import checkpoint, proofs
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger, checkpoint_path
from fedrec.secagg import (
    Helper,
    HelperServer,
    Members,
    MemoryJournal,
    Opening,
    OpenRequest,
    Refused,
    Roster,
    Round,
    Total,
    Void,
    helper_input,
)
from fedrec.secagg.charges import LedgerCharges
from fedrec.secagg.helper_messages import SealedSeed
from fedrec.secagg.helper_parties import _signed
from tests.core.secagg.parties import CARD, FileJournal, plain_sum, round_of, uniform

FEW = Members.generate(9)
LEDGER, WITNESS, OTHER = (SigningKey.generate() for _ in range(3))
RUN = "run-1"


def round_with(**changes: object) -> Round:
    return round_of(FEW, helper=FEW.helper.public_key().public_bytes_raw(), **changes)


def charge(
    folder: Path, rounds: int, about: int, key: SigningKey = LEDGER, run: str = RUN, witness: SigningKey = WITNESS
) -> bytes:
    """The proof of record `about` in a ledger of a first record and so many charges, with a cosignature."""
    path = folder / f"{run}-{rounds}-{key.public.id}" / "ledger.jsonl"
    path.parent.mkdir(exist_ok=True)
    ledger = Ledger(path, key, run=run)
    if not ledger.entries:
        ledger.append({"type": "begin"})
        for number in range(rounds):
            ledger.append({"type": "charge", "round": number, "bits": 18, "length": 40})
    ledger.seal()
    sealed = checkpoint.parsed(checkpoint_path(path).read_text()).cosigned("helper/1", witness, 1_700_000_000)
    return proofs.of_record(chains.read(path.read_bytes()), sealed, about).encode()


def on_its_terms(asked: Round, paid: dict) -> bool:
    return (asked.bits, asked.length) == (paid["bits"], paid["length"])


def helper_at(folder: Path, roster: Roster = FEW.roster, min_cohort: int = 2) -> Helper:
    """A helper as it starts: its memory is what the file has."""
    checks = LedgerCharges(CARD, RUN, LEDGER.public, [WITNESS.public], on_its_terms)
    return Helper(FEW.helper, roster, checks, FileJournal(folder / "journal"), min_cohort)


def collected(this_round: Round, members: tuple[int, ...] = tuple(range(9))) -> HelperServer:
    server, vectors = HelperServer(this_round, FEW.roster), uniform(this_round)
    for member in members:
        server.masked(
            helper_input(this_round, FEW.roster, member, FEW.keys[member].sign, MemoryJournal(), vectors[member])
        )
    return server


def request_of(server: HelperServer, proof: bytes) -> OpenRequest:
    found = server.request(proof)
    assert isinstance(found, OpenRequest)
    return OpenRequest.decode(found.encode())


def test_a_charged_round_is_opened(tmp_path):
    server = collected(round_with(), (0, 2, 3, 8))
    found = server.total(helper_at(tmp_path).open(request_of(server, charge(tmp_path, 8, 7))))
    assert isinstance(found, Total)
    assert found.vector.tolist() == plain_sum(uniform(round_with()), (0, 2, 3, 8), 18)
    assert isinstance(server.request(b""), Void), "the state of a finished round is gone"


def test_a_second_survivor_set_is_refused_also_after_a_restart(tmp_path):
    proof, server = charge(tmp_path, 8, 7), collected(round_with())
    whole = request_of(server, proof)
    opened = helper_at(tmp_path).open(whole)
    without = replace(whole, seeds=whole.seeds[1:])
    for helper in (helper_at(tmp_path), helper_at(tmp_path)):
        with pytest.raises(Refused, match="was opened for another survivor set"):
            helper.open(without)
        assert helper.open(whole) == opened, "a lost reply is sent again, bit for bit"


@pytest.mark.parametrize("changes", [{"model": b"x" * 32}, {"cohort": tuple(range(8))}, {"beacon": b"x" * 32}])
def test_a_difference_of_cohorts_or_models_under_one_charge_is_refused(changes, tmp_path):
    """One number has one charge, and so one sum, whatever else the server asks its members."""
    proof, helper = charge(tmp_path, 8, 7), helper_at(tmp_path)
    helper.open(request_of(collected(round_with()), proof))
    again = request_of(collected(round_with(**changes), tuple(range(8))), proof)
    with pytest.raises(Refused, match="was opened for another survivor set"):
        helper.open(again)


def test_seeds_of_the_server_do_not_fill_a_cohort(tmp_path):
    """With eight seeds that it knows, the sum of nine masks would be the ninth."""
    this_round, key = round_with(), Ed25519PrivateKey.generate()
    real = request_of(collected(this_round), charge(tmp_path, 8, 7))
    own = Members((key,) * 9, FEW.roster, FEW.journals, FEW.helper)
    forged = [
        helper_input(this_round, FEW.roster, n, own.keys[n].sign, MemoryJournal(), uniform(this_round)[n])
        for n in range(8)
    ]
    for each in forged:
        with pytest.raises(Refused, match="is not signed by its key on the roster"):
            HelperServer(this_round, FEW.roster).masked(each)
    seeds = (*(each.seed for each in forged), real.seeds[8])
    with pytest.raises(Refused, match="member 0 is not signed"):
        helper_at(tmp_path).open(replace(real, seeds=seeds))
    moved = tuple(replace(real.seeds[8], sender=n) for n in range(9))
    with pytest.raises(Refused, match="member 0 is not signed"):
        helper_at(tmp_path).open(replace(real, seeds=moved))


def test_sybils_have_another_roster_root(tmp_path):
    keys = [Ed25519PrivateKey.generate() for _ in range(8)]
    mixed = Roster((FEW.roster.keys[0], *(key.public_key().public_bytes_raw() for key in keys)))
    this_round = round_with(roster=mixed.root)
    with pytest.raises(Refused, match="not the one of the run card"):
        helper_input(this_round, FEW.roster, 0, FEW.keys[0].sign, MemoryJournal(), uniform(this_round)[0])
    victim = collected(round_with()).request(b"")
    assert isinstance(victim, OpenRequest)
    with pytest.raises(Refused, match="not the one of the run card"):
        helper_at(tmp_path).open(replace(victim, round=this_round, charge=charge(tmp_path, 8, 7)))


@pytest.mark.parametrize("changes", [{"number": 6}, {"model": b"x" * 32}, {"min_cohort": 2}])
def test_seeds_of_another_round_or_model_are_refused(changes, tmp_path):
    old = request_of(collected(round_with(**changes)), b"")
    with pytest.raises(Refused, match="is not signed"):
        helper_at(tmp_path).open(replace(old, round=round_with(), charge=charge(tmp_path, 8, 7)))


def test_a_seed_that_is_sealed_for_another_round_opens_for_none(tmp_path):
    """A member that signs what it did not seal for this round gets nothing opened."""
    this_round, old = round_with(), collected(round_with(number=6)).request(b"")
    assert isinstance(old, OpenRequest)
    seeds = tuple(
        SealedSeed(e.sender, e.sealed, FEW.keys[e.sender].sign(_signed(this_round, e.sender, e.sealed)))
        for e in old.seeds
    )
    with pytest.raises(Refused, match="not sealed for this helper"):
        helper_at(tmp_path).open(OpenRequest(this_round, seeds, charge(tmp_path, 8, 7)))
    assert not (tmp_path / "journal").exists(), "a request that cannot be answered does not use up the round"


@pytest.mark.parametrize(
    ("seeds", "says"),
    [(slice(0, 2), "2 survivors; a sum is of at least 3"), ([0, 1, 2, 2], "or one twice"), ([2, 1, 0], "outside")],
)
def test_a_survivor_set_that_is_none(seeds, says, tmp_path):
    whole = request_of(collected(round_with()), charge(tmp_path, 8, 7))
    chosen = whole.seeds[seeds] if isinstance(seeds, slice) else tuple(whole.seeds[n] for n in seeds)
    with pytest.raises(Refused, match=says):
        helper_at(tmp_path).open(replace(whole, seeds=chosen))


def test_the_helpers_own_minimum_binds(tmp_path):
    whole = request_of(collected(round_with()), charge(tmp_path, 8, 7))
    with pytest.raises(Refused, match="minimum cohort of 3; here at least 5"):
        helper_at(tmp_path, min_cohort=5).open(whole)


def test_another_helpers_round_is_refused(tmp_path):
    whole = request_of(collected(round_with()), charge(tmp_path, 8, 7))
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(Refused, match="of another helper"):
        helper_at(tmp_path).open(replace(whole, round=replace(whole.round, helper=other)))


def forged_charge(folder: Path) -> bytes:
    """The proof of the charge of round 6, whose record says that it is number 7."""
    return charge(folder, 8, 6).replace(b'"index":6', b'"index":7').replace(b"\nindex 6\n", b"\nindex 7\n")


@pytest.mark.parametrize(
    ("proof", "says"),
    [
        (lambda folder: b"", "no proof of its charge"),
        (lambda folder: b"\xff", "no proof of its charge"),
        (lambda folder: charge(folder, 8, 6), "is not its charge"),
        (forged_charge, "no proof of its charge"),
        (lambda folder: charge(folder, 6, 0), "is not its charge"),
        (lambda folder: charge(folder, 8, 7, run="run-2"), "not of a record of the run run-1"),
        (lambda folder: charge(folder, 8, 7, key=OTHER), "is not signed by the key"),
        (lambda folder: charge(folder, 8, 7, witness=OTHER), "0 known witnesses cosigned"),
    ],
    ids=["none", "no text", "other round", "changed record", "no charge", "other run", "other key", "no witness"],
)
def test_a_charge_that_is_not_in_the_log(proof, says, tmp_path):
    whole = request_of(collected(round_with()), proof(tmp_path))
    with pytest.raises(Refused, match=says):
        helper_at(tmp_path).open(whole)
    assert not (tmp_path / "journal").exists(), "nothing was opened"


def test_a_record_that_charges_nothing_is_no_charge(tmp_path):
    first = request_of(collected(round_with(number=0)), charge(tmp_path, 8, 0))
    with pytest.raises(Refused, match="record 0 of the ledger is not its charge"):
        helper_at(tmp_path).open(first)


def test_a_charge_on_other_terms_is_refused(tmp_path):
    longer = request_of(collected(round_with(length=41)), charge(tmp_path, 8, 7))
    with pytest.raises(Refused, match="on other terms"):
        helper_at(tmp_path).open(longer)
    with pytest.raises(TypeError, match="terms"):
        LedgerCharges(CARD, RUN, LEDGER.public, [WITNESS.public])


def test_a_round_of_another_card_has_no_charge_here(tmp_path):
    whole = request_of(collected(round_with(card=b"x" * 32)), charge(tmp_path, 8, 7))
    with pytest.raises(Refused, match="of another run card"):
        helper_at(tmp_path).open(whole)


def test_a_member_answers_a_number_once():
    this_round, journal = round_with(), MemoryJournal()
    vector = uniform(this_round)[0]
    helper_input(this_round, FEW.roster, 0, FEW.keys[0].sign, journal, vector)
    for again in (this_round, replace(this_round, cohort=tuple(range(8))), replace(this_round, helper=b"")):
        with pytest.raises(Refused, match=r"was answered before|without a helper"):
            helper_input(again, FEW.roster, 0, FEW.keys[0].sign, journal, vector)
    with pytest.raises(Refused, match="not in the cohort"):
        helper_input(replace(this_round, cohort=(1, 2, 3)), FEW.roster, 0, FEW.keys[0].sign, MemoryJournal(), vector)


def test_an_answer_to_another_request_voids_the_round(tmp_path):
    server = collected(round_with())
    request_of(server, b"")
    found = server.total(Opening(bytes(32), b""))
    assert isinstance(found, Void)
    assert server._sum.size == 0
    short = collected(round_with())
    opened = helper_at(tmp_path).open(request_of(short, charge(tmp_path, 8, 7)))
    assert isinstance(short.total(replace(opened, masks=b"")), Void)


def test_after_the_request_no_vector_is_added():
    this_round = round_with()
    server = collected(this_round, (0, 1, 2))
    request_of(server, b"")
    late = helper_input(this_round, FEW.roster, 5, FEW.keys[5].sign, MemoryJournal(), uniform(this_round)[5])
    with pytest.raises(Refused, match="no vector is expected"):
        server.masked(late)
