"""A modified server of `peers` against honest members: each attack gets a refusal, or a sum that is worth nothing."""

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedrec.secagg import (
    Advertise,
    Assumption,
    Confirmation,
    Confirmations,
    KeyList,
    Members,
    MemoryJournal,
    PeerClient,
    PeerServer,
    Refused,
    Roster,
    Shares,
    Survivors,
    masks,
    shamir,
    vectors,
)
from fedrec.secagg.peer_keys import advertised, agreed, confirmed, own_seed, pair_seed, point
from tests.core.secagg.parties import Play, client_of, play, round_of

FEW = Members.generate(9)
LOOSE = Assumption(0.0, 0.3, split_view=False)
"""Nine members, threshold 6: with four colluders the shares alone do not hold off two survivor sets."""


def two_survivor_sets(state: Play, victim: int, colluders: set[int]) -> list[int] | None:
    """Show one half of the honest members a set with the victim, the other half one without it.

    Returns the victim's vector where the answers give both its secrets, as Python integers; else None.
    """
    this_round, everybody = state.round, set(state.round.cohort)
    honest = sorted(everybody - colluders - {victim})
    halves = {True: {victim, *honest[::2]}, False: set(honest[1::2])}
    sets = {True: Survivors(tuple(sorted(everybody))), False: Survivors(tuple(sorted(everybody - {victim})))}
    given: dict[bool, dict[int, int]] = {
        kept: {point(other): state.clients[other]._shares[victim][1 if kept else 0] for other in colluders}
        for kept in halves
    }
    for kept, half in halves.items():
        signed = [state.clients[member].confirm(sets[kept]) for member in sorted(half)]
        text = confirmed(this_round, sets[kept])
        signed += [Confirmation(other, state.members.keys[other].sign(text)) for other in colluders]
        for member in half - {victim}:
            others = sorted((each for each in signed if each.sender != member), key=lambda each: each.sender)
            try:
                answer = state.clients[member].unmask(Confirmations(tuple(others)))
            except Refused:
                continue
            given[kept][point(member)] = dict(answer.seeds if kept else answer.keys)[victim]
    threshold = this_round.parameters.threshold
    if min(map(len, given.values())) < threshold:
        return None
    seed, key = (shamir.combine(dict(list(given[kept].items())[:threshold])).to_bytes(32, "big") for kept in halves)
    seen = vectors.unpack(state.masked[victim].vector, this_round.bits, this_round.length)
    private = X25519PrivateKey.from_private_bytes(key)
    for other in this_round.cohort:
        if other != victim:
            pair = pair_seed(this_round, agreed(private, state.server._keys[other].mask), victim, other)
            masks.apply(seen, *(([], [pair]) if victim < other else ([pair], [])))
    masks.apply(seen, [], [own_seed(this_round, seed, victim)])
    return vectors.reduce(seen, this_round.bits).tolist()


@pytest.mark.parametrize(("assumed", "colluders"), [(LOOSE, 4), (LOOSE, 0), (Assumption(0.0, 0.3), 3)])
def test_two_survivor_sets_give_nothing(assumed, colluders):
    state = play(FEW, round_of(FEW, assumed=assumed))
    assert two_survivor_sets(state, 0, set(range(5, 5 + colluders))) is None


def test_without_the_consistency_check_two_survivor_sets_give_the_vector(monkeypatch):
    """The attack above is real: a member that does not count signatures gives its victim away."""
    monkeypatch.setattr(PeerClient, "_enough", lambda self, count, what: None)
    state = play(FEW, round_of(FEW, assumed=LOOSE))
    assert two_survivor_sets(state, 0, {5, 6, 7, 8}) == state.vectors[0].tolist()


def test_the_shares_alone_hold_off_two_survivor_sets_where_it_is_assumed(monkeypatch):
    """With 2 threshold > neighbours + colluders, not even members that check nothing give both secrets."""
    monkeypatch.setattr(PeerClient, "_enough", lambda self, count, what: None)
    this_round = round_of(FEW, assumed=Assumption(0.0, 0.3))
    assert this_round.parameters.colluders == 3
    assert two_survivor_sets(play(FEW, this_round), 0, {6, 7, 8}) is None


def test_no_answer_has_both_shares_of_a_member():
    state = play(FEW, round_of(FEW), late=(3, 4))
    survivors = state.survivors()
    signed = [state.clients[member].confirm(survivors) for member in survivors.members]
    confirmations = state.server.confirmed(signed)
    for member in survivors.members:
        answer = state.clients[member].unmask(confirmations[member])
        assert {owner for owner, _ in answer.keys} == {3, 4}
        assert not {owner for owner, _ in answer.seeds} & {3, 4}


