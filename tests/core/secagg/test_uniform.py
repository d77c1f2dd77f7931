"""What a server or a coalition below the threshold sees of a vector is uniform; a folded seed does not pass for it."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from scipy.stats import chisquare

from fedrec.secagg import Assumption, Members, MemoryJournal, Void, helper_input, masks, shamir, vectors
from fedrec.secagg.peer_keys import agreed, own_seed, pair_seed
from tests.core.secagg.parties import play, round_of

LENGTH = 50_000
SMALLEST = 1e-6
"""The least probability of what is called uniform: one good test in a million fails."""
SEEDS = 180_000


def bytes_are_uniform(values: np.ndarray) -> bool:
    return chisquare(np.bincount(np.frombuffer(values.tobytes(), np.uint8), minlength=256)).pvalue > SMALLEST


def expand(seed: bytes, length: int) -> np.ndarray:
    mask = np.zeros(length, np.uint32)
    masks.apply(mask, [seed])
    return mask


def folded(seed: bytes, length: int) -> np.ndarray:
    """The mutant: 32 bits of seed, as in Flower 1.41, under a generator that passes every test of bytes."""
    words = np.frombuffer(seed, "<u4")
    return expand(int(np.bitwise_xor.reduce(words)).to_bytes(32, "big"), length)


def looks_like_256_bits(expander: object) -> bool:
    """Whether many seeds have masks of uniform bytes, no two of which begin alike.

    Among 180,000 masks of 32-bit seeds 3.8 pairs are expected to be equal; among those of 256-bit seeds none.
    """
    draw, starts = np.random.default_rng(1), set()
    for _ in range(SEEDS):
        start = expander(draw.bytes(32), 4).tobytes()
        if start in starts:
            return False
        starts.add(start)
    return bytes_are_uniform(np.frombuffer(b"".join(starts), np.uint8))


def test_masks_have_256_bits():
    assert looks_like_256_bits(expand)


def test_masks_of_a_folded_seed_are_caught():
    assert bytes_are_uniform(folded(bytes(range(32)), LENGTH)), "the mutant's bytes alone do not give it away"
    assert not looks_like_256_bits(folded)


@pytest.fixture(scope="module")
def few() -> Members:
    return Members.generate(9)


def test_a_masked_vector_alone_is_uniform(few):
    this_round = round_of(few, bits=32, length=LENGTH)
    state = play(few, this_round)
    for member, message in state.masked.items():
        seen = vectors.unpack(message.vector, 32, LENGTH)
        assert bytes_are_uniform(seen)
        assert bytes_are_uniform(seen - state.vectors[member])


@pytest.mark.parametrize("colluders", [0, 1, 5, 7])
def test_a_coalition_below_the_threshold_sees_a_uniform_vector(few, colluders):
    """It removes every mask that it shares with its victim; one honest neighbour, or the own mask, is left."""
    this_round = round_of(few, bits=32, length=LENGTH, assumed=Assumption(0.0, 0.0))
    assert this_round.parameters.threshold == 8
    state, victim = play(few, this_round), 0
    seen = vectors.unpack(state.masked[victim].vector, 32, LENGTH) - state.vectors[victim]
    known = list(range(1, 1 + colluders))
    public = state.server._keys[victim].mask
    pairs = [pair_seed(this_round, agreed(state.clients[member]._mask_key, public), victim, member) for member in known]
    masks.apply(seen, [], pairs)
    assert bytes_are_uniform(seen)
    shares = {member + 1: state.clients[member]._shares[victim][1] for member in known}
    if shares:
        guess = shamir.combine(shares)
        assert guess != int.from_bytes(state.clients[victim]._secret, "big")


def test_all_neighbours_and_the_own_secret_would_give_the_vector_away(few):
    """The test above can fail: with every secret the rest is zero."""
    this_round = round_of(few, bits=32, length=LENGTH)
    state, victim = play(few, this_round), 0
    seen = vectors.unpack(state.masked[victim].vector, 32, LENGTH) - state.vectors[victim]
    public = state.server._keys[victim].mask
    pairs = [
        pair_seed(this_round, agreed(state.clients[other]._mask_key, public), victim, other) for other in range(1, 9)
    ]
    masks.apply(seen, [], [*pairs, own_seed(this_round, state.clients[victim]._secret, victim)])
    assert not seen.any()


def test_with_a_helper_the_server_sees_a_uniform_vector(few):
    key = few.helper.public_key().public_bytes_raw()
    this_round = round_of(few, bits=32, length=LENGTH, helper=key)
    zero = np.zeros(LENGTH, np.uint32)
    for member in range(3):
        sent = helper_input(this_round, few.roster, member, few.keys[member].sign, MemoryJournal(), zero)
        assert bytes_are_uniform(vectors.unpack(sent.vector, 32, LENGTH))


def test_shares_below_the_threshold_are_uniform_and_fit_every_secret():
    drawn = [shamir.split(5, [1, 2, 3, 4], 3)[:2] for _ in range(2000)]
    octets = b"".join(share.to_bytes(66, "little")[:65] for pair in drawn for share in pair)
    assert bytes_are_uniform(np.frombuffer(octets, np.uint8))
    for secret in (0, 77, 2**256 - 1):  # two of three shares, and a third that makes any secret of them
        third = next_share(drawn[0], secret)
        assert shamir.combine({1: drawn[0][0], 2: drawn[0][1], 3: third}) == secret


def next_share(pair: list[int], secret: int) -> int:
    """The share at 3 of the parabola through (0, secret), (1, pair[0]) and (2, pair[1])."""
    return (secret - 3 * pair[0] + 3 * pair[1]) % shamir.PRIME


def test_a_mask_depends_on_every_bit_of_the_seed_and_on_its_context():
    seed = bytes(32)
    starts = {expand(seed, 4).tobytes()}
    for bit in range(256):
        changed = (1 << bit).to_bytes(32, "big")
        starts.add(expand(changed, 4).tobytes())
    assert len(starts) == 257
    digests = {
        masks.hkdf(seed, masks.info(what, bytes([n]) * 32, *parties))
        for what in ("pair", "own")
        for n in (1, 2)
        for parties in ((), (1,), (1, 2), (2, 1))
    }
    assert len(digests) == 16


def test_a_key_that_one_round_revealed_opens_nothing_in_the_next(few):
    """Masks of a set-up that is made once would follow from it in every round (arXiv 2410.09676)."""
    first = play(few, round_of(few, bits=32, length=LENGTH), late=(0,))
    survivors = first.survivors()
    signed = first.server.confirmed([first.clients[n].confirm(survivors) for n in survivors.members])
    answers = [first.clients[n].unmask(signed[n]) for n in survivors.members]
    shares = {answer.sender + 1: dict(answer.keys)[0] for answer in answers}
    threshold = first.round.parameters.threshold
    found = shamir.combine(dict(list(shares.items())[:threshold])).to_bytes(32, "big")
    key = X25519PrivateKey.from_private_bytes(found)
    assert key.public_key().public_bytes_raw() == first.server._keys[0].mask, "the server has the dropped member's key"

    second = play(few, round_of(few, bits=32, length=LENGTH, number=8))
    seen = vectors.unpack(second.masked[0].vector, 32, LENGTH) - second.vectors[0]
    for state in (first, second):
        for other in range(1, 9):
            pair = pair_seed(state.round, agreed(key, state.server._keys[other].mask), 0, other)
            masks.apply(seen, [], [pair])
            assert bytes_are_uniform(seen)
    assert not {each.mask for each in first.server._keys.values()} & {
        each.mask for each in second.server._keys.values()
    }


def test_a_void_round_reveals_nothing_to_a_server_that_keeps_every_answer(few):
    """Three of nine are silent in the last stage: their seeds can be had, those of the other six cannot."""
    state = play(few, round_of(few, bits=32, length=LENGTH))
    survivors = state.survivors()
    signed = state.server.confirmed([client.confirm(survivors) for client in state.clients.values()])
    secrets = {member: client._secret for member, client in state.clients.items()}
    answers = [state.clients[member].unmask(signed[member]) for member in range(6)]
    left = sum((vectors.unpack(each.vector, 32, LENGTH) for each in state.masked.values()), np.zeros(LENGTH, np.uint32))
    left -= sum(state.vectors.values(), np.zeros(LENGTH, np.uint32))
    threshold, had = state.round.parameters.threshold, set()
    for member in range(9):
        shares = {each.sender + 1: dict(each.seeds)[member] for each in answers if each.sender != member}
        if len(shares) >= threshold:
            found = shamir.combine(dict(list(shares.items())[:threshold])).to_bytes(32, "big")
            assert found == secrets[member]
            masks.apply(left, [], [own_seed(state.round, found, member)])
            had.add(member)
    assert had == {6, 7, 8}
    assert isinstance(state.server.unmasked(answers), Void)
    assert bytes_are_uniform(left)
    masks.apply(left, [], [own_seed(state.round, secrets[member], member) for member in range(6)])
    assert not left.any(), "with the six seeds nothing would be left"
