"""The in-process federation against one user at a time: chunks, memory and repetition change nothing."""

import numpy as np
import pytest
import torch
from fedrec_sim.engines.in_process import InProcessFederation
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.algorithms.base import PublicFacts
from fedrec.data.catalogue import Catalogue
from fedrec.errors import PrivacyError
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import PrivateSum, SumQuery
from fedrec.run.coordinator import Coordinator
from tests.server.toy import ITEMS, Toy, ToyConfig, histories, private_sums

SOURCE = histories()
SETTING = PublicFacts(Catalogue(tuple(map(str, range(ITEMS)))), len(SOURCE), len(SOURCE))
TOY = Toy(ToyConfig(), SETTING)
SHARED = {"vector": torch.linspace(-1, 1, ITEMS), "step": torch.zeros(2)}


def federation(epsilon: float | str = 2.0, sampling: float = 1.0, **bounds: int) -> InProcessFederation:
    rounds = [TOY.queries(round_index) for round_index in range(TOY.rounds)]
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=epsilon, delta=1e-3, sampling=sampling), rounds, len(SOURCE), seed=3)
    return InProcessFederation(SOURCE, plan, seed=11, **bounds)


def sums(made: InProcessFederation, cohort: np.ndarray | None = None, round_index: int = 0) -> dict[str, PrivateSum]:
    made.plan.charge(round_index)
    return private_sums(made, TOY, SHARED, round_index, cohort)


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def privatise(self: PrivacyPlan, round_index: int, query: SumQuery, total: torch.Tensor) -> PrivateSum:
        return PrivateSum(query.decode(total, self.lattice(query)).float(), 0.0)

    monkeypatch.setattr(PrivacyPlan, "privatise", privatise)


def one_at_a_time(plan: PrivacyPlan, cohort: np.ndarray, round_index: int) -> dict[str, torch.Tensor]:
    totals = {query.name: torch.zeros(query.shape) for query in TOY.queries(round_index)}
    for user in cohort:
        alone = SOURCE.batch(np.array([user]), seed=11)
        parts = TOY.contribute(SHARED, alone, round_index)
        for query in TOY.queries(round_index):
            dense = parts[query.name].dense(0)
            totals[query.name] += dense * min(1.0, query.clip_norm / float(dense.norm()))
    return totals