def test_a_second_survivor_set_is_refused():
    state = play(FEW, round_of(FEW))
    state.clients[0].confirm(Survivors(tuple(range(9))))
    with pytest.raises(Refused, match="out of turn, or twice"):
        state.clients[0].confirm(Survivors(tuple(range(8))))
    with pytest.raises(Refused, match="out of turn"):
        state.clients[0].unmask(Confirmations(()))


@pytest.mark.parametrize("stage", ["advertise", "share", "mask", "confirm", "unmask"])
def test_no_stage_is_answered_twice_or_out_of_turn(stage):
    state = play(FEW, round_of(FEW))
    client, survivors = state.clients[0], state.survivors()
    signed = state.server.confirmed([each.confirm(survivors) for each in state.clients.values()])
    client.unmask(signed[0])
    calls = {
        "advertise": client.advertise,
        "share": lambda: client.share(state.keys[0]),
        "mask": lambda: client.mask(state.vectors[0], state.boxes[0]),
        "confirm": lambda: client.confirm(survivors),
        "unmask": lambda: client.unmask(signed[0]),
    }
    with pytest.raises(Refused, match=f"asked to {stage} out of turn, or twice"):
        calls[stage]()
    early = client_of(FEW, state.round, 0)
    if stage != "advertise":
        with pytest.raises(Refused, match="out of turn"):
            {
                "share": lambda: early.share(state.keys[0]),
                "mask": lambda: early.mask(state.vectors[0], state.boxes[0]),
                "confirm": lambda: early.confirm(survivors),
                "unmask": lambda: early.unmask(signed[0]),
            }[stage]()


@pytest.mark.parametrize("changes", [{}, {"cohort": tuple(range(8))}, {"model": b"o" * 32}, {"beacon": b"o" * 32}])
def test_a_number_is_answered_once_whatever_else_is_asked(changes):
    """A difference of two cohorts would be one member's vector."""
    this_round, journal = round_of(FEW), MemoryJournal()
    client_of(FEW, this_round, 0, journal)
    with pytest.raises(Refused, match="was answered before"):
        client_of(FEW, replace(this_round, **changes), 0, journal)
    client_of(FEW, replace(this_round, number=8), 0, journal)


def own_keys(this_round, sender: int, sign) -> Advertise:
    public = [X25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(2)]
    unsigned = Advertise(sender, *public, b"")
    return replace(unsigned, signature=sign(advertised(this_round, unsigned)))


def replaced(keys: KeyList, one: Advertise) -> KeyList:
    return KeyList(tuple(sorted([e for e in keys.keys if e.sender != one.sender] + [one], key=lambda e: e.sender)))


def test_the_servers_own_keys_are_refused():
    this_round = round_of(FEW)
    server_key = Ed25519PrivateKey.generate()
    state = play(FEW, this_round, until="advertise")
    with pytest.raises(Refused, match="not signed by its key on the roster"):
        state.clients[0].share(replaced(state.keys[0], own_keys(this_round, 4, server_key.sign)))
    with pytest.raises(Refused, match="out of turn"):
        state.clients[0].share(state.keys[0])


def test_keys_of_another_round_are_refused():
    state = play(FEW, round_of(FEW), until="advertise")
    old = play(FEW, round_of(FEW, number=6), until="advertise").keys[0]
    with pytest.raises(Refused, match="not signed"):
        state.clients[0].share(old)


def test_a_signature_under_anothers_place_is_refused():
    this_round = round_of(FEW)
    state = play(FEW, this_round, until="advertise")
    with pytest.raises(Refused, match="not signed"):
        state.clients[0].share(replaced(state.keys[0], own_keys(this_round, 4, FEW.keys[5].sign)))


def test_sybils_have_another_roster_root():
    """The server adds members of its own; the card has the root of the true roster."""
    sybils = [Ed25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(20)]
    larger = Roster((*FEW.roster.keys, *sybils))
    this_round = round_of(FEW)
    with pytest.raises(Refused, match="not the one of the run card"):
        PeerClient(this_round, larger, 0, FEW.keys[0].sign, MemoryJournal())
    wider = replace(this_round, cohort=tuple(range(29)))
    with pytest.raises(Refused, match="not on the roster"):
        PeerClient(wider, FEW.roster, 0, FEW.keys[0].sign, MemoryJournal())


