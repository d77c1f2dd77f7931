"""Sums are exact: one user who leaves moves the computed sum by at most the clip, for any population and batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.algorithms.als import ItemStatistics
from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.fcf import ItemGradient
from fedrec.algorithms.popularity import Popularity, PopularityConfig
from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.errors import PrivacyError
from fedrec.federation.hosted import HostedUsers, Stopwatch, add_up
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import MOST_BITS, MOST_USERS, ROOM, USERS_AT_ONCE, Lattice, add_whole, check_room
from fedrec.privacy.queries import DenseContribution, SumQuery
from fedrec.testing.toy_users import batch_of

ITEMS = 300


def rounding_population(with_one_more: bool, chunk: int, chunks: int) -> Histories:
    """Users whose float32 sum depends on where batches begin, with or without the first of them.

    The first batch brings item 0 to a power of two, above which float32 rounds what single users add to it. Every later
    batch holds one user of 255 items, who adds 1 / sqrt(255) to item 0: it is rounded up or down with its company.
    """
    first = chunk * chunk - 1 + with_one_more
    lengths, items = [np.ones(first, np.int64)], [np.zeros(first, np.int32)]
    for _ in range(chunks):
        length = np.ones(chunk, np.int64)
        length[chunk // 2] = 255
        item = np.ones(chunk - 1 + 255, np.int32)
        item[chunk // 2 : chunk // 2 + 255] = np.r_[0, np.arange(2, 256)]
        lengths.append(length)
        items.append(item)
    together = np.concatenate(lengths)
    identities = np.arange(len(together)) + (0 if with_one_more else 1)
    offsets = np.r_[0, np.cumsum(together)].astype(np.int64)
    return Histories(offsets, np.concatenate(items), ITEMS, identities=identities)


def summed(histories: Histories, users: int, **bounds: int) -> tuple[torch.Tensor, SumQuery, Lattice]:
    facts = PublicFacts(Catalogue(tuple(map(str, range(ITEMS)))), users, float(users), mu=1.0)
    algorithm = Popularity(PopularityConfig(), facts)
    (query,) = algorithm.queries(0)
    hosted = HostedUsers(histories, seed=1, **bounds)
    everybody = np.arange(len(histories))
    sums = hosted.clipped_sums(
        algorithm,
        algorithm.initial(),
        0,
        everybody,
        lambda query, part: clip_weights(part, query.clip_norm),
        Stopwatch(hosted.device),
    )
    return sums["popularity"], query, Lattice.of(query.clip_norm, users)


@pytest.mark.parametrize("chunk", [64, pytest.param(1024, marks=pytest.mark.slow)])
def test_a_population_built_against_float_sums_moves_by_one_clip(chunk: int) -> None:
    """With float32 totals and 1,064,960 users, one user moved the sum by 1.94 clips: claimed 4.0, true 8.4."""
    whole, query, lattice = summed(rounding_population(True, chunk, 16), 1 << 21, batch_users=chunk)
    left, _, _ = summed(rounding_population(False, chunk, 16), 1 << 21, batch_users=chunk)
    assert query.decode(whole - left, lattice).norm() <= query.clip_norm * (1 + 2**-20)


def test_batches_and_threads_change_no_bit() -> None:
    histories = rounding_population(True, 16, 4)
    expected = summed(histories, 1 << 21)[0]
    threads = torch.get_num_threads()
    for number, bounds in ((1, {"batch_users": 7}), (2, {"batch_users": 32}), (2, {"batch_events": 100})):
        torch.set_num_threads(number)
        try:
            assert torch.equal(summed(histories, 1 << 21, **bounds)[0], expected)
        finally:
            torch.set_num_threads(threads)


def test_more_users_than_were_declared_are_refused() -> None:
    with pytest.raises(PrivacyError, match="declare them all"):
        summed(rounding_population(True, 8, 1), 10)


# The lattice


@settings(max_examples=300, deadline=None)
@given(clip=st.floats(1e-30, 1e30), users=st.integers(1, MOST_USERS))
def test_a_full_population_stays_below_the_room_and_a_batch_stays_exact(clip: float, users: int) -> None:
    lattice = Lattice.of(clip, users)
    steps = clip / lattice.step
    assert steps * users <= 2.0**ROOM < 2**63 / 4
    assert steps * USERS_AT_ONCE <= 2.0**53
    assert steps >= 2.0**28 * (4 if users <= 1 << 24 else 1)
    assert lattice.root * lattice.root == lattice.step
    assert math.frexp(lattice.step)[0] == 0.5
    assert steps <= 2.0**MOST_BITS


values = st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(values, min_size=1, max_size=4), clip=st.sampled_from([0.1, 1.0, 3.5]), nudge=st.integers(-3, 3))
def test_rounding_towards_zero_never_lengthens(rows: list[list[float]], clip: float, nudge: int) -> None:
    """Include values next to a step: rounding to the nearest step would exceed the clip."""
    lattice = Lattice.of(clip, 100)
    table = torch.tensor(rows, dtype=torch.float64)
    table = (table / lattice.step).round() * lattice.step + nudge * torch.finfo(torch.float64).eps
    part = DenseContribution(table)
    weights = clip_weights(part, clip)
    for row in range(len(rows)):
        alone, total = torch.zeros_like(weights), torch.zeros(3, dtype=torch.int64)
        alone[row] = weights[row]
        part.add_to(total, alone, lattice)
        assert lattice.values(total).norm() <= clip


@settings(max_examples=200, deadline=None)
@given(left=st.floats(1e-30, 1e30), right=st.floats(1e-30, 1e30))
def test_the_steps_of_two_factors_multiply_to_the_lattice(left: float, right: float) -> None:
    lattice = Lattice.of(1.0, 1000)
    one, other = lattice.factor_steps(*(torch.tensor([size], dtype=torch.float64) for size in (left, right)))
    assert float(one * other) == lattice.step


@pytest.mark.parametrize("value", [2.0**60, -(2.0**60), math.nan, math.inf])
def test_what_could_overflow_is_refused(value: float) -> None:
    total = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(PrivacyError, match="exact sums cannot hold"):
        add_whole(total, torch.tensor([0.0, value], dtype=torch.float64))
    assert not total.any()
    with pytest.raises(PrivacyError, match="exact sums cannot hold"):
        check_room(torch.tensor([1 << 61]))
    with pytest.raises(PrivacyError, match="exact sums cannot hold"):
        add_up([torch.tensor([3 << 59]), torch.tensor([3 << 59])], (1,), torch.device("cpu"))


# Norms that are computed from factors


@settings(max_examples=100, deadline=None)
@given(
    scale=st.floats(0.01, 100),
    alpha0=st.floats(1e-4, 10),
    clip=st.sampled_from([0.1, 4.0]),
    seed=st.integers(0, 1000),
)
def test_a_gradient_whose_events_nearly_cancel_stays_within_the_clip(
    scale: float, alpha0: float, clip: float, seed: int
) -> None:
    """The closed form of the norm was a difference of nearly equal numbers: 1.000165 of the clip was added."""
    generator = torch.Generator().manual_seed(seed)
    items = scale * torch.randn(30, 3, generator=generator)
    vectors = torch.randn(4, 3, generator=generator)
    rows = [list(range(30)), list(range(29)), [0], []]
    users = batch_of(rows, items=30)
    score = (vectors[:1] @ items.T)[0]
    items[:, 0] += ((1 / (1 + alpha0)) - score) / vectors[0, 0]  # now the error of the first user is almost zero
    part = ItemGradient(vectors, items, users, alpha0)
    weights = clip_weights(part, clip)
    for row in range(len(rows)):
        alone, total = torch.zeros_like(weights), torch.zeros(30, 3, dtype=torch.int64)
        alone[row] = weights[row]
        part.add_to(total, alone, Lattice.of(clip, 10))
        assert Lattice.of(clip, 10).values(total).norm() <= clip


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(1e-3, 1e3), repeats=st.integers(1, 50), clip=st.sampled_from([0.01, 3.5]))
def test_repeated_events_of_als_stay_within_the_clip(scale: float, repeats: int, clip: float) -> None:
    vectors = scale * torch.randn(2, 4, generator=torch.Generator().manual_seed(repeats))
    part = ItemStatistics(vectors, batch_of([[3] * repeats + [5], [1]], items=8))
    query = SumQuery("items", part.shape, clip, 1.0, packed=4)
    weights, lattice = clip_weights(part, clip), Lattice.of(clip, 10)
    total = torch.zeros(query.shape, dtype=torch.int64)
    part.add_to(total, torch.tensor([float(weights[0]), 0.0], dtype=torch.float64), lattice)
    assert query.decode(total, lattice).norm() <= clip


@settings(max_examples=40, deadline=None)
@given(
    bits=st.sampled_from([8, 14, 36]),
    users=st.integers(1, 9),
    clip=st.sampled_from([1.0, 0.3, 7.5]),
    loud=st.lists(st.floats(-1e6, 1e6, width=32), min_size=5, max_size=5),
)
def test_fewer_bits_keep_the_clip_and_fit_the_bytes_that_they_state(
    bits: int, users: int, clip: float, loud: list[float]
) -> None:
    """Users who all add the same are the worst that a message must hold; a user alone is what the noise must cover."""
    query = SumQuery("pairs", (5,), clip, 1.0, bits=bits)
    lattice = query.lattice(1000)
    for row in (loud, [1e6, 0.0, 0.0, 0.0, 0.0], [-clip, 0.0, 0.0, 0.0, 0.0], [clip / 5**0.5] * 5):
        part, total = DenseContribution(torch.tensor([row] * users)), torch.zeros(5, dtype=torch.int64)
        part.add_to(total, clip_weights(part, clip), lattice)
        assert query.decode(total, lattice).norm() <= users * clip
        reach = 1 << 8 * lattice.octets(clip, users) - 1
        assert -reach <= int(total.min()) <= int(total.max()) < reach
    assert lattice.octets(clip, users) <= math.ceil((bits + 2 + users.bit_length()) / 8)


@pytest.mark.parametrize("bits", [6, 15, 38])
def test_bits_that_no_lattice_has_are_refused(bits: int) -> None:
    with pytest.raises(PrivacyError, match="bits must be even, from 8 to 36"):
        SumQuery("pairs", (5,), 1.0, 1.0, bits=bits)
