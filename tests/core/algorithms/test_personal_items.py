"""GPFedRec, CoFedRec, FedVLR and FedRAP keep the contract; groups, views and own vectors against one user by hand."""

import pytest
import torch

from fedrec.algorithms.cofedrec import CoFedRec, CoFedRecConfig, categories, contrast_slope
from fedrec.algorithms.fedrap import FedRAP, FedRAPConfig
from fedrec.algorithms.fedvlr import FedVLR, FedVLRConfig
from fedrec.algorithms.gpfedrec import GPFedRec, GPFedRecConfig
from fedrec.algorithms.local_examples import Examples
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows

SMALL = {"dim": 4, "rounds": 6, "events": 10, "learning_rate": 0.2, "private_steps": 4}


@pytest.mark.slow  # the three classes: 20 seconds
class TestGPFedRec(AlgorithmContract):
    def make(self, facts):
        return GPFedRec(GPFedRecConfig(**SMALL, groups=2), facts)

    def test_a_group_learns_from_each_user_as_far_as_the_user_belongs_to_it(self):
        algo = self.make(self.facts())
        shared, users = algo.initial(), batch_of(edge_rows())
        change = algo.contribute(shared, users, 3)["change"]
        model = algo._model(shared, shared["popularity"])
        for row in range(len(users)):
            examples = Examples.draw(users.slice(row, row + 1), 10, 4, 4)
            (weights,) = model.belonging(examples.rows(model.table), examples)
            parts = change.dense(row).view(ITEMS, 3, 4)
            assert torch.allclose(parts[:, 1:], parts[:, :1] * weights[1:, None], atol=1e-6), row
            assert weights[1:].sum() in (0, 1) or torch.isclose(weights[1:].sum(), torch.tensor(1.0))


