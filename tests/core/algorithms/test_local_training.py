"""FedNCF, FedRecon and PFedRec keep the contract; local training against one user at a time, by hand."""

import pytest
import torch

from fedrec.algorithms.fedncf import FedNCF, FedNCFConfig
from fedrec.algorithms.fedrecon import FedRecon, FedReconConfig
from fedrec.algorithms.local_examples import Examples
from fedrec.algorithms.pfedrec import PFedRec, PFedRecConfig
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows

SMALL = {"dim": 8, "rounds": 8, "events": 10, "learning_rate": 0.2, "private_steps": 5}


class TestPFedRec(AlgorithmContract):
    def make(self, facts):
        return PFedRec(PFedRecConfig(**SMALL), facts)

    def test_local_training_is_that_of_one_user_by_hand(self):
        """Plain gradient steps on a whole table, one user at a time: the same change, and none off the touched rows."""
        algo = self.make(self.facts())
        shared, users = algo.initial(), batch_of(edge_rows())
        change = algo.contribute(shared, users, 3)["change"]
        table = shared["parameters"].view(ITEMS, 8)
        for row in range(len(users)):
            examples = Examples.draw(users.slice(row, row + 1), 10, 4, 4)
            private, own = torch.zeros(9), table.clone()

            def loss(private, own, examples=examples):
                items, labels = one_by_one(examples)
                if not len(items):
                    return 0 * private.sum() + 0 * own.sum()
                logits = own[items] @ private[:8] + private[8]
                return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)

            for _ in range(5):
                private.requires_grad_()
                private = (private - 5 * torch.autograd.grad(loss(private, own), private)[0]).detach()
            for _ in range(2):
                own.requires_grad_()
                own = (own - torch.autograd.grad(loss(private, own), own)[0]).detach()
            assert torch.allclose(change.dense(row).view(ITEMS, 8), own - table, atol=1e-6), row

    def test_the_server_without_adam_averages(self):
        algo = PFedRec(PFedRecConfig(**SMALL | {"optimizer": "sgd", "learning_rate": 1.0}), self.facts())
        shared, users = algo.initial(), batch_of(edge_rows())
        change = algo.contribute(shared, users, 0)["change"]
        after = self.step(algo, shared, users, 0)
        mean = torch.stack([change.dense(row) for row in range(len(users))]).sum(0) / self.facts().expected_cohort
        assert torch.allclose(after["parameters"], shared["parameters"] + mean, atol=1e-6)


class TestPFedRecByItsOwnItems(AlgorithmContract):
    def make(self, facts):
        return PFedRec(PFedRecConfig(**SMALL, own_items=True), facts)


class TestFedRecon(AlgorithmContract):
    def make(self, facts):
        return FedRecon(FedReconConfig(**SMALL), facts)


class TestFedNCF(AlgorithmContract):
    def make(self, facts):
        return FedNCF(FedNCFConfig(**SMALL | {"private_learning_rate": 1.0}, hidden=4), facts)

    def test_scores_are_those_of_a_product_and_a_network(self):
        algo = self.make(self.facts())
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


def one_by_one(examples, row=0):
    """The items (n,) of a user's examples, repeats included, and their labels (n,)."""
    items, labels = [], []
    for item, events, count in zip(examples.items[row], examples.events[row], examples.examples[row], strict=True):
        items += [int(item)] * int(count)
        labels += [1.0] * int(events) + [0.0] * int(count - events)
    return torch.tensor(items, dtype=torch.int64), torch.tensor(labels)


def test_examples_are_distinct_events_and_negatives_from_outside_the_history():
    rows = [[3, 1, 4, 15, 9, 2, 6], [], [35], list(range(30)), [5, 5, 5]]
    users = batch_of(rows)
    examples = Examples.draw(users, 5, 4, 2)
    for row, history in enumerate(rows):
        there = examples.items[row] >= 0
        assert len(set(examples.items[row][there].tolist())) == int(there.sum()), "an item once a user"
        assert not examples.examples[row][~there].any()
        items, labels = one_by_one(examples, row)
        events = items[labels == 1].tolist()
        assert len(events) == min(5, len(history))
        assert all(events.count(item) <= history.count(item) for item in events)
        assert len(items) == 5 * len(events)
        assert not set(items[labels == 0].tolist()) & set(history)


