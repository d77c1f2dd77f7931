"""FedNCF, FedRecon and PFedRec keep the contract; local training against one user at a time, by hand."""

import pytest
import torch

from fedrec.algorithms.fedncf import FedNCF, FedNCFConfig
from fedrec.algorithms.fedrecon import FedRecon, FedReconConfig
from fedrec.algorithms.local_training import Examples
from fedrec.algorithms.pfedrec import PFedRec, PFedRecConfig
from tests.core.algorithm_contract import AlgorithmContract
from tests.core.toy_users import ITEMS, batch_of, edge_rows

SMALL = {"dim": 8, "rounds": 8, "events": 10, "rate": 0.2, "private_steps": 5}


class TestPFedRec(AlgorithmContract):
    def make(self, setting):
        return PFedRec(PFedRecConfig(**SMALL), setting)

    def test_local_training_is_that_of_one_user_by_hand(self):
        """Plain gradient steps on a whole table, one user at a time: the same change, and none off the touched rows."""
        algo = self.make(self.setting())
        shared, users = algo.initial(), batch_of(edge_rows())
        change = algo.contribute(shared, users, 3)["change"]
        table = shared["parameters"].view(ITEMS, 8)
        for row in range(len(users)):
            examples = Examples.draw(users.slice(row, row + 1), 10, 4, 4)
            private, own = torch.zeros(9), table.clone()

            def loss(private, own, examples=examples):
                logits = own[examples.items[0]] @ private[:8] + private[8]  # (T, 1 + N)
                labels = torch.zeros_like(logits)
                labels[:, 0] = 1
                kept = examples.valid[0]
                if not kept.any():
                    return 0 * private.sum() + 0 * own.sum()
                return torch.nn.functional.binary_cross_entropy_with_logits(logits[kept], labels[kept])

            for _ in range(5):
                private.requires_grad_()
                private = (private - 5 * torch.autograd.grad(loss(private, own), private)[0]).detach()
            for _ in range(2):
                own.requires_grad_()
                own = (own - torch.autograd.grad(loss(private, own), own)[0]).detach()
            assert torch.allclose(change.dense(row).view(ITEMS, 8), own - table, atol=1e-6), row

    def test_the_server_without_adam_averages(self):
        algo = PFedRec(PFedRecConfig(**SMALL | {"optimiser": "sgd", "rate": 1.0}), self.setting())
        shared, users = algo.initial(), batch_of(edge_rows())
        change = algo.contribute(shared, users, 0)["change"]
        after = self.step(algo, shared, users, 0)
        mean = torch.stack([change.dense(row) for row in range(len(users))]).sum(0) / self.setting().expected_cohort
        assert torch.allclose(after["parameters"], shared["parameters"] + mean, atol=1e-6)


class TestFedRecon(AlgorithmContract):
    def make(self, setting):
        return FedRecon(FedReconConfig(**SMALL), setting)


class TestFedNCF(AlgorithmContract):
    def make(self, setting):
        return FedNCF(FedNCFConfig(**SMALL | {"private_rate": 1.0}, hidden=4), setting)

    def test_scores_are_those_of_a_product_and_a_network(self):
        algo = self.make(self.setting())
        model = algo.release(algo.initial())
        generator = torch.Generator().manual_seed(0)
        private, rows = torch.randn(3, 16, generator=generator), torch.randn(3, 5, 16, generator=generator)
        network = model.network.clone()
        network[-8:] = torch.randn(8, generator=generator)  # biases are zero at the start
        found = model.pair_scores(private, network.expand(3, -1), rows)
        product, by_user, by_item = network[:8], network[8:40].view(4, 8), network[40:72].view(4, 8)
        for user in range(3):
            for item in range(5):
                mine, its = private[user], rows[user, item]
                units = torch.relu(by_user @ mine[8:] + by_item @ its[8:] + network[72:76])
                expected = (product * mine[:8] * its[:8]).sum() + units @ network[76:]
                assert torch.isclose(found[user, item], expected, atol=1e-5)


def test_examples_are_distinct_events_and_negatives_from_outside_the_history():
    rows = [[3, 1, 4, 15, 9, 2, 6], [], [35], list(range(30))]
    users = batch_of(rows)
    examples = Examples.draw(users, 5, 4, 2)
    for row, history in enumerate(rows):
        drawn = examples.items[row][examples.valid[row]]
        assert len(drawn) == min(5, len(history))
        assert len(set(drawn[:, 0].tolist())) == len(drawn)
        assert set(drawn[:, 0].tolist()) <= set(history)
        assert not set(drawn[:, 1:].flatten().tolist()) & set(history)


@pytest.mark.parametrize("round", [0, 1])
def test_all_events_get_their_turn(round):
    users = batch_of([list(range(20))])
    seen = {int(i) for r in range(30) for i in Examples.draw(users, 5, 1, 100 * round + r).items[0, :, 0]}
    assert seen == set(range(20))
