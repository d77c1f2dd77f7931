"""The vector of a secure sum: adding it modulo 2^bits adds each sum modulo its own 2^b, and shows nothing else."""

import numpy as np
import pytest
import torch

from fedrec.errors import InputError
from fedrec.run.masked import Asked, Layout, content, least_nodes, masked_content, roster_of
from fedrec.secagg import Roster
from fedrec.wire import Packet, WireError

LAYOUT = Layout((("few", 12, (3, 2)), ("many", 40, (5,)), ("none", 20, (0,))))


def sums(seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    made = {name: rng.integers(0, 1 << bits, shape) for name, bits, shape in LAYOUT.queries}
    return {name: torch.from_numpy(values) for name, values in made.items()}


def test_a_vector_adds_as_its_sums_do() -> None:
    parts = [sums(seed) for seed in range(50)]
    whole = np.zeros(LAYOUT.length, np.uint64)
    for part in parts:
        whole += LAYOUT.vector(part)
    found = LAYOUT.sums(whole & np.uint64((1 << LAYOUT.bits) - 1))
    for name, bits, _ in LAYOUT.queries:
        assert torch.equal(found[name], sum(part[name] for part in parts) & ((1 << bits) - 1))


def test_the_vector_shows_no_carry_of_a_smaller_modulus() -> None:
    """Sums that are equal modulo 2^b have equal vectors: how often their parts wrapped around is not in them."""
    one, other = sums(1), sums(1)
    whole = (LAYOUT.vector(one) + LAYOUT.vector(one)) & np.uint64((1 << LAYOUT.bits) - 1)
    wrapped = {name: (2 * other[name]) & ((1 << bits) - 1) for name, bits, _ in LAYOUT.queries}
    assert np.array_equal(whole, LAYOUT.vector(wrapped))


def test_rounds_that_differ_in_anything_share_no_digest() -> None:
    roster = Roster(tuple(bytes([n]) * 32 for n in range(4)))
    asked = {"card": "a" * 64, "question": "q", "charge": 3, "counts": (5, 5, 5, 5), "dropout": 0.25, "colluding": 0.0}
    changes = [{}, {"card": "b" * 64}, {"question": "r"}, {"charge": 4}, {"counts": (5, 5, 5, 6)}, {"colluding": 0.25}]
    digests = {Asked(**asked | change).round(roster, LAYOUT).digest for change in changes}
    assert len(digests) == len(changes)
    with pytest.raises(InputError, match="numbers of users"):
        Asked(**asked | {"counts": (5, 5, 5)}).round(roster, LAYOUT)


@pytest.mark.parametrize(("nodes", "dropout", "least"), [(16, 0.3, 12), (16, 0.05, 16), (3, 0.0, 3), (3, 0.9, 2)])
def test_the_fewest_nodes_follow_from_the_dropout(nodes: int, dropout: float, least: int) -> None:
    assert least_nodes(nodes, dropout) == least


@pytest.mark.parametrize("counts", ["", "[1]", "[1, -1]", '["1", 1]', "[true, 1]", "[" * 5000])
def test_numbers_of_users_that_cannot_be_are_refused(counts: str) -> None:
    packet = Packet("advertise", facts={"counts": counts, "roster": bytes(range(64))})
    with pytest.raises(WireError):
        roster_of(packet)
    with pytest.raises(WireError):
        content(packet)
    with pytest.raises(WireError):
        masked_content(packet)