def test_parts_deal_the_examples_out():
    users = batch_of([[3, 1, 4, 15, 9, 2, 6], [], [35], list(range(30))])
    whole = Examples.draw(users, 5, 4, 2)
    parts = Examples.parts(users, 5, 4, 2, 2)
    for row in range(len(users)):
        dealt = [sorted(zip(*map(torch.Tensor.tolist, one_by_one(part, row)), strict=True)) for part in parts]
        assert sorted(dealt[0] + dealt[1]) == sorted(
            zip(*map(torch.Tensor.tolist, one_by_one(whole, row)), strict=True)
        )
        events = [sum(label for _, label in part) for part in dealt]
        assert events[0] - events[1] in (0, 1)


def test_the_slope_is_that_of_the_mean_cross_entropy():
    users = batch_of([[3, 1, 4, 15], [35], [7, 7, 7]])
    examples = Examples.draw(users, 4, 3, 0)
    table = torch.linspace(-2, 2, ITEMS)
    slope = examples.error(examples.rows(table[:, None])[:, :, 0])
    for row in range(len(users)):
        items, labels = one_by_one(examples, row)
        scores = table.clone().requires_grad_()
        torch.nn.functional.binary_cross_entropy_with_logits(scores[items], labels).backward()
        there = examples.items[row] >= 0
        assert torch.allclose(slope[row][there], scores.grad[examples.items[row][there]], atol=1e-7)
        assert not slope[row][~there].any()


@pytest.mark.parametrize("round_index", [0, 1])
def test_all_events_get_their_turn(round_index):
    users = batch_of([list(range(20))])
    seen = set()
    for r in range(30):
        items, labels = one_by_one(Examples.draw(users, 5, 1, 100 * round_index + r))
        seen |= set(items[labels == 1].tolist())
    assert seen == set(range(20))


def test_users_are_computed_alike_in_any_portion(monkeypatch):
    """A user's contribution does not depend on the other users of the batch, nor on the size of a portion."""
    algo = TestPFedRec().make(TestPFedRec().facts())
    shared, users = algo.initial(), batch_of(edge_rows() * 3)
    whole = algo.contribute(shared, users, 0)["change"]
    monkeypatch.setattr("fedrec.algorithms.local_training._USERS_AT_ONCE", 4)
    portions = algo.contribute(shared, users, 0)["change"]
    for row in range(len(users)):
        assert torch.allclose(whole.dense(row), portions.dense(row), atol=1e-6)
    weights = torch.linspace(0, 1, len(users))
    assert torch.allclose(whole.weighted_sum(weights), portions.weighted_sum(weights), atol=1e-5)
    assert torch.allclose(whole.norms(), portions.norms())


def test_a_device_ranks_by_its_own_copy_where_it_is_told_to():
    """The items of its examples have the scores of tuned rows, all others those of the shared rows."""
    facts = TestPFedRec().facts()
    users = batch_of(edge_rows())
    plain = PFedRec(PFedRecConfig(**SMALL), facts)
    own = PFedRec(PFedRecConfig(**SMALL, own_items=True), facts)
    shared = plain.initial()
    state = own.release(shared).fit(users)
    scores, before = own.release(shared).score(state), plain.release(shared).score(plain.release(shared).fit(users))
    for row in range(len(users)):
        mine = state["own_items"][row][state["own_items"][row] >= 0]
        others = torch.ones(ITEMS, dtype=torch.bool).scatter(0, mine, False)
        assert torch.allclose(scores[row][others], before[row][others], atol=1e-6)
        history = sorted(set(edge_rows()[row]) & set(mine.tolist()))
        if len(set(edge_rows()[row])) < ITEMS:  # a user who has every item has them as negatives too
            assert (scores[row][history] > before[row][history]).all(), "events rise"
        assert torch.equal(scores[row][mine], state["own_scores"][row][state["own_items"][row] >= 0])