def test_a_key_is_on_a_roster_once():
    with pytest.raises(Exception, match="no key twice"):
        Roster((FEW.roster.keys[0],) * 2)


def test_keys_of_a_place_outside_the_cohort_are_refused():
    this_round = round_of(FEW, cohort=(0, 1, 2, 3, 4, 5))
    state = play(FEW, this_round, until="advertise")
    with pytest.raises(Refused, match="member 8 is not a neighbour"):
        state.clients[0].share(replaced(state.keys[0], own_keys(this_round, 8, FEW.keys[8].sign)))


def test_a_list_of_neighbours_that_the_server_chose_is_refused():
    many = Members.generate(101)
    this_round = round_of(many, assumed=Assumption(0.05, 0.05, False))
    client = client_of(many, this_round, 0)
    client.advertise()
    strangers = sorted(set(this_round.cohort) - {0} - set(client.neighbours))[: this_round.parameters.neighbours]
    chosen = KeyList(tuple(own_keys(this_round, member, many.keys[member].sign) for member in strangers))
    with pytest.raises(Refused, match="not a neighbour by the public order"):
        client.share(chosen)


def test_members_of_inconsistent_models_refuse_each_other():
    """The server gives its victim a model of its own, to tell its part of the sum from the others'."""
    plain = round_of(FEW)
    state = play(FEW, plain, until="advertise")
    victim = client_of(FEW, replace(plain, model=b"x" * 32), 0)
    own = victim.advertise()
    with pytest.raises(Refused, match="member 1 are not signed"):
        victim.share(state.keys[0])
    with pytest.raises(Refused, match="member 0 are not signed"):
        state.clients[1].share(replaced(state.keys[1], own))


@pytest.mark.parametrize("changes", [{"card": b"x" * 32}, {"model": b"x" * 32}, {"number": 8}, {"roster": b"x" * 32}])
def test_masks_of_inconsistent_rounds_do_not_cancel(changes):
    """Even members that check no signature give a sum in which nothing of the victim is left but noise."""
    one = round_of(FEW)
    other = replace(one, **changes)
    secret = bytes(range(32))
    left = np.zeros(40, np.uint32)
    masks.apply(left, [pair_seed(one, secret, 0, 1)], [pair_seed(other, secret, 0, 1)])
    assert np.count_nonzero(left) > 30
    masks.apply(left, [pair_seed(other, secret, 0, 1)], [pair_seed(one, secret, 1, 0)])
    assert not left.any()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ((0, 1), "2 survivors; a sum is of at least 3"),
        (tuple(range(1, 9)), "do not contain this member"),
        ((0, 1, 2, 3), "3 neighbours among the survivors; at least 6"),
        ((*range(9), 70), "outside the cohort"),
        ((*range(9), 8), "or one twice"),
        ((*range(7), 8), "sent no shares"),
    ],
)
def test_survivors_that_a_member_does_not_sign(members, says):
    this_round = round_of(FEW)
    state = play(FEW, this_round, until="advertise")
    given = {member: client.share(state.keys[member]) for member, client in state.clients.items() if member != 8}
    boxes = state.server.shared(given.values())
    state.clients[0].mask(state.vectors[0], boxes[0])
    with pytest.raises(Refused, match=says):
        state.clients[0].confirm(Survivors(members))


def test_an_own_minimum_cohort_binds_whatever_the_round_says():
    with pytest.raises(Refused, match="minimum cohort of 3; here at least 5"):
        PeerClient(round_of(FEW), FEW.roster, 0, FEW.keys[0].sign, MemoryJournal(), min_cohort=5)


@pytest.mark.parametrize("signer", ["server", "few", "old"])
def test_confirmations_that_prove_nothing(signer):
    state = play(FEW, round_of(FEW))
    survivors = state.survivors()
    signed = [client.confirm(survivors) for client in state.clients.values()]
    if signer == "server":
        key = Ed25519PrivateKey.generate()
        signed = [replace(each, signature=key.sign(confirmed(state.round, survivors))) for each in signed]
    elif signer == "old":
        old = replace(state.round, number=6)
        signed = [Confirmation(n, FEW.keys[n].sign(confirmed(old, survivors))) for n in range(9)]
    else:
        signed = [signed[1]] * 9
    with pytest.raises(Refused, match=r"[01] neighbours that signed the same survivors; at least 6"):
        state.clients[0].unmask(Confirmations(tuple(signed)))
    assert not state.clients[0]._shares, "what it would have given is gone"


