"""`kernel-rank` without privacy: tables of pairs, what follows from them, and the judgement."""

import math

import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.kernel_rank import KernelRank
from fedrec.algorithms.kernel_rank_raw import LOW_RANK
from fedrec.algorithms.kernel_rank_raw_users import met
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.data.users import UserBatch
from fedrec.kernels.pair_kernels import NAMES, TABLES, pair_kernels
from fedrec.kernels.pair_sums import PairSums, blocks
from fedrec.kernels.pair_table import Pairs, strongest
from fedrec.ondevice.explanation import LEARNED
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows, planted_rows

SMALL = {"decays": (1.0, 0.5), "kernel_rank": 8, "targets": 2, "negatives": 8, "rounds": 2}


def raw(facts: PublicFacts) -> KernelRank:
    return KernelRank(KernelRankConfig.model_validate(SMALL), facts)


class TestWithoutPrivacy(AlgorithmContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return raw(facts)


def table(users: UserBatch, decay: float | None, skip: int = 0) -> np.ndarray:
    """A table of pairs by loops over each user's events."""
    found = np.zeros((ITEMS, ITEMS))
    for row in range(len(users)):
        events = users.slice(row, row + 1).items.tolist()
        events = list(dict.fromkeys(events[: len(events) - min(skip, len(events))]))
        for first, one in enumerate(events):
            for second, other in enumerate(events):
                steps = second - first
                if decay is None:
                    found[one, other] += len(events) ** -0.5
                elif steps > 0 and decay ** (steps - 1) >= 0.01:
                    found[one, other] += decay ** (steps - 1) * len(events) ** -0.5
    return found


@pytest.mark.parametrize("decay", [None, 0.9, 0.1])
@pytest.mark.parametrize("skip", [0, 3])
def test_the_blocks_of_a_table_are_those_of_loops(
    monkeypatch: pytest.MonkeyPatch, decay: float | None, skip: int
) -> None:
    monkeypatch.setattr("fedrec.kernels.pair_sums.MOST_ENTRIES", 7 * ITEMS)
    monkeypatch.setattr("fedrec.kernels.pair_sums._AT_ONCE", 11)
    users = batch_of(edge_rows())
    skipped = torch.full_like(users.lengths, skip)
    everything = torch.arange(ITEMS)
    parts = [PairSums(users, skipped, everything, ITEMS, block, decay) for block in blocks(ITEMS)]
    assert len(parts) > 2
    found = torch.cat([part.weighted_sum(torch.ones(len(users))) for part in parts])
    np.testing.assert_allclose(found.numpy(), table(users, decay, skip), atol=1e-5)
    nothing = PairSums(users.unordered(), skipped, everything, ITEMS, (0, ITEMS), decay).norms()
    assert bool((nothing == 0).all()) == (decay is not None), "without an order nothing follows anything"


def some_tables() -> dict[str, Pairs]:
    users = batch_of(planted_rows()[0])
    return {name: Pairs.of(torch.from_numpy(table(users, decay)).float(), 0) for name, decay in TABLES.items()}


def test_kernels_of_pairs_against_their_formulas() -> None:
    tables = some_tables()
    together, following = (tables[name].dense(ITEMS).double() for name in ("together", "following"))
    kernels = {name: pairs.dense(ITEMS).double() for name, pairs in pair_kernels(tables).items()}
    assert list(kernels) == list(NAMES)
    assert all(name.startswith(LEARNED) for name in (*NAMES, LOW_RANK)), "people taught them, not public features"
    diagonal = together.diagonal()
    events = (together.sum() - diagonal.sum()) / diagonal.sum()  # 50 users count more than the mean item of this log
    assert 50 * (1 + events) ** -0.5 > diagonal.mean()
    penalty = 50 * (1 + events) ** -0.5 * torch.eye(ITEMS)
    inverse = torch.linalg.inv(together + penalty)
    ease = -inverse / inverse.diagonal()
    ease.fill_diagonal_(0.0)
    torch.testing.assert_close(kernels["co-occurrence ridge"], ease, atol=1e-4, rtol=1e-3)
    near = torch.linalg.inv(0.9 * (following + following.T) + torch.diag(diagonal) + penalty)
    torch.testing.assert_close(kernels["co-occurrence following ridge"], near @ following, atol=1e-4, rtol=1e-3)
    apart = together - torch.diag(diagonal)
    expected = apart.sum(1)[:, None] * apart.sum(0) / apart.sum()
    lifted = kernels["co-occurrence lift"] > 0
    assert bool((apart > expected)[lifted].all()), "only pairs above what their items predict have a lift"
    cosine = apart / (apart.sum(1)[:, None] * apart.sum(0)).sqrt().clamp(min=1e-9)
    torch.testing.assert_close(kernels["co-occurrence cosine"], cosine, atol=1e-5, rtol=1e-3)


def test_the_strongest_entries_of_a_row_are_kept() -> None:
    draw = torch.randn(9, 9, generator=torch.Generator().manual_seed(0)) * (torch.arange(9) % 3 > 0)
    kept = strongest(Pairs.of(draw, 0), 2).dense(9)
    for row, before in zip(kept, draw, strict=True):
        assert set(row.nonzero()[:, 0].tolist()) == set(before.abs().topk(2).indices.tolist())
        assert torch.equal(row[row != 0], before[row != 0])


@pytest.mark.parametrize("ordered", [True, False])
def test_features_of_few_candidates_are_those_of_all_items(ordered: bool) -> None:
    users = batch_of(planted_rows()[0])
    users = users if ordered else users.unordered()
    contract = AlgorithmContract()
    algorithm = raw(contract.facts())
    assert algorithm.raw is not None
    shared = contract.each_round(algorithm, users)[-1][1]
    space = algorithm.raw.space(shared)
    candidates = users.negatives(6, stream=9)
    everything = space.features(space.fit(users))
    expected = everything.gather(1, candidates[:, :, None].expand(-1, -1, everything.shape[2]))
    torch.testing.assert_close(met(space, users, candidates), expected, atol=1e-4, rtol=1e-3)


def test_the_model_is_never_below_its_best_part() -> None:
    """Weights that order the list backwards are left for the one kernel that ranks the judges' targets best."""
    users, contract = batch_of(planted_rows()[0]), AlgorithmContract()
    algorithm = raw(contract.facts())
    assert algorithm.raw is not None
    rounds = contract.each_round(algorithm, users)
    judging = next(n for n, _ in enumerate(rounds) if algorithm.queries(n)[0].name == "judged")
    shared = rounds[judging][1] | {"best": -rounds[judging][1]["best"]}
    part = algorithm.contribute(shared, users, judging)["judged"].weighted_sum(torch.ones(len(users)))
    chosen = algorithm.raw._choose(shared, {"judged": PrivateSum(part, 0.0)}, 0)
    assert int(chosen["part"]) >= 0
    assert part[1:].max() > part[0]
    weights = algorithm.release(chosen).weights
    assert weights.nonzero()[:, 0].tolist() == [int(chosen["part"])]
    kept = algorithm.raw._choose(shared, {"judged": PrivateSum(part.index_fill(0, torch.tensor(0), math.inf), 0.0)}, 0)
    assert int(kept["part"]) == -1
    assert LOW_RANK in kept
