"""Fast paths against slow oracles: sharing, masks, packing, key derivation, and the bounds of the graph."""

from fractions import Fraction
from math import comb, exp, log

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.errors import InputError, PrivacyError
from fedrec.run.masked import GRINDING, assumption
from fedrec.secagg import Assumption, Malformed, Members, Round, masks, parameters, shamir, vectors
from fedrec.secagg.parameters import tail
from tests.core.secagg.parties import round_of

P = shamir.PRIME


def naive_combine(shares: dict[int, int]) -> int:
    """Lagrange at zero, one basis polynomial at a time, a division each."""
    total = 0
    for i, share in shares.items():
        term = share
        for j in shares:
            if j != i:
                term = term * (-j) % P * pow(i - j, P - 2, P) % P
        total += term
    return total % P


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, P - 1),
    st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=12, unique=True),
    st.data(),
)
def test_any_threshold_of_shares_gives_the_secret(secret, points, data):
    threshold = data.draw(st.integers(1, len(points)))
    shares = dict(zip(points, shamir.split(secret, points, threshold), strict=True))
    chosen = data.draw(st.permutations(points))[:threshold]
    some = {point: shares[point] for point in chosen}
    assert shamir.combine(some) == naive_combine(some) == secret
    if threshold > 1:
        assert shamir.combine({point: shares[point] for point in chosen[1:]}) != secret


