"""The tree against a literal transcription of RFC 6962, and proofs that hold only for true claims."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrec.audit.log import merkle
from fedrec.audit.log.merkle import EMPTY, Frontier, consistency_path, consistent, included, inclusion_path, leaf_hash

SIZES = st.integers(0, 40)


def leaves(size: int, salt: str = "") -> list[bytes]:
    return [f"{salt}{number}".encode() for number in range(size)]


def hashes(size: int, salt: str = "") -> list[bytes]:
    return [leaf_hash(leaf) for leaf in leaves(size, salt)]


# RFC 6962, 2.1 to 2.1.2, word for word


def k(n: int) -> int:
    return max(power for power in (2**i for i in range(n)) if power < n)


def mth(d: Sequence[bytes]) -> bytes:
    if len(d) == 0:
        return hashlib.sha256().digest()
    if len(d) == 1:
        return hashlib.sha256(b"\x00" + d[0]).digest()
    return hashlib.sha256(b"\x01" + mth(d[: k(len(d))]) + mth(d[k(len(d)) :])).digest()


def path(m: int, d: Sequence[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    if m < k(len(d)):
        return [*path(m, d[: k(len(d))]), mth(d[k(len(d)) :])]
    return [*path(m - k(len(d)), d[k(len(d)) :]), mth(d[: k(len(d))])]


def subproof(m: int, d: Sequence[bytes], b: bool) -> list[bytes]:
    if m == len(d):
        return [] if b else [mth(d)]
    if m <= k(len(d)):
        return [*subproof(m, d[: k(len(d))], b), mth(d[k(len(d)) :])]
    return [*subproof(m - k(len(d)), d[k(len(d)) :], False), mth(d[: k(len(d))])]


@pytest.mark.parametrize("size", range(34))
def test_roots_and_paths_are_those_of_the_rfc(size: int) -> None:
    content, ours = leaves(size), hashes(size)
    assert merkle.root(ours) == mth(content)
    for index in range(size):
        assert inclusion_path(ours, index) == path(index, content)
    for old in range(1, size + 1):
        assert consistency_path(ours, old) == subproof(old, content, True)


def test_known_roots() -> None:
    """The test vectors of the Certificate Transparency project."""
    vectors = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"\x40\x41\x42\x43", bytes(range(0x50, 0x58))]
    vectors.append(bytes(range(0x60, 0x70)))
    assert EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    frontier = Frontier()
    roots = []
    for leaf in vectors:
        frontier.append(leaf_hash(leaf))
        roots.append(frontier.root().hex())
    assert roots[0] == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert roots[7] == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(SIZES, st.data())
def test_a_true_proof_convinces_and_no_other_does(size: int, data: st.DataObject) -> None:
    ours = hashes(size + 1)
    index = data.draw(st.integers(0, size))
    proof, root = inclusion_path(ours, index), merkle.root(ours)
    assert included(ours[index], index, len(ours), proof, root)
    assert not included(leaf_hash(b"other"), index, len(ours), proof, root)
    assert not included(ours[index], index, len(ours), proof, EMPTY)
    assert not included(ours[index], index, len(ours), [*proof, EMPTY], root)
    assert not included(ours[index], len(ours), len(ours), proof, root)
    if proof:
        place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
        changed = bytearray(proof[place])
        changed[bit // 8] ^= 1 << bit % 8
        assert not included(ours[index], index, len(ours), [*proof[:place], bytes(changed), *proof[place + 1 :]], root)
        assert not included(ours[index], index, len(ours), proof[:-1], root)
        wrong = data.draw(st.integers(0, size).filter(lambda other: other != index))
        assert not included(ours[index], wrong, len(ours), proof, root)


@given(SIZES, SIZES, st.data())
def test_growth_is_provable_and_a_rewritten_past_is_not(size: int, more: int, data: st.DataObject) -> None:
    ours = hashes(size + more)
    old, new, proof = merkle.root(ours[:size]), merkle.root(ours), consistency_path(ours, size)
    assert consistent(size, old, len(ours), new, proof)
    if size:
        place = data.draw(st.integers(0, size - 1))
        rewritten = [*ours[:place], leaf_hash(b"other"), *ours[place + 1 :]]
        assert not consistent(size, old, len(ours), merkle.root(rewritten), consistency_path(rewritten, size))
        assert not consistent(size, EMPTY, len(ours), new, proof)
        assert not consistent(size, old, len(ours), new, [*proof, EMPTY])
    if size and more:
        assert not consistent(size, old, len(ours), EMPTY, proof)
        assert not consistent(size, old, len(ours), new, proof[:-1])
        assert not consistent(len(ours), new, size, old, proof)


def test_leaves_that_are_not_there() -> None:
    with pytest.raises(IndexError):
        inclusion_path(hashes(3), 3)
    with pytest.raises(IndexError):
        consistency_path(hashes(3), 4)
    assert not consistent(-1, EMPTY, 3, merkle.root(hashes(3)), [])
