"""The contract between an algorithm and its device form without torch: the same sums, and the same integers in them."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.users import UserBatch
from fedrec.ondevice.history import History
from fedrec.ondevice.training import integers
from fedrec.ondevice.training.base import DeviceQuery, Part, RunFacts, Training
from fedrec.ondevice.training.discover import training
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.discrete.encoding import Encoding, plain, plain_steps, rotated
from fedrec.privacy.discrete.rounding import users_draws
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.integers import EncodedIntegers, ExactIntegers, Integers
from fedrec.privacy.queries import PrivateSum, SumQuery
from fedrec.recommend.kernel_items import kernel_items
from fedrec.rowwise import rowwise
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows, planted_rows

USERS = 1000
"""Public size of the population, from which lattices follow."""


class DeviceTrainingContract:
    """Tests of the device form of the fixture `algorithm`, an algorithm of `ITEMS` items with privacy."""

    steps = 0
    """Most steps of the fine lattice by which an integer may differ; 0: equal bits."""
    relative = 0.0
    """Largest difference of a part, in clips, where the device's own vector is solved in another precision."""
    alike: tuple[str, ...] = ()
    """How names begin of queries whose integers are equal, whatever `relative` is."""

    @pytest.fixture(scope="class")
    def form(self, algorithm: Algorithm) -> Training:
        return device_form(algorithm)

    @pytest.fixture(scope="class")
    def rows(self) -> list[list[int]]:
        return [*edge_rows(), *planted_rows(users=2, seed=3)[0]]

    @pytest.fixture(scope="class")
    def states(self, algorithm: Algorithm, rows: list[list[int]]) -> list[Shared]:
        """The state of each round, made of these users without noise."""
        return self.run(algorithm, rows)

    def batch(self, rows: list[list[int]]) -> UserBatch:
        """The users with these histories."""
        return batch_of(rows)

    def person(self, row: list[int]) -> History:
        """The only user of `batch([row])`."""
        return History(np.array(row, np.int64), key=int(batch_of([row]).keys[0]) & (1 << 64) - 1)

    def run(self, algorithm: Algorithm, rows: list[list[int]]) -> list[Shared]:
        """Return the state before each round, made of these users without noise."""
        found = [algorithm.initial()]
        for number in range(algorithm.rounds - 1):
            given = algorithm.contribute(found[-1], self.batch(rows), number)
            sums = {name: PrivateSum(part.weighted_sum(part.unit_weights()), 0.0) for name, part in given.items()}
            found.append(algorithm.update(found[-1], sums, number))
        return found

    def sent(self, algorithm: Algorithm, shared: Shared, number: int) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in algorithm.for_devices(shared, number).items()}

    def torch_total(
        self, algorithm: Algorithm, shared: Shared, row: list[int], number: int, query: SumQuery, made: Integers
    ) -> np.ndarray:
        """The oracle: what the torch form adds for one user alone."""
        users = self.batch([row])
        with rowwise(torch.device("cpu")):
            part = algorithm.contribute(shared, users, number)[query.name]
            total = made.zeros(query, number, torch.device("cpu"))
            made.add(total, query, number, part, clip_weights(part, query.clip_norm), users.keys)
        found: np.ndarray = total.numpy()
        return found

    def most(self, query: SumQuery) -> float:
        """Most steps by which an integer may differ; at the border of two steps a number may fall to either."""
        return self.steps + math.ceil(self.relative * query.clip_norm / query.lattice(USERS).step)

    def encodings(self, size: int, clip_norm: float) -> list[Encoding]:
        step = Lattice.with_bits(clip_norm, plain_steps(4.0)).step
        return [_rotated(size), plain(size, USERS, 4.0, step, clip_norm)]

    def test_both_forms_ask_for_the_same_sums(self, algorithm: Algorithm, form: Training) -> None:
        assert form.rounds == algorithm.rounds
        for number in range(algorithm.rounds):
            asked = [(q.name, tuple(q.shape), q.clip_norm, q.packed) for q in algorithm.queries(number)]
            assert [(q.name, q.shape, q.clip_norm, q.packed) for q in form.queries(number)] == asked

    def test_each_user_adds_the_integers_that_the_torch_form_adds(
        self, algorithm: Algorithm, form: Training, rows: list[list[int]], states: list[Shared]
    ) -> None:
        for number, shared in enumerate(states):
            for row in rows:
                parts = form.parts(self.sent(algorithm, shared, number), self.person(row), number)
                for query, own in zip(algorithm.queries(number), form.queries(number), strict=True):
                    expected = self.torch_total(algorithm, shared, row, number, query, ExactIntegers(USERS))
                    found = integers.exact(own, parts[query.name], USERS)
                    assert found.dtype == np.int64
                    most = 0.0 if self.alike and query.name.startswith(self.alike) else self.most(query)
                    assert np.abs(found - expected).max() <= most, (number, query.name, row)

    def test_so_it_does_where_users_add_the_noise(
        self, algorithm: Algorithm, form: Training, rows: list[list[int]], states: list[Shared]
    ) -> None:
        shared = states[-1]
        number = algorithm.rounds - 1
        key = int(batch_of([[0]]).keys[0])
        for row in rows[:7]:
            parts = form.parts(self.sent(algorithm, shared, number), self.person(row), number)
            for query, own in zip(algorithm.queries(number), form.queries(number), strict=True):
                for made in self.encodings(query.size, query.clip_norm):
                    oracle = EncodedIntegers(_given(made), USERS, seed=5)
                    expected = self.torch_total(algorithm, shared, row, number, query, oracle)
                    draws = _draws(number, query.name, key)
                    found = integers.encoded(own, parts[query.name], USERS, made, draws)
                    most = 0.0 if not self.relative else 2 + self.relative * made.length
                    apart = made.read(found - expected.reshape(found.shape) & np.int64((1 << made.bits) - 1))
                    assert np.abs(apart).max() <= most, (query.name, made.kind, row)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 1e-30, -3.0, 0.0])
    def test_no_state_that_a_server_sends_moves_an_integer_beyond_the_clip(
        self, algorithm: Algorithm, form: Training, states: list[Shared], value: float
    ) -> None:
        for number in range(algorithm.rounds):
            sent = self.sent(algorithm, states[number], number)
            hostile = {
                name: part if part.dtype.kind == "i" else np.full_like(part, value) for name, part in sent.items()
            }
            for row in ([], [0], list(range(ITEMS)), [4] * 50):
                with np.errstate(all="ignore"):
                    try:
                        parts = form.parts(hostile, self.person(row), number)
                    except ValueError:
                        continue  # refused: nothing leaves
                    for query in form.queries(number):
                        self.within_the_clip(query, parts[query.name])

    def within_the_clip(self, query: DeviceQuery, part: Part) -> None:
        lattice, units = query.lattice(USERS), query.units()
        found = integers.exact(query, part, USERS) * lattice.step
        assert np.linalg.norm(found if units is None else found * units) <= query.clip_norm
        for made in self.encodings(query.size, query.clip_norm):
            sent = integers.encoded(query, part, USERS, made, _draws(0, query.name, 1))
            assert int(np.square(made.read(sent)).sum()) <= made.squared

    def test_a_person_without_events_adds_nothing(
        self, algorithm: Algorithm, form: Training, states: list[Shared]
    ) -> None:
        for number in range(algorithm.rounds):
            parts = form.parts(self.sent(algorithm, states[number], number), self.person([]), number)
            for query in form.queries(number):
                assert not integers.exact(query, parts[query.name], USERS).any()

    def test_tensors_of_other_shapes_are_refused(
        self, algorithm: Algorithm, form: Training, states: list[Shared]
    ) -> None:
        number = algorithm.rounds - 1
        for name, part in self.sent(algorithm, states[number], number).items():
            changed = self.sent(algorithm, states[number], number) | {name: part[:-1] if part.ndim else part[None][:0]}
            with pytest.raises(ValueError, match=r"the run has|the server's choice"):
                form.parts(changed, self.person([1, 2]), number)


def device_form(algorithm: Algorithm) -> Training:
    """Return the device form of an algorithm."""
    facts, settings = algorithm.facts, algorithm.config.model_dump(mode="json")
    features = kernel_items(facts.catalogue)
    given = RunFacts(len(facts.catalogue), facts.users, facts.mu, facts.seed, features)
    return training(algorithm.name, settings, given)


@lru_cache(maxsize=8)
def _rotated(size: int) -> Encoding:
    return rotated(size, USERS, 4.0, label="0\0name")


def _given(made: Encoding) -> Callable[[int, str], Encoding]:
    return lambda *_: made


def _draws(number: int, name: str, key: int) -> Callable[[], np.random.Generator]:
    return lambda: users_draws(5, number, name, key)