@settings(max_examples=30, deadline=None)
@given(
    batch_users=st.integers(1, 50),
    batch_events=st.integers(1, 400),
    memory=st.sampled_from([0, 700, 1 << 20]),
    cohort=st.sets(st.integers(0, len(SOURCE) - 1)),
    round_index=st.integers(0, 3),
)
def test_any_chunking_gives_what_users_one_at_a_time_give(
    batch_users, batch_events, memory, cohort, round_index
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        without_noise(patch)
        made = federation(batch_users=batch_users, batch_events=batch_events, memory_bytes=memory)
        users = np.array(sorted(cohort), dtype=np.int64)
        expected = one_at_a_time(made.plan, users, round_index)
        for _ in range(2):  # the second time from what devices remember
            found = sums(made, users, round_index)
            for name, total in expected.items():
                torch.testing.assert_close(found[name].value, total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("epsilon", [2.0, "none"])
def test_a_repetition_has_the_same_bits(epsilon: float | str) -> None:
    first, second = federation(epsilon, batch_users=5), federation(epsilon, batch_users=5)
    for round_index in range(2):
        a, b = sums(first, round_index=round_index), sums(second, round_index=round_index)
        assert all(torch.equal(a[name].value, b[name].value) for name in a)


def test_memory_changes_no_bit() -> None:
    keeps, forgets = federation(batch_users=5), federation(batch_users=5, memory_bytes=0)
    for round_index in range(3):
        a, b = sums(keeps, round_index=round_index), sums(forgets, round_index=round_index)
        assert all(torch.equal(a[name].value, b[name].value) for name in a)
    assert keeps.hosted._kept
    assert not forgets.hosted._kept


def test_what_devices_remember_is_bounded_and_only_kept_when_everybody_takes_part() -> None:
    bounded = federation(batch_users=5, memory_bytes=3000)
    for round_index in range(2):
        sums(bounded, round_index=round_index)
    sizes = [
        sum(tensor.numel() * tensor.element_size() for tensor in chunk.memory.values())
        for chunks in bounded.hosted._kept.values()
        for chunk in chunks
    ]
    assert 0 < sum(sizes) <= 3000
    assert sum(chunk.held_bytes for chunks in bounded.hosted._kept.values() for chunk in chunks) <= 3000
    sampled = federation(sampling=0.5, batch_users=5)
    sums(sampled)
    assert not sampled.hosted._kept


class Half(Toy):
    """Of every other key no more than zeros."""

    def adds(self, keys: torch.Tensor, round_index: int) -> torch.Tensor | None:
        return keys % 2 == 0 if round_index else None


def test_who_adds_zeros_is_left_out_of_the_computation_and_the_rest_is_remembered() -> None:
    half, made = Half(ToyConfig(), SETTING), federation(batch_users=5)
    even = np.flatnonzero(SOURCE.keys(np.arange(len(SOURCE)), 11).numpy() % 2 == 0)
    assert 0 < len(even) < len(SOURCE)
    for round_index in range(3):
        made.plan.charge(round_index)
        cohort = None if round_index == 0 else even
        found = private_sums(made, half, SHARED, round_index)
        expected = sums(federation(), cohort, round_index)
        assert all(torch.equal(found[name].value, expected[name].value) for name in expected)
        assert {users for users, _ in made.hosted._kept} == {len(SOURCE) if round_index == 0 else len(even)}
    again = list(made.hosted.chunks(even, lasting=True))
    assert all(chunk.memory for chunk in again), "not made anew"


def test_what_a_batch_holds_is_counted_with_all_that_was_derived_from_it() -> None:
    batch = SOURCE.batch(np.arange(4), 0)
    fields = 8 * (len(batch.items) + 2 * len(batch))  # items, lengths, keys
    ratings = 0 if batch.ratings is None else 4 * len(batch.items)
    assert batch.held_bytes == fields + ratings
    owners, _ = batch.distinct
    derived = 8 * (len(batch.items) + 2 * len(owners))  # owners of events; the two of `distinct`
    assert batch.held_bytes == fields + ratings + derived
    batch.memory["twice"] = batch.items
    batch.memory["own"] = torch.zeros(7)
    assert batch.held_bytes == fields + ratings + derived + 28, "a tensor under two names is held once"


def test_chunks_keep_their_bounds() -> None:
    made = federation(batch_users=6, batch_events=20)
    chunks = list(made.hosted.chunks(np.arange(len(SOURCE))))
    assert sum(map(len, chunks)) == len(SOURCE)
    assert max(map(len, chunks)) <= 6
    assert all(len(chunk.items) <= 20 or len(chunk) == 1 for chunk in chunks)
    assert torch.equal(torch.cat([chunk.items for chunk in chunks]), torch.from_numpy(SOURCE.items.astype(np.int64)))


def test_a_user_with_more_events_than_a_chunk_is_a_chunk_alone() -> None:
    assert {len(chunk) for chunk in federation(batch_events=1).hosted.chunks(np.arange(len(SOURCE)))} <= {1, 2, 3, 4, 5}
    heavy = [
        chunk for chunk in federation(batch_events=1).hosted.chunks(np.arange(len(SOURCE))) if len(chunk.items) > 1
    ]
    assert all(int((chunk.lengths > 0).sum()) == 1 for chunk in heavy)


def test_an_empty_cohort_gives_noise_alone() -> None:
    found = sums(federation(), np.array([], dtype=np.int64))
    assert found["pull"].value.shape == (ITEMS,)
    assert found["pull"].noise_std > 0
    assert bool((found["pull"].value != 0).all())


def test_an_algorithm_that_answers_other_queries_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "contribute", lambda self, shared, users, round_index: {})
    with pytest.raises(ValueError, match="toy"):
        sums(federation())


def test_a_federation_that_clips_by_another_plan_is_refused() -> None:
    made, other = federation(sampling=0.5), federation()
    with pytest.raises(PrivacyError, match="the federation clips by another plan"):
        Coordinator(TOY, made, other.plan)


def test_a_user_who_takes_part_twice_is_refused() -> None:
    with pytest.raises(PrivacyError, match="take each user once"):
        sums(federation(), np.array([1, 2, 2, 3]))


def test_a_poisson_cohort_repeats_with_the_seed_and_differs_between_rounds() -> None:
    a, b = federation(sampling=0.5), federation(sampling=0.5)
    assert np.array_equal(a.plan.sample(0), b.plan.sample(0))
    assert not np.array_equal(a.plan.sample(0), a.plan.sample(1))
