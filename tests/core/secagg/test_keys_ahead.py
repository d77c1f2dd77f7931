"""Keys that members make during one round for the next: the same sums, and a server that misuses them gets nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedrec.errors import InputError
from fedrec.secagg import (
    Ahead,
    Assumption,
    Confirmations,
    KeyList,
    MaskedInput,
    Members,
    MemoryJournal,
    PeerClient,
    PeerServer,
    Refused,
    Round,
    Shares,
    Survivors,
    Total,
    Unmasking,
    Void,
    masks,
    shamir,
    vectors,
)
from fedrec.secagg.peer_keys import own_seed, point
from tests.core.secagg.parties import CARD, FileJournal, client_of, plain_sum, play, round_of, uniform

FEW = Members.generate(9)


def ahead_of(members: Members, number: int = 6, **changes) -> Ahead:
    cohort = tuple(range(len(members.keys)))
    return replace(Ahead(CARD, number, members.roster.root, cohort, Assumption(0.05, 0.3)), **changes)


def maker(members: Members, ahead: Ahead, member: int, journal=None) -> PeerClient:
    return PeerClient(ahead, members.roster, member, members.keys[member].sign, journal or MemoryJournal())


@dataclass
class Made:
    """Keys that were made ahead, by all members that shared."""

    ahead: Ahead
    server: PeerServer
    clients: dict[int, PeerClient]
    keys: dict[int, KeyList]
    boxes: dict[int, Shares]


def made(members: Members = FEW, silent: tuple[int, ...] = (), **changes) -> Made:
    """silent: members that advertise, and share nothing."""
    ahead = ahead_of(members, **changes)
    server = PeerServer(ahead, members.roster, 3)
    clients = {member: maker(members, ahead, member) for member in ahead.cohort}
    keys = server.advertised(client.advertise() for client in clients.values())
    boxes = server.shared(clients[member].share(keys[member]) for member in keys if member not in silent)
    return Made(ahead, server, clients, keys, boxes)


def later(members: Members = FEW, **changes) -> Round:
    return round_of(members, **{"ahead": 6, **changes})


def masked(state: Made, this_round: Round, members, given: dict[int, NDArray]) -> dict[int, MaskedInput]:
    found = {}
    for member in members:
        state.clients[member].begin(this_round)
        found[member] = state.clients[member].mask(given[member], state.boxes[member])
    return found


def unmasked(state: Made, survivors: Survivors) -> Total | Void:
    signed = state.server.confirmed([state.clients[n].confirm(survivors) for n in survivors.members])
    answers = []
    for member in signed:
        try:
            answers.append(state.clients[member].unmask(signed[member]))
        except Refused:
            continue
    return state.server.unmasked(answers)


@pytest.mark.parametrize(("late", "silent"), [((), ()), ((2,), ()), ((0, 8), ()), ((2,), (5,))])
def test_the_total_is_the_plain_sum_bit_for_bit(late, silent):
    state, this_round = made(silent=silent), later()
    given = uniform(this_round)
    state.server.begin(this_round)
    for message in masked(state, this_round, [n for n in state.boxes if n not in late], given).values():
        state.server.masked(message)
    found = unmasked(state, state.server.survivors())
    assert isinstance(found, Total)
    assert found.survivors == tuple(n for n in range(9) if n not in (*late, *silent))
    assert found.vector.tolist() == plain_sum(given, found.survivors, this_round.bits)


def test_a_large_cohort_has_the_graph_of_its_keys():
    members = Members.generate(101)
    assumed = Assumption(0.05, 0.05, False)
    ahead = ahead_of(members, assumed=assumed)
    this_round = later(members, assumed=assumed)
    assert not this_round.parameters.complete
    assert all(this_round.neighbours(n) == ahead.neighbours(n) for n in ahead.cohort)
    assert any(ahead_of(members, 5, assumed=assumed).neighbours(n) != ahead.neighbours(n) for n in ahead.cohort)


@pytest.mark.parametrize("changes", [
    {"ahead": None}, {"ahead": 5}, {"card": b"x" * 32}, {"cohort": tuple(range(8))}, {"assumed": Assumption(0.0, 0.3)},
    {"beacon": b"x" * 32},
])  # fmt: skip
def test_a_round_of_other_keys_is_refused(changes):
    state, other = made(), later(**changes)
    for party in (state.clients[0], state.server):
        with pytest.raises(Refused, match="were not made for it"):
            party.begin(other)
    with pytest.raises(Refused, match="out of turn"):
        state.clients[0].begin(later())


def test_a_second_round_from_the_same_keys_is_refused():
    """Two vectors under one pair of masks would give their difference, and two questions two sums."""
    state, this_round = made(), later()
    given = uniform(this_round)
    masked(state, this_round, [0], given)
    for other in (this_round, later(number=8), later(model=b"x" * 32)):
        with pytest.raises(Refused, match="out of turn"):
            state.clients[0].begin(other)
    unanswered = made()
    unanswered.clients[0].begin(this_round)
    with pytest.raises(Refused, match="the keys belong to round 7"):
        unanswered.clients[0].begin(later(number=8))
    with pytest.raises(Refused, match="out of turn"):
        unanswered.clients[0].mask(given[0], unanswered.boxes[0])


def test_keys_of_no_round_mask_nothing():
    state = made()
    with pytest.raises(Refused, match="belong to no round yet"):
        state.clients[0].mask(uniform(later())[0], state.boxes[0])


def test_a_number_is_answered_once_by_keys_ahead_and_by_its_own(tmp_path):
    """One charge pays for one vector, whichever way its keys are made, also after a restart."""
    this_round = later()
    for first in ("ahead", "own"):
        path = tmp_path / first
        state = made()
        client = state.clients[0]
        client._journal = FileJournal(path)
        if first == "ahead":
            client.begin(this_round)
            with pytest.raises(Refused, match="was answered before"):
                client_of(FEW, round_of(FEW), 0, FileJournal(path))
        else:
            client_of(FEW, round_of(FEW), 0, FileJournal(path))
            with pytest.raises(Refused, match="was answered before"):
                client.begin(this_round)


def test_keys_are_made_ahead_once_for_a_number(tmp_path):
    ahead = ahead_of(FEW)
    maker(FEW, ahead, 0, FileJournal(tmp_path / "journal"))
    with pytest.raises(Refused, match="was answered before"):
        maker(FEW, ahead, 0, FileJournal(tmp_path / "journal"))


def test_keys_of_another_round_or_of_the_same_number_are_refused():
    """Keys that were made ahead of another round, or in the round with that number, are not signed for this one."""
    state = made()
    old = made(number=5).keys[0]
    same = play(FEW, round_of(FEW, number=6), until="advertise").keys[0]
    for keys in (old, same):
        fresh = maker(FEW, state.ahead, 0)
        fresh.advertise()
        with pytest.raises(Refused, match="not signed"):
            fresh.share(keys)
    own = client_of(FEW, round_of(FEW, number=6), 0)
    own.advertise()
    with pytest.raises(Refused, match="not signed"):
        own.share(state.keys[0])


def test_shares_of_another_set_of_keys_are_refused():
    state, other = made(), made()
    state.clients[0].begin(later())
    with pytest.raises(Refused, match="changed or are of another round"):
        state.clients[0].mask(uniform(later())[0], other.boxes[0])


@pytest.mark.parametrize("changes", [{"model": b"x" * 32}, {"number": 8}])
def test_members_of_inconsistent_models_unmask_nothing(changes):
    """The server gives its victim a model, or a charge, of its own, under keys that fit both.

    The victim's masks do not cancel, the others sign nothing that it accepts, and it nothing that they accept. With
    the seeds of all members, which the others give for survivors of their own round, its vector is still uniform.
    """
    state, plain, own = made(), later(), later(**changes)
    given = {n: np.zeros_like(each) for n, each in uniform(plain).items()}
    others = [n for n in range(9) if n != 0]
    state.server.begin(plain)
    for message in masked(state, plain, others, given).values():
        state.server.masked(message)
    victim = masked(state, own, [0], given)[0]
    state.server.masked(victim)
    survivors = state.server.survivors()
    signed = {n: state.clients[n].confirm(survivors) for n in range(9)}
    with pytest.raises(Refused, match="0 neighbours that signed the same survivors"):
        state.clients[0].unmask(Confirmations(tuple(signed[n] for n in others)))
    shares = {}
    for member in others:
        answer = state.clients[member].unmask(Confirmations(tuple(signed[n] for n in range(9) if n != member)))
        shares[point(member)] = dict(answer.seeds)[0]
    secret = shamir.combine(dict(list(shares.items())[: state.ahead.parameters.threshold])).to_bytes(32, "big")
    left = vectors.unpack(victim.vector, own.bits, own.length)
    masks.apply(left, [], [own_seed(own, secret, 0)])
    assert np.count_nonzero(vectors.reduce(left, own.bits)) > 30


def test_two_survivor_sets_of_keys_ahead_give_nothing():
    state, this_round = made(), later()
    given = uniform(this_round)
    for message in masked(state, this_round, range(9), given).values():
        if not hasattr(state.server, "round"):
            state.server.begin(this_round)
        state.server.masked(message)
    whole, less = Survivors(tuple(range(9))), Survivors(tuple(range(1, 9)))
    signed = [state.clients[n].confirm(whole if n % 2 else less) for n in range(1, 9)]
    for member in range(1, 9):
        among = Confirmations(tuple(each for each in signed if each.sender != member))
        with pytest.raises(Refused, match="neighbours that signed the same survivors"):
            state.clients[member].unmask(among)


def test_a_round_that_is_void_leaves_the_next_keys_as_they_are():
    """The next keys depend on nothing of the round before, and what that one revealed opens nothing of them."""
    before, state = play(FEW, round_of(FEW, number=6)), made()
    survivors = before.survivors()
    signed = before.server.confirmed([each.confirm(survivors) for each in before.clients.values()])
    answers: list[Unmasking] = [before.clients[n].unmask(signed[n]) for n in range(3)]
    assert isinstance(before.server.unmasked(answers), Void)
    this_round = later()
    given = uniform(this_round, seed=4)
    state.server.begin(this_round)
    for message in masked(state, this_round, range(9), given).values():
        state.server.masked(message)
    found = unmasked(state, state.server.survivors())
    assert found.vector.tolist() == plain_sum(given, range(9), this_round.bits)


def test_a_server_of_too_few_keys_has_none_for_a_round():
    ahead = ahead_of(FEW)
    server = PeerServer(ahead, FEW.roster, 8)
    clients = {member: maker(FEW, ahead, member) for member in range(7)}
    assert isinstance(server.advertised(client.advertise() for client in clients.values()), Void)
    assert isinstance(server.shared([]), Void)


def test_a_round_is_built_from_keys_of_an_earlier_charge_alone():
    assert Round.decode(later().encoded) == later()
    assert later().digest != round_of(FEW).digest
    for number in (7, 8):
        with pytest.raises(InputError, match="of an earlier charge"):
            later(ahead=number)
    with pytest.raises(Refused, match="its keys were made ahead"):
        client_of(FEW, later(), 0)
    with pytest.raises(Refused, match="its keys were made ahead"):
        PeerServer(later(), FEW.roster)
