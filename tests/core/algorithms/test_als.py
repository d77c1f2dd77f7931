import math

import numpy as np
import pytest
import torch

from fedrec.algorithms.als import ALS, ALSConfig, ALSModel, SymmetricPacking, _shrunk
from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.ragged import CAPACITY, each_rectangle, padded_lengths
from fedrec.data.users import UserBatch
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, USERS, batch_of, edge_rows, planted_catalogue, planted_rows


class TestALS(AlgorithmContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return ALS(ALSConfig(dim=8, rounds=5, alpha0=0.1, reg=0.01), facts)


def central_als(rows: list[list[int]], algo: ALS, rounds: int) -> np.ndarray:
    """The slow oracle: dense, central, one user and one item at a time, in float64. Returns all scores."""
    config = algo.config
    observed = np.zeros((len(rows), ITEMS))
    for user, row in enumerate(rows):
        for item in row:
            observed[user, item] += 1
    items = algo.initial()["items"].double().numpy()

    def solve(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
        everything = config.alpha0 * table.T @ table
        solved = []
        for count in counts:
            ridge = config.reg * (count.sum() + config.alpha0 * len(table)) ** config.nu
            normal = everything + (table * count[:, None]).T @ table + ridge * np.eye(config.dim)
            solved.append(np.linalg.solve(normal, table.T @ count))
        return np.array(solved)

    for _ in range(rounds):
        items = solve(solve(items, observed), observed.T)
    return solve(items, observed) @ items.T


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
def test_the_federated_result_is_that_of_central_als(nu: float) -> None:
    rows = planted_rows()[0][: USERS - len(edge_rows())] + edge_rows()
    algo = ALS(ALSConfig(dim=6, rounds=4, nu=nu), PublicFacts(planted_catalogue(), USERS, float(USERS), seed=2))
    users = batch_of(rows)
    model = algo.release(AlgorithmContract().train(algo, users))
    expected = central_als(rows, algo, rounds=4)
    silent = np.array([not row for row in rows])
    assert not expected[silent].any()
    expected[silent] = np.bincount(users.items.numpy(), minlength=ITEMS)  # where nothing is known, what is popular
    found = model.score(model.fit(users)).numpy()
    assert np.allclose(found[silent], expected[silent])
    assert (
        np.abs(found - expected)[np.logical_not(silent)].max() < 2e-3 * np.abs(expected[np.logical_not(silent)]).max()
    )


def test_a_sampled_cohort_stands_for_the_population() -> None:
    users = batch_of(planted_rows()[0])
    whole = ALS(ALSConfig(dim=4, rounds=1), PublicFacts(planted_catalogue(), USERS, float(USERS)))
    half = ALS(ALSConfig(dim=4, rounds=1), PublicFacts(planted_catalogue(), USERS, USERS / 2))
    shared = whole.initial()
    parts = whole.contribute(shared, users, 0)
    total = {name: part.weighted_sum(torch.ones(USERS)) for name, part in parts.items()}
    everyone = whole.update(shared, {name: PrivateSum(value, 0.0) for name, value in total.items()}, 0)
    sampled = half.update(shared, {name: PrivateSum(value / 2, 0.0) for name, value in total.items()}, 0)
    assert torch.allclose(everyone["items"], sampled["items"], rtol=1e-4, atol=1e-6)


def test_packing_keeps_the_frobenius_norm_and_inverts() -> None:
    matrices = torch.randn(5, 7, 7, generator=torch.Generator().manual_seed(0))
    matrices = matrices + matrices.mT
    packing = SymmetricPacking(7, torch.device("cpu"))
    assert packing.pack(matrices).shape == (5, 28)
    assert torch.allclose(packing.pack(matrices).norm(dim=1), matrices.flatten(1).norm(dim=1))
    assert torch.allclose(packing.unpack(packing.pack(matrices)), matrices)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [5], [1, 0, 3, 3, 200, 7, 0], list(range(300)), [9000, 9000, 2]])
def test_rectangles_hold_every_member_once(lengths: list[int]) -> None:
    members = torch.arange(sum(lengths)) + 1000
    size = torch.tensor(lengths, dtype=torch.int64)
    starts = size.cumsum(0) - size
    found: dict[int, list[int]] = {}

    def note(groups: torch.Tensor, index: torch.Tensor) -> None:
        assert index.numel() <= max(CAPACITY["cpu"], *padded_lengths(size).tolist())
        for group, row in zip(groups.tolist(), index.tolist(), strict=True):
            assert group not in found
            found[group] = [member for member in row if member != -1]

    each_rectangle(note, members, size, pad=-1)
    expected = {g: members[starts[g] : starts[g] + n].tolist() for g, n in enumerate(lengths) if n}
    assert found == expected


def test_rectangles_pad_little() -> None:
    lengths = torch.randint(20, 2000, (3000,), generator=torch.Generator().manual_seed(1))
    members = torch.zeros(int(lengths.sum()), dtype=torch.int64)
    padded: list[int] = []
    each_rectangle(lambda _, index: padded.append(index.numel()), members, lengths, pad=1)
    assert sum(padded) < 1.15 * len(members)


def test_rows_of_weight_zero_may_hold_nan() -> None:
    users = batch_of(edge_rows())
    algo = ALS(ALSConfig(dim=4), PublicFacts(planted_catalogue(), USERS, float(USERS)))
    for part in algo.contribute(algo.initial(), users, 0).values():
        part.vectors[2] = math.nan
        weights = torch.ones(len(users))
        weights[2] = 0.0
        assert part.weighted_sum(weights).isfinite().all()
        assert part.norms()[2].isnan()


def test_an_event_that_repeats_counts_each_time() -> None:
    algo = ALS(ALSConfig(dim=4), PublicFacts(planted_catalogue(), USERS, float(USERS)))
    part = algo.contribute(algo.initial(), batch_of([[3, 3, 3, 8]]), 0)["items"]
    dense = part.dense(0)
    assert torch.allclose(dense[3], 3 * dense[8])
    assert math.isclose(float(part.norms()[0]), float(dense.double().norm()), rel_tol=1e-6)


def test_the_released_gram_matrix_is_that_of_the_items() -> None:
    algo = ALS(ALSConfig(dim=4, rounds=2), PublicFacts(planted_catalogue(), USERS, float(USERS)))
    model = algo.release(AlgorithmContract().train(algo, batch_of(planted_rows()[0])))
    assert isinstance(model, ALSModel)
    assert torch.allclose(model.gram, model.items.T @ model.items, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dim", [1, 2, 3, 8])
def test_shrinking_never_lengthens_a_row(dim: int) -> None:
    rows = torch.randn(50, dim, generator=torch.Generator().manual_seed(dim)) * torch.logspace(-3, 3, 50)[:, None]
    shrunk = _shrunk(rows, 1.0)
    assert (shrunk.norm(dim=1) <= rows.norm(dim=1)).all()
    assert torch.equal(shrunk, rows) == (dim < 3)


def test_vectors_of_a_million_events_need_no_matrix_per_user() -> None:
    rows = torch.full((20_000,), 20)
    users = UserBatch(torch.arange(400_000) % ITEMS, rows, ITEMS, torch.zeros(20_000, dtype=torch.int64))
    algo = ALS(ALSConfig(dim=4), PublicFacts(planted_catalogue(), 20_000, 20_000.0))
    part = algo.contribute(algo.initial(), users, 0)["items"].weighted_sum(torch.ones(20_000))
    assert float(part[:, -1].sum()) == 400_000
