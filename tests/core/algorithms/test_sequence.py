"""The contract, for encoders and both kinds of items; gradients against autograd; a planted order."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.held_rows import affordable
from fedrec.algorithms.sequence import Sequence
from fedrec.algorithms.sequence_examples import Examples, NegativeDraws
from fedrec.algorithms.sequence_settings import SequenceConfig
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import GROUPS, ITEMS, USERS, batch_of, close, planted_catalogue


class SequenceContract(AlgorithmContract):
    settings: dict[str, Any] = {}

    def make(self, facts: PublicFacts) -> Algorithm:
        config = {
            "dim": 4,
            "columns": 6,
            "rounds": 4,
            "targets": 3,
            "negatives": 12,
            "length": 9,
            "learning_rate": 0.02,
        }
        return Sequence(SequenceConfig(**config | self.settings), facts)


class TestStateSpace(SequenceContract):
    settings = {"dim": 3, "rounds": 3}


@pytest.mark.slow
class TestAttention(SequenceContract):
    settings = {"encoder": {"name": "attention"}, "negatives_from": "mixed", "correction": True, "rounds": 3}


@pytest.mark.slow
class TestFullSoftmax(SequenceContract):
    settings = {"objective": "full", "encoder": {"name": "gru"}, "scale": 1.0, "rounds": 1, "learning_rate": 0.1}

    def facts(self, **changes: Any) -> PublicFacts:
        """Under privacy: without it users are computed together, and nobody's bits are his own."""
        return super().facts(**{"mu": 1e6} | changes)


@pytest.mark.slow
class TestGRU(SequenceContract):
    settings = {"encoder": {"name": "gru"}, "shared_negatives": False, "rounds": 2, "learning_rate": 0.05}


@pytest.mark.slow
class TestConvolutionOfCodes(SequenceContract):
    settings = {"encoder": {"name": "convolution", "width": 4}, "items": "codes", "codes": 4, "levels": 2, "rounds": 3}

    @pytest.mark.parametrize("noise", [1e4])
    def test_heavy_noise_leaves_everything_finite(self, users: UserBatch, noise: float) -> None:
        """Rows of items' own are refused where noise would drown them."""
        with pytest.raises(InputError, match=r"^sequence: items = 'codes' makes [\d,]+ parameters.*items = 'features'"):
            self.make(self.facts(mu=1.0 / noise))


@pytest.mark.parametrize("name", ["state-space", "attention", "gru", "convolution"])
def test_a_users_gradient_is_that_of_the_loss_written_out(name: str) -> None:
    """Slow oracle: one user, one target at a time, autograd through the whole tower."""
    settings: dict[str, Any] = {"items": "both", "dim": 4, "columns": 6, "targets": 3, "negatives": 7, "length": 9}
    config = SequenceConfig(encoder={"name": name}, scale=2.0, **settings)
    algo = Sequence(config, PublicFacts(planted_catalogue(), USERS, float(USERS), seed=3))
    shared = algo.initial() | {"level": torch.linspace(-1, 1, ITEMS)}
    users = batch_of([[3, 8, 1, 30, 3, 9], list(range(20)), [5], [], [7, 2]])
    found = algo.contribute(shared, users, 1)["tower"]
    drawn = NegativeDraws(7, True, None, 3)
    examples = Examples.draw(users, 9, 3, config.newest, drawn, 1)
    tower = algo._tower(shared).requires_grad_(True)
    for row in range(len(users)):
        tower.zero_grad()
        vectors = tower.items()
        losses: list[torch.Tensor] = []
        for place, target in zip(examples.at[row], examples.targets[row], strict=True):
            if not examples.valid[row, len(losses)]:
                break
            history = examples.inputs[row, : int(place) + 1]
            predicted = tower.encoder(vectors[history][None], torch.ones(1, len(history), dtype=torch.bool))[0, -1]
            own = set(users.slice(row, row + 1).items.tolist())
            others = [item for item in examples.negatives[row].tolist() if item not in own]
            scores = 2.0 * vectors[[int(target), *others]] @ predicted + shared["level"][[int(target), *others]]
            losses.append(scores.logsumexp(0) - scores[0])
        expected = torch.zeros(tower.size)
        if losses:
            torch.stack(losses).mean().backward()
            expected = torch.cat([value.grad.flatten() for value in tower.parameters() if value.grad is not None])
        assert close(found.dense(row), expected, 1e-4), row