def test_signatures_of_strangers_and_of_dropped_members_do_not_count():
    this_round = round_of(FEW, cohort=tuple(range(7)))
    state = play(FEW, this_round, late=(6,))
    survivors = state.survivors()
    state.clients[0].confirm(survivors)
    assert this_round.parameters.threshold == 4
    text = confirmed(this_round, survivors)
    signers = (1, 2, 3, 6, 7, 8)  # three survivors, one that dropped, and two of the roster outside the cohort
    signed = Confirmations(tuple(Confirmation(member, FEW.keys[member].sign(text)) for member in signers))
    with pytest.raises(Refused, match="3 neighbours that signed the same survivors; at least 4"):
        state.clients[0].unmask(signed)


def test_shares_that_the_server_changes_or_moves():
    for change in ("flip", "swap", "other round", "stranger", "twice", "few"):
        state = play(FEW, round_of(FEW), until="share")
        box = list(state.boxes[0].sealed)
        if change == "flip":
            box[2] = (box[2][0], bytes([box[2][1][0] ^ 1]) + box[2][1][1:])
        elif change == "swap":
            box[2], box[3] = (box[2][0], box[3][1]), (box[3][0], box[2][1])
        elif change == "other round":
            box = list(play(FEW, round_of(FEW, number=6), until="share").boxes[0].sealed)
        elif change == "stranger":
            box.append((77, box[0][1]))
        elif change == "twice":
            box.append(box[0])
        else:
            box = box[:3]
        with pytest.raises(Refused, match=r"changed|advertised no keys|neighbours that shared"):
            state.clients[0].mask(state.vectors[0], Shares(0, tuple(box)))
    fresh = play(FEW, round_of(FEW), until="share")
    with pytest.raises(Refused, match="shares for member 1"):
        fresh.clients[0].mask(fresh.vectors[0], fresh.boxes[1])


def test_the_server_counts_a_sender_that_does_not_fit_as_dropped():
    this_round = round_of(FEW)
    server = PeerServer(this_round, FEW.roster)
    clients = {member: client_of(FEW, this_round, member) for member in this_round.cohort}
    sent = [client.advertise() for client in clients.values()]
    forged = own_keys(this_round, 8, Ed25519PrivateKey.generate().sign)
    keys = server.advertised(
        [forged, *sent[:8], replace(sent[0], channel=bytes(32)), own_keys(this_round, 50, clients[0]._sign)]
    )
    assert sorted(keys) == list(range(8))
    shares = [clients[member].share(keys[member]) for member in range(8)]
    short = Shares(7, shares[7].sealed[:-1])
    boxes = server.shared([*shares[:7], short])
    assert sorted(boxes) == list(range(7))
    message = clients[0].mask(np.zeros(40, np.uint32), boxes[0])
    server.masked(message)
    for other in (message, replace(message, sender=7), replace(message, sender=8)):
        with pytest.raises(Refused, match="no vector is expected"):
            server.masked(other)


def test_a_key_that_agrees_on_nothing_is_refused():
    this_round = round_of(FEW)
    state = play(FEW, this_round, until="advertise")
    unsigned = Advertise(4, bytes(32), bytes(32), b"")
    weak = replace(unsigned, signature=FEW.keys[4].sign(advertised(this_round, unsigned)))
    with pytest.raises(Refused, match="agrees on nothing"):
        state.clients[0].share(replaced(state.keys[0], weak))


@pytest.mark.parametrize("weak", ["channel", "mask"])
def test_one_member_with_a_key_that_agrees_on_nothing_voids_no_round(weak):
    """Its neighbours would refuse the key; the server leaves the member out before they see it."""
    this_round = round_of(FEW)
    server = PeerServer(this_round, FEW.roster)
    clients = {member: client_of(FEW, this_round, member) for member in this_round.cohort}
    sent = {member: client.advertise() for member, client in clients.items()}
    unsigned = replace(sent[4], **{weak: bytes(32)})
    sent[4] = replace(unsigned, signature=FEW.keys[4].sign(advertised(this_round, unsigned)))
    keys = server.advertised(sent.values())
    assert sorted(keys) == [member for member in this_round.cohort if member != 4]
    boxes = server.shared([clients[member].share(keys[member]) for member in keys])
    assert len(boxes) == 8
