"""Why members confirm the survivors, although the threshold alone keeps each one's seed and key apart."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedrec.secagg import Assumption, Confirmations, Members, PeerClient, Refused, Survivors, masks, shamir, vectors
from fedrec.secagg.peer_keys import agreed, own_seed, pair_seed, point
from tests.core.secagg.parties import Play, plain_sum, play, round_of

FOUR = Members.generate(4)
SHOWN = {0: (0, 2, 3), 1: (1, 2, 3), 2: (1, 2, 3), 3: (0, 2, 3)}
"""What the server shows each member: three survivors, of whom it is one. Two members see each set."""


def played() -> Play:
    """One of four may drop, a sum is of three or more, and nobody works with the server: 2 t > k + 0."""
    this_round = round_of(FOUR, min_cohort=3, assumed=Assumption(0.0, 0.3))
    chosen = this_round.parameters
    assert (chosen.neighbours, chosen.threshold, chosen.colluders) == (3, 2, 0)
    return play(FOUR, this_round)


def smaller_sum(state: Play) -> list[int]:
    """Unmask the vectors of members 2 and 3 from what all members answer to the sets of SHOWN."""
    this_round = state.round
    signed = [state.clients[n].confirm(Survivors(SHOWN[n])) for n in range(4)]
    seeds: dict[int, dict[int, int]] = {n: {} for n in range(4)}
    keys: dict[int, dict[int, int]] = {n: {} for n in range(4)}
    for member in range(4):
        answer = state.clients[member].unmask(Confirmations(tuple(each for each in signed if each.sender != member)))
        for given, into in ((answer.seeds, seeds), (answer.keys, keys)):
            for owner, share in given:
                into[owner][point(member)] = share
    assert all(len(seeds[n]) < 2 or len(keys[n]) < 2 for n in range(4)), "nobody's seed and key are both known"
    total = np.zeros(this_round.length, np.uint32)
    for member in (2, 3):
        total += vectors.unpack(state.masked[member].vector, this_round.bits, this_round.length)
        seed = shamir.combine(dict(list(seeds[member].items())[:2])).to_bytes(32, "big")
        masks.apply(total, [], [own_seed(this_round, seed, member)])
        for gone in (0, 1):
            key = X25519PrivateKey.from_private_bytes(
                shamir.combine(dict(list(keys[gone].items())[:2])).to_bytes(32, "big")
            )
            pair = pair_seed(this_round, agreed(key, state.server._keys[member].mask), gone, member)
            masks.apply(total, [pair])  # the higher member subtracted it
    return vectors.reduce(total, this_round.bits).tolist()


def test_without_the_confirm_stage_a_sum_of_fewer_than_the_minimum_is_unmasked(monkeypatch):
    """Each member sees three survivors, and 2 t > k: the sum of two members comes out all the same.

    So a stage of messages cannot be saved by parameters alone: the noise and the cohort of a sum would be smaller than
    those that each member checked.
    """
    monkeypatch.setattr(PeerClient, "_enough", lambda self, count, what: None)
    state = played()
    assert smaller_sum(state) == plain_sum(state.vectors, (2, 3), state.round.bits)


def test_with_the_confirm_stage_such_sets_give_nothing():
    with pytest.raises(Refused, match="1 neighbours that signed the same survivors; at least 2"):
        smaller_sum(played())