def test_a_target_is_never_among_the_events_that_predict_it() -> None:
    users = batch_of([list(range(30)), [4, 9]])
    examples = Examples.draw(users, 12, 5, 6, NegativeDraws(20, False, None, 0), 2)
    assert examples.valid.sum(1).tolist() == [5, 1]
    for row in range(2):
        for place, target in zip(examples.at[row][examples.valid[row]], examples.targets[row], strict=False):
            assert examples.inputs[row, place] == target - 1 if row == 0 else examples.inputs[row, place] == 4
    assert examples.targets[0].min() >= 24  # among the newest six
    drawn = set(examples.negatives[0][examples.outside[0]].tolist())
    assert drawn <= set(range(30, ITEMS))
    assert drawn == set(range(30, ITEMS)) or len(drawn) > 3


def test_the_item_that_an_evaluation_holds_out_is_a_negative_like_any_other() -> None:
    held_out, rows = 39, [[item] * 1 + [0] for item in range(20)]
    counts = torch.zeros(ITEMS)
    for round_index in range(30):
        examples = Examples.draw(batch_of(rows), 4, 2, 9, NegativeDraws(32, True, None, 0), round_index)
        counts += torch.bincount(examples.negatives[examples.outside], minlength=ITEMS)
    assert counts[held_out] > 0.5 * counts[20:39].mean()


def planted_order(users: int, seed: int) -> tuple[list[list[int]], list[int]]:
    """After item i comes an item of the next taste: (i + 1) mod GROUPS. Nothing recurs, and no mean predicts."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        tastes = (user + np.arange(7)) % GROUPS
        rows.append([int(taste + GROUPS * generator.integers(ITEMS // GROUPS)) for taste in tastes])
    return [row[:-1] for row in rows], [row[-1] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["state-space", "attention", "gru"])
def test_a_planted_order_is_learned(name: str) -> None:
    settings: dict[str, Any] = {"dim": 8, "columns": 8, "rounds": 8, "length": 6, "newest": 4, "targets": 4}
    settings |= {"negatives": 30, "learning_rate": 0.2, "whitening": 1.0}
    if name == "gru":  # gates saturate at longer steps
        settings |= {"rounds": 24, "learning_rate": 0.1}
    config = SequenceConfig(encoder={"name": name}, **settings)
    algo = Sequence(config, PublicFacts(planted_catalogue(), USERS, float(USERS)))
    rows, held_out = planted_order(USERS, 0)
    model = algo.release(AlgorithmContract().train(algo, batch_of(rows)))
    listed = model.recommend(batch_of(rows), 10, seen=True)[0]
    right = listed % GROUPS == (torch.tensor(held_out) % GROUPS)[:, None]
    assert right.double().mean() > 0.8  # by chance a quarter
    untrained = algo.release(algo.initial()).recommend(batch_of(rows), 10, seen=True)[0]
    assert (untrained % GROUPS == (torch.tensor(held_out) % GROUPS)[:, None]).double().mean() < 0.5


def test_vectors_of_own_rows_are_as_long_as_the_plan_can_pay_for() -> None:
    sizes = []
    for mu in (math.inf, 400.0, 60.0, 30.0):
        facts = PublicFacts(planted_catalogue(), USERS, float(USERS), mu=mu)
        algo = Sequence(SequenceConfig.model_validate({"columns": 6, "items": "both"}), facts)
        tower = sum(tensor.numel() for name, tensor in algo.initial().items() if name.startswith("tower."))
        assert algo.chosen["parameters"] == tower
        assert tower <= affordable(facts, 0.9, algo.steps.rounds)
        sizes.append((algo.dim, algo.rounds))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0][0] == 32
    assert sizes[-1][0] < 32


def test_vectors_of_public_features_keep_their_length_at_any_budget() -> None:
    for mu in (math.inf, 0.01):
        facts = PublicFacts(planted_catalogue(), USERS, float(USERS), mu=mu)
        assert Sequence(SequenceConfig.model_validate({"columns": 6}), facts).dim == 32


def test_the_rule_of_the_plan_is_the_one_that_was_measured() -> None:
    """MovieLens-1M at epsilon 8 and 1, 50 rounds: about 13,000 and 330 parameters."""
    facts = PublicFacts(planted_catalogue(), 6040, 6040.0, mu=1.666)
    assert affordable(facts, 1.0, 50) == pytest.approx(13_000, rel=0.05)
    assert affordable(replace(facts, mu=0.2681), 1.0, 50) == pytest.approx(330, rel=0.05)
    assert affordable(replace(facts, mu=math.inf), 1.0, 50) == math.inf