@pytest.mark.slow
class TestCoFedRec(AlgorithmContract):
    def make(self, facts):
        return CoFedRec(CoFedRecConfig(**SMALL, groups=2), facts)

    def test_users_of_one_category_leave_the_other_alone(self):
        algo = self.make(self.facts())
        shared, users = algo.initial(), batch_of(edge_rows())
        table = shared["parameters"].view(ITEMS, 12)
        table[:, :4] = 0.0
        table[: ITEMS // 2, 0], table[ITEMS // 2 :, 0] = 1.0, -1.0
        users = batch_of([[1, 2, 3], [ITEMS - 1, ITEMS - 2], []])
        model = algo._model(shared, shared["popularity"])
        examples = Examples.draw(users, 10, 4, 1)
        weights = model.belonging(examples.rows(model.table), examples)
        assert sorted(weights[:2, 1:].tolist()) == [[0.0, 1.0], [1.0, 0.0]]
        assert weights[2].tolist() == [1.0, 0.0, 0.0], "no history, no group"


@pytest.mark.slow
class TestFedVLR(AlgorithmContract):
    def make(self, facts):
        return FedVLR(FedVLRConfig(**SMALL), facts)

    def test_a_router_and_a_layer_are_those_of_one_user_by_hand(self):
        algo = self.make(self.facts())
        shared, users = algo.initial(), batch_of(edge_rows())
        model = algo._model(shared, shared["popularity"])
        views = model.table.shape[1] // 4 - 1
        assert views >= 1
        for row in range(len(users)):
            examples = Examples.draw(users.slice(row, row + 1), 10, 4, 4)
            blocks = examples.rows(model.table).unflatten(2, (-1, 4))
            private = torch.zeros(1, 5 + views)
            for _ in range(4):
                private.requires_grad_()
                gate = torch.softmax(private[:, 5:], 1)
                own = blocks[:, :, 0] + (gate[:, None, :, None] * blocks[:, :, 1:]).sum(2)
                logits = (own * private[:, None, :4]).sum(2) + private[:, 4:5]
                losses = examples.examples * torch.nn.functional.softplus(logits) - examples.events * logits
                loss = losses.sum() / examples.examples.sum().clamp(min=1)
                (slope,) = torch.autograd.grad(loss, private)
                private = (private - 5 * slope).detach()
            gate = torch.softmax(private[:, 5:], 1)
            expected = torch.cat([private[:, :4], (gate[:, :, None] * private[:, None, :4]).flatten(1)], 1)
            assert torch.allclose(model.rebuild(examples)[:, :-1], expected, atol=1e-5), row

    def test_views_are_public_and_never_sent(self):
        algo = self.make(self.facts())
        (query,) = [query for query in algo.queries(algo.rounds - 1) if query.name == "change"]
        assert query.shape == (ITEMS * 4,)


@pytest.mark.slow
class TestFedRAP(AlgorithmContract):
    def make(self, facts):
        return FedRAP(FedRAPConfig(**SMALL), facts)

    def test_own_vectors_are_those_of_one_user_by_hand(self):
        """Joint gradient steps on a layer and own vectors, by autograd on the whole loss."""
        algo = FedRAP(FedRAPConfig(**SMALL | {"local_steps": 1}, apart=0.05), self.facts())
        shared, users = algo.initial(), batch_of(edge_rows())
        model = algo._model(shared, shared["popularity"])
        for row in range(len(users)):
            examples = Examples.draw(users.slice(row, row + 1), 10, 4, 4)
            common, some = examples.rows(model.table), (examples.examples > 0)[:, :, None].float()
            layer, own = torch.zeros(1, 5), torch.zeros_like(common)
            for _ in range(4):
                layer.requires_grad_()
                own.requires_grad_()
                logits = ((common + own) * layer[:, None, :-1]).sum(2) + layer[:, -1:]
                losses = examples.examples * torch.nn.functional.softplus(logits) - examples.events * logits
                loss = losses.sum() / examples.examples.sum().clamp(min=1)
                loss = loss - 0.05 * (some * (own - common) ** 2).sum() / 4
                slopes = torch.autograd.grad(loss, (layer, own))
                layer, own = (layer - 5 * slopes[0]).detach(), (own - slopes[1]).detach()
            assert torch.allclose(model.rebuild(examples), layer, atol=1e-5), row
            logits = ((common + own) * layer[:, None, :-1]).sum(2) + layer[:, -1:]
            assert torch.allclose(model.own_scores(layer, examples), logits, atol=1e-5), row

    def test_common_vectors_become_sparse(self):
        algo = FedRAP(FedRAPConfig(**SMALL, sparse=10.0), self.facts())
        dense = FedRAP(FedRAPConfig(**SMALL, sparse=0.0), self.facts())
        zeros = []
        for one in (algo, dense):
            after = self.step(one, one.initial(), batch_of(edge_rows()), 0)
            zeros.append(float((after["parameters"] == 0).float().mean()))
        assert zeros[0] > 0.2
        assert zeros[1] == 0


def test_categories_are_those_of_separate_clouds():
    generator = torch.Generator().manual_seed(0)
    clouds = torch.eye(3).repeat_interleave(20, 0) + 0.05 * torch.randn(60, 3, generator=generator)
    found = [categories(clouds, 3, seed)[0].view(3, 20) for seed in range(5)]
    assert any(all(len(set(row.tolist())) == 1 for row in labels) for labels in found)
    labels, centres = categories(clouds[:2], 3, 0)
    assert len(labels) == 2
    assert centres.isfinite().all(), "fewer items than categories"


def test_the_contrastive_step_brings_a_category_together():
    items = torch.tensor([[1.0, 0.2], [0.9, -0.3], [-0.2, 1.0], [0.3, 0.8]])
    labels = torch.tensor([0, 0, 1, 1])
    moved = items - 0.1 * contrast_slope(items, labels)

    def likeness(rows):
        unit = rows / rows.norm(dim=1, keepdim=True)
        return unit @ unit.mT

    before, after = likeness(items), likeness(moved)
    assert after[0, 1] > before[0, 1]
    assert after[0, 2] < before[0, 2]
