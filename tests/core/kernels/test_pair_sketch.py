"""The sketch of pairs: a slow oracle, its sensitivity, a device that agrees to the bit, and pairs read from it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.kernels import pair_sketch
from fedrec.kernels.cooccurrence import DECAY, LaggedPairs, pairs
from fedrec.kernels.pair_places import places
from fedrec.kernels.pair_sketch import SketchedPairs, pairs_of
from fedrec.ondevice.training.lagged_pairs import PairsPart
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.toy_users import batch_of

HEAD = 40
EVERYTHING = torch.arange(HEAD)
histories = st.lists(st.lists(st.integers(0, HEAD - 1), max_size=70), min_size=1, max_size=4)
LATTICE = Lattice.with_bits(1.0, 14)


def sketched(rows: list[list[int]], count: int, skip: int = 0) -> SketchedPairs:
    return SketchedPairs(batch_of(rows, items=HEAD), EVERYTHING, HEAD, skip, count)


def total_of(part: SketchedPairs, weights: torch.Tensor, lattice: Lattice = LATTICE) -> torch.Tensor:
    total = torch.zeros(part.shape, dtype=torch.int64)
    part.add_to(total, weights, lattice)
    return total


@given(rows=histories, count=st.integers(1, 60), skip=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_a_sketch_is_the_signed_sum_of_the_pairs_at_unit_norm(rows: list[list[int]], count: int, skip: int) -> None:
    users = batch_of(rows, items=HEAD)
    users = replace(users, tied=torch.arange(len(rows)) % 2 == 1)
    part = SketchedPairs(users, EVERYTHING, HEAD, skip, count)
    plain = LaggedPairs(users, EVERYTHING, HEAD, skip)
    at, sign = places(torch.arange(pairs(HEAD)), count)
    for row in range(len(rows)):
        whole = torch.zeros(count).index_add_(0, at, plain.dense(row) * sign)
        found, norm = part.dense(row), float(whole.norm())
        if norm < 1e-3:  # pairs that cancel
            continue
        torch.testing.assert_close(found, whole / norm, atol=1e-3, rtol=1e-2)


@given(rows=histories, count=st.integers(1, 60), bits=st.integers(8, 36))
@settings(max_examples=60, deadline=None)
def test_no_history_exceeds_the_clip(rows: list[list[int]], count: int, bits: int) -> None:
    lattice = Lattice.with_bits(1.0, bits)
    for row in rows:
        part = sketched([row], count)
        weights = 1.0 / part.norms().clamp(min=1.0)
        steps = total_of(part, weights, lattice).double().norm()
        assert float(steps) * lattice.step <= 1.0 + 2.0**-20


@given(rows=histories, count=st.integers(1, 60), weight=st.floats(0.01, 1.0), ordered=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_device_adds_the_same_integers(rows: list[list[int]], count: int, weight: float, ordered: bool) -> None:
    for row in rows:
        users = batch_of([row], items=HEAD) if ordered else batch_of([row], items=HEAD).unordered()
        sketch = SketchedPairs(users, EVERYTHING, HEAD, 2, count)
        expected = total_of(sketch, torch.tensor([weight], dtype=torch.float64))
        made = np.zeros(count + 3, np.int64)
        device = PairsPart(np.array(row, np.int64), np.arange(HEAD), HEAD, 2, count, ordered=ordered)
        device.add_to(made, weight, LATTICE)
        assert np.array_equal(made[:count], expected.numpy())
        assert not made[count:].any()


def test_users_add_the_same_integers_in_any_groups(monkeypatch) -> None:
    rows = [list(range(n)) for n in (0, 1, 2, 40, 7, 40, 3)]
    whole = total_of(sketched(rows, 50), torch.ones(7))
    alone = sum(total_of(sketched([row], 50), torch.ones(1)) for row in rows)
    assert torch.equal(whole, alone)
    monkeypatch.setattr(pair_sketch, "AT_ONCE", 30)
    part = sketched(rows, 50)
    assert len(list(part._groups())) > 3
    assert torch.equal(total_of(part, torch.ones(7)), whole)


def test_users_of_weight_zero_and_infinite_norm_add_nothing() -> None:
    weights = torch.tensor([0.0, 1.0, 0.0])
    part = sketched([[1, 2, 3], [4, 5], []], 20)
    assert torch.equal(total_of(part, weights), total_of(sketched([[4, 5]], 20), torch.ones(1)))


def test_places_and_signs_are_spread_and_fixed() -> None:
    """Another hash would make devices and servers of two versions add up different pairs: bump the protocol then."""
    at, sign = places(np.arange(200_000), 1000)
    counts = np.bincount(at, minlength=1000)
    assert abs(counts.std() / math.sqrt(200) - 1) < 0.15
    assert abs(sign.mean()) < 5 / math.sqrt(200_000)
    together = np.bincount(at, weights=sign, minlength=1000)
    assert abs(together.std() / math.sqrt(200) - 1) < 0.15
    assert places(np.arange(4), 1000)[0].tolist() == FIRST
    assert places(np.arange(4), 1000)[1].tolist() == SIGNS


FIRST, SIGNS = [398, 723, 111, 498], [1, -1, 1, -1]


@pytest.mark.parametrize("saved", [2, 4, 16])
def test_pairs_are_read_back_with_the_error_that_is_stated(saved: int) -> None:
    generator = torch.Generator().manual_seed(saved)
    head, noise = 120, 30.0
    popularity = 5 + 30 * torch.rand(head, generator=generator)
    expected = torch.outer(popularity, popularity)[tuple(torch.triu_indices(head, head, 1))]
    truth = expected * (1 + 0.2 * torch.randn(pairs(head), generator=generator))
    count = pairs(head) // saved
    at, sign = places(torch.arange(pairs(head)), count)
    sums = torch.zeros(count).index_add_(0, at, truth * sign)
    found = pairs_of(PrivateSum(sums + noise * torch.randn(count, generator=generator), noise), popularity)
    error = float((found.value - truth).square().mean().sqrt())
    assert found.noise_std == pytest.approx(error, rel=0.2)
    assert found.noise_std >= noise


def test_nothing_but_noise_is_no_pairs() -> None:
    generator = torch.Generator().manual_seed(1)
    found = pairs_of(PrivateSum(-50 + torch.randn(300, generator=generator), 1.0), torch.ones(60))
    assert found.value.isfinite().all()
    empty = pairs_of(PrivateSum(torch.zeros(300), 1.0), torch.ones(60))
    assert not empty.value.any()
    assert empty.noise_std == 1.0


def test_the_decay_is_the_one_of_the_pairs() -> None:
    part = sketched([[0, 1, 2]], 1 << 20)
    found = part.dense(0)
    assert found.abs().sort().values[-3] / found.abs().max() == pytest.approx(DECAY, rel=1e-3)
