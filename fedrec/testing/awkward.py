"""The part of an algorithm's contract that is about users of whom little is known, and about odd histories."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm
from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel
from fedrec.testing.everything import everything
from fedrec.testing.other_device import needs_other_device, other_device
from fedrec.testing.steps import Rounds, Steps
from fedrec.testing.toy_users import ITEMS, USERS, batch_of, close, edge_rows


class AwkwardContract(Steps):
    """Empty, single, whole and repeated histories, heavy noise, and another device."""

    # ---- users of whom nothing is known

    def skewed_rows(self) -> tuple[list[list[int]], Tensor]:
        """Histories of seven items whose popularity falls in an order that is not the catalogue's; how often each
        occurs, (ITEMS,)."""
        generator = np.random.default_rng(9)
        chance = 1.0 / (1 + generator.permutation(ITEMS))
        chance /= chance.sum()
        rows = [[int(i) for i in generator.choice(ITEMS, 7, replace=False, p=chance)] for _ in range(USERS)]
        return rows, torch.bincount(torch.tensor(rows).flatten(), minlength=ITEMS)

    @pytest.mark.parametrize("private", [False, True])
    def test_a_user_without_history_gets_what_is_popular(self, private: bool) -> None:
        rows, counts = self.skewed_rows()
        algo = self.make(self.facts(mu=50.0) if private else self.facts())
        model = algo.release(self.train(algo, batch_of(rows), 1e-3 if private else 0.0))
        listed, scores = model.recommend(batch_of([[], rows[0], []]), 8)
        assert torch.equal(listed[0], listed[2])
        assert torch.equal(scores[0], model.recommend(batch_of([[]]), 8)[1][0])
        if self.asks_users:
            assert counts[listed[0]].tolist() == counts.sort(descending=True).values[:8].tolist()
        again = type(model).restore(model.tensors(), json.loads(json.dumps(model.manifest())))
        assert torch.equal(again.recommend(batch_of([[]]), 8)[0][0], listed[0])
        candidates = torch.arange(ITEMS)[None].flip(1)
        state = model.fit(batch_of([[]]))
        assert torch.equal(model.score(state, candidates).flip(1), model.score(state))

    # ---- edge cases

    @pytest.mark.parametrize(
        "rows",
        [
            [[]],
            [[], []],
            [[0]],
            [list(range(ITEMS))],
            [list(range(ITEMS))] * 3,
            [[2] * 50],
            [[], [3], list(range(ITEMS))],
        ],
        ids=["empty", "all empty", "one item", "all items", "all items, all users", "one item 50 times", "mixed"],
    )
    def test_awkward_histories_give_finite_numbers(
        self, algo: Algorithm, model: ReleasedModel, sampled_rounds: Rounds, rows: list[list[int]]
    ) -> None:
        odd = batch_of(rows)
        for round_index, shared in sampled_rounds:
            for query, part in self.pairs(algo, shared, odd, round_index):
                assert part.norms().isfinite().all(), query.name
                assert part.weighted_sum(torch.ones(len(odd))).isfinite().all(), query.name
            assert all(tensor.isfinite().all() for tensor in self.step(algo, shared, odd, round_index).values())
        assert model.score(model.fit(odd)).isfinite().all()

    def test_a_run_on_awkward_users_alone_stays_finite(self, algo: Algorithm) -> None:
        awkward: tuple[list[list[int]], ...] = ([[]], [[0]], [list(range(ITEMS))] * 2)
        for rows in awkward:
            odd = batch_of(rows)
            model = algo.release(self.train(algo, odd))
            assert model.score(model.fit(odd)).isfinite().all()

    @pytest.mark.parametrize("noise", [1.0, 100.0, 1e4])
    def test_heavy_noise_leaves_everything_finite(self, users: UserBatch, noise: float) -> None:
        algo = self.make(self.facts(mu=1.0 / noise))
        shared = self.train(algo, users, noise)
        assert all(tensor.isfinite().all() for tensor in shared.values())
        odd = batch_of(edge_rows())
        model = algo.release(shared)
        assert model.score(model.fit(odd)).isfinite().all()

    # ---- devices

    @needs_other_device
    def test_another_device_gives_what_the_cpu_gives(self) -> None:
        with other_device() as device:
            self.compare_with_the_cpu(device)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_cuda_gives_what_the_cpu_gives(self) -> None:
        self.compare_with_the_cpu(torch.device("cuda"))

    def compare_with_the_cpu(self, device: torch.device) -> None:
        facts = self.facts(device=device)
        found = everything(lambda: self.make(facts), batch_of(edge_rows(), device=device))
        expected = everything(lambda: self.make(self.facts()), batch_of(edge_rows()))
        assert {name for name, tensor in found.items() if tensor.device.type != device.type} == set()
        for name, tensor in expected.items():
            if name.startswith(("norms", "scores")):  # eigenvectors may differ in sign
                assert close(found[name].cpu(), tensor, 1e-2), name