@pytest.mark.parametrize(
    ("secret", "points", "threshold"),
    [(P, [1], 1), (-1, [1], 1), (0, [1, 1], 1), (0, [0], 1), (0, [1, 2], 3), (0, [1], 0), (0, [2**32], 1)],
)
def test_sharing_refuses_what_it_cannot_share(secret, points, threshold):
    with pytest.raises(ValueError, match=r"needed|distinct"):
        shamir.split(secret, points, threshold)


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
@pytest.mark.parametrize("length", [0, 1, 7, 1000, (1 << 18) // 4 + 3, 200_000])
def test_masks_equal_a_loop_of_one_seed_after_the_other(kind, length):
    seeds = [bytes([number]) * 32 for number in range(5)]
    found = np.arange(length, dtype=kind)
    expected = found.copy()
    masks.apply(found, seeds[:3], seeds[3:])
    for number, seed in enumerate(seeds):
        stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor().update(bytes(expected.nbytes))
        mask = np.frombuffer(stream, expected.dtype)
        expected = expected + mask if number < 3 else expected - mask
    assert np.array_equal(found, expected)


def test_more_masks_than_ciphers_are_open():
    found, expected = np.zeros(9, np.uint32), np.zeros(9, np.uint32)
    seeds = [number.to_bytes(32, "big") for number in range(masks._OPEN + 10)]
    masks.apply(found, seeds)
    for seed in seeds:
        masks.apply(expected, [seed])
    assert np.array_equal(found, expected)
    masks.apply(found, [], seeds)
    assert not found.any()


def test_a_seed_has_32_bytes():
    with pytest.raises(ValueError, match="32 bytes"):
        masks.apply(np.zeros(1, np.uint32), [bytes(16)])


@given(st.binary(min_size=1, max_size=80), st.binary(max_size=80))
def test_keys_are_those_of_rfc_5869(secret, about):
    expected = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=about).derive(secret)
    assert masks.hkdf(secret, about) == expected


def test_the_third_vector_of_rfc_5869():
    output = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert masks.hkdf(b"\x0b" * 22, b"").hex() == output


def naive_pack(values: list[int], bits: int) -> bytes:
    """Planes of whole bytes, then planes of single bits, one element at a time."""
    planes = [bytes(value >> 8 * place & 255 for value in values) for place in range(bits // 8)]
    for bit in range(bits // 8 * 8, bits):
        column = "".join(str(value >> bit & 1) for value in values)
        column += "0" * (-len(column) % 8)
        planes.append(bytes(int(column[at : at + 8], 2) for at in range(0, len(column), 8)))
    return b"".join(planes)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 64), st.data())
def test_packing_equals_the_slow_way_and_comes_back(bits, data):
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    vector = np.array(values, vectors.word(bits))
    packed = vectors.pack(vector, bits)
    if bits not in (32, 64):
        assert packed == naive_pack(values, bits)
    assert len(packed) == vectors.packed_size(bits, len(values))
    assert vectors.unpack(packed, bits, len(values)).tolist() == values
    with pytest.raises(Malformed):
        vectors.unpack(packed + b"\x00", bits, len(values))


def test_a_packed_vector_has_one_spelling():
    packed = bytearray(vectors.pack(np.array([1, 2, 3], np.uint32), 18))
    packed[-1] |= 1
    with pytest.raises(Malformed, match="after its last element"):
        vectors.unpack(bytes(packed), 18, 3)


@pytest.mark.parametrize("bits", [0, 65, -1])
def test_a_modulus_out_of_range_is_refused(bits):
    with pytest.raises(InputError, match="1 to 64"):
        vectors.word(bits)


@given(st.integers(1, 60), st.data())
def test_the_tail_is_exact(population, data):
    marked, drawn = data.draw(st.integers(0, population)), data.draw(st.integers(0, population))
    least = data.draw(st.integers(-1, population + 1))
    hits = range(max(least, 0), min(marked, drawn) + 1)
    exact = sum(Fraction(comb(marked, h) * comb(population - marked, drawn - h), comb(population, drawn)) for h in hits)
    assert exp(tail(population, marked, drawn, least)) == pytest.approx(float(exact), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("members", "corrupt", "dropout", "split_view", "expected"),
    [
        (1000, 0.05, 0.05, False, (34, 18)),
        (1000, 0.1, 0.3, False, (100, 38)),
        (1000, 0.2, 0.2, False, (112, 58)),
        (10_000, 0.05, 0.05, False, (38, 21)),
        (10_000, 0.1, 0.3, False, (124, 47)),
        (10_000, 0.2, 0.2, False, (134, 70)),
        (1000, 0.05, 0.05, True, (60, 41)),
        (1000, 0.1, 0.3, True, (464, 274)),
        (1000, 0.2, 0.2, True, (340, 229)),
    ],
)
def test_the_graph_meets_the_bounds(members, corrupt, dropout, split_view, expected):
    found = parameters(members, Assumption(corrupt, dropout, split_view))
    assert (found.neighbours, found.threshold) == expected
    assert not found.complete


@pytest.mark.parametrize("grinding", [0, 40, 80])
def test_a_server_that_tries_many_rings_meets_the_bound_on_all_of_them_together(grinding):
    found = parameters(1000, Assumption(0.05, 0.05, grinding=grinding))
    leak = log(1000) + tail(999, 50, found.neighbours, 2 * found.threshold - found.neighbours)
    apart = log(1000) + found.neighbours / 2 * log(0.1)
    assert max(leak, apart) + grinding * log(2) <= -40 * log(2)


def test_runs_over_nodes_have_the_margin_and_members_agree_on_it():
    assert parameters(1000, assumption(0.05, 0.05)).neighbours == 76
    few = Members.generate(3)
    plain, careful = (round_of(few, assumed=Assumption(0.05, 0.05, grinding=g)) for g in (0, GRINDING))
    assert plain.digest != careful.digest
    assert Round.decode(careful.encoded) == careful
    with pytest.raises(PrivacyError, match="grinding"):
        Assumption(0.05, 0.05, grinding=1000)


def test_sixteen_members_of_which_a_third_drops():
    found = parameters(16, Assumption(0.05, 0.3))
    assert (found.neighbours, found.threshold, found.dropouts, found.complete) == (15, 11, 4, True)
    assert found.colluders == 6, "seven give both shares, and 8 honest ones of either kind: 15 + 7 = 2 * 11"


@pytest.mark.parametrize("members", [2, 16, 50, 99])
@pytest.mark.parametrize("split_view", [True, False])
def test_below_a_hundred_the_graph_is_complete_and_the_bounds_are_certain(members, split_view):
    found = parameters(members, Assumption(0.0, 0.3, split_view))
    assert found.neighbours == members - 1
    assert found.threshold == found.neighbours - found.dropouts >= 1
    if split_view:
        assert 2 * found.threshold > found.neighbours + min(found.colluders, members - 2)
    assert found.colluders < found.threshold or members == 2


@pytest.mark.parametrize(("corrupt", "dropout"), [(0.5, 0.5), (-0.1, 0.0), (0.0, 1.0), (float("nan"), 0.0)])
def test_fractions_that_leave_nobody_are_refused(corrupt, dropout):
    with pytest.raises(PrivacyError, match="together below 1"):
        Assumption(corrupt, dropout)


def test_no_graph_for_too_many_corrupt_and_dropped():
    with pytest.raises(PrivacyError, match="no threshold protects"):
        parameters(200, Assumption(0.4, 0.4))


def test_neighbours_are_mutual_and_follow_from_the_beacon():
    many = Members.generate(150)
    one = round_of(many, assumed=Assumption(0.05, 0.05, False))
    count = one.parameters.neighbours
    graph = {member: set(one.neighbours(member)) for member in one.cohort}
    assert all(len(graph[member]) == count and member not in graph[member] for member in graph)
    assert all(member in graph[other] for member in graph for other in graph[member])
    other = round_of(many, assumed=one.assumed, beacon=b"b" * 32)
    assert other.neighbours(0) != one.neighbours(0)
