"""Towers, losses and per-user gradients against a slow oracle: one user at a time, plain autograd, explicit clip."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import Contribution
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows, planted_catalogue
from fedrec.towers.base import ItemTower, tower, towers
from fedrec.towers.content import ContentTower
from fedrec.towers.examples import Targets, hold_out
from fedrec.towers.local import LocalContribution
from fedrec.towers.losses import LOSSES
from fedrec.towers.objective import Objective

DIM, USERS, TARGETS, NEGATIVES, SCALE, RATE = 5, 7, 3, 4, 1.7, 0.2
TOWERS: dict[str, dict[str, Any]] = {
    "id": {"init_std": 1.0},
    "content": {"features": 8, "hidden": 6},
    "hybrid": {"features": 8, "hidden": 6, "id_scale": 0.6, "init_std": 1.0},
    "fusion": {"features": 4},
    "mlp": {"features": 8, "layers": [6, 5]},
    "text-convolution": {"words": 6, "buckets": 16, "width": 4, "filters": 6},
}
STEPS = [1, 3]


def a_tower(name: str, **changes: Any) -> ItemTower:
    kind = tower(name)
    built = kind(kind.Config.model_validate({"dim": DIM} | TOWERS[name] | changes), planted_catalogue(), 3).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # away from the start, where a hidden layer adds nothing
        for parameter in built.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return built


def an_objective(loss: str, *, ratings: bool = False, repeat: bool = True) -> Objective:
    """Seven users; some items stand several times among a user's targets and negatives, some targets are missing."""
    generator = torch.Generator().manual_seed(2)
    items = torch.randint(0, 9 if repeat else ITEMS, (USERS, TARGETS, 1 + NEGATIVES), generator=generator)
    items[3] = 5  # one item everywhere
    valid = torch.ones(USERS, TARGETS, dtype=torch.bool)
    valid[1], valid[2, 1:] = False, False
    labels = torch.rand(USERS, TARGETS, generator=generator) * 4 + 1 if ratings else None
    vectors = torch.randn(USERS, DIM, generator=generator)
    return Objective(vectors, Targets(items, labels, valid), torch.randn(ITEMS, generator=generator), SCALE, loss)


def contribution(tower: ItemTower, objective: Objective, steps: int) -> Contribution:
    return LocalContribution(tower, objective, steps, RATE)


def oracle_loss(tower: ItemTower, objective: Objective, user: int) -> Tensor:
    """One user's loss, one target and one score at a time, from the definitions."""
    total, count, targets = torch.zeros((), dtype=torch.float64), 0, objective.targets
    for slot in range(TARGETS):
        if not targets.valid[user, slot]:
            continue
        items = targets.items[user, slot]
        s = [
            SCALE * tower(item[None])[0] @ objective.vectors[user].double() + objective.bias[item].double()
            for item in items
        ]
        if targets.labels is not None:
            loss = (targets.labels[user, slot].double() - s[0]) ** 2
        elif objective.loss == "softmax":
            loss = -torch.log(s[0].exp() / sum(x.exp() for x in s))
        elif objective.loss == "bpr":
            loss = sum(-torch.log(torch.sigmoid(s[0] - x)) for x in s[1:]) / NEGATIVES
        elif objective.loss == "bce":
            loss = (-torch.log(torch.sigmoid(s[0])) - sum(torch.log(1 - torch.sigmoid(x)) for x in s[1:])) / len(s)
        else:
            loss = ((1 - s[0]) ** 2 + sum(x**2 for x in s[1:])) / len(s)
        total, count = total + loss, count + 1
    return total / max(count, 1)


def oracle(tower: ItemTower, objective: Objective, steps: int) -> Tensor:
    """Each user's contribution (B, P) in float64: the sum of the gradients on that user's way, alone."""
    names, rows = [name for name, _ in tower.named_parameters()], []
    start = {name: parameter.detach().clone() for name, parameter in tower.named_parameters()}
    for user in range(len(objective)):
        summed = torch.zeros(sum(parameter.numel() for parameter in start.values()), dtype=torch.float64)
        for _ in range(steps):
            loss = oracle_loss(tower, objective, user)
            parameters = list(tower.parameters())
            slopes = (
                torch.autograd.grad(loss, parameters, allow_unused=True)
                if loss.requires_grad
                else [None] * len(parameters)
            )
            whole = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, slopes, strict=True)]
            summed += torch.cat([g.flatten() for g in whole])
            with torch.no_grad():
                for parameter, slope in zip(parameters, whole, strict=True):
                    parameter -= RATE * slope
        rows.append(summed)
        with torch.no_grad():
            for name, parameter in zip(names, tower.parameters(), strict=True):
                parameter.copy_(start[name])
    return torch.stack(rows)


CASES = [(loss, False) for loss in LOSSES] + [("squared", True)]
FEW = ("fusion", "mlp", "text-convolution")
CASED = [(name, *case) for name in TOWERS for case in CASES if name not in FEW or case == ("softmax", False)]
"""Losses do not depend on the tower: a further tower adds one."""


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("name", "loss", "ratings"), CASED, ids=[f"{name}-{loss}" + " ratings" * r for name, loss, r in CASED]
)
def test_clipped_contributions_equal_those_of_one_user_at_a_time(
    name: str, loss: str, ratings: bool, steps: int
) -> None:
    tower, objective = a_tower(name), an_objective(loss, ratings=ratings)
    expected = oracle(tower, objective, steps)
    part = contribution(tower, objective, steps)
    norms = expected.norm(dim=1)
    assert float(norms.max()) > 0.1
    assert (norms[1], part.norms()[1]) == (0, 0), "a user without targets"
    assert torch.allclose(part.norms(), norms, rtol=1e-6, atol=1e-9)
    for row in range(USERS):
        assert torch.allclose(part.dense(row).double(), expected[row], rtol=1e-6, atol=1e-7)
    clip = float(norms.median())
    clipped = (expected * (clip / norms.clamp(min=1e-30)).clamp(max=1.0)[:, None]).sum(0)
    total = part.weighted_sum(clip_weights(part, clip)).double()
    assert (total - clipped).norm() <= 2e-6 * clipped.norm()


@pytest.mark.parametrize("name", TOWERS)
def test_one_local_step_is_the_gradient_whatever_its_size(name: str) -> None:
    tower, objective = a_tower(name), an_objective("softmax")
    one, other = (LocalContribution(tower, objective, 1, rate) for rate in (RATE, 1e-6))
    weights = torch.linspace(0, 1.5, USERS)
    assert torch.equal(one.norms(), other.norms())
    assert torch.equal(one.weighted_sum(weights), other.weighted_sum(weights))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", TOWERS)
def test_the_number_of_users_at_a_time_changes_nothing(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tower, objective, weights = a_tower(name), an_objective("bce"), torch.linspace(0.5, 1.5, USERS)
    whole = contribution(tower, objective, steps)
    norms, total = whole.norms(), whole.weighted_sum(weights)
    monkeypatch.setattr("fedrec.towers.objective.NUMBERS_AT_ONCE", 2 * TARGETS * (1 + NEGATIVES) * DIM)
    parts = contribution(tower, objective, steps)
    assert torch.allclose(parts.norms(), norms, rtol=1e-10)
    assert torch.allclose(parts.weighted_sum(weights), total, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", TOWERS)
def test_users_never_mix(name: str, steps: int) -> None:
    """The others' contributions are the same bits whatever one user's items and vector are."""
    tower, objective = a_tower(name), an_objective("softmax")
    items, vectors = objective.targets.items.clone(), objective.vectors.clone()
    items[4], vectors[4] = 8, 1e3
    other = replace(objective, vectors=vectors, targets=replace(objective.targets, items=items))
    before, after = contribution(tower, objective, steps), contribution(tower, other, steps)
    same = torch.arange(USERS) != 4
    assert torch.allclose(before.norms()[same], after.norms()[same], rtol=1e-12)
    assert not torch.allclose(before.norms()[4], after.norms()[4])
    assert torch.allclose(before.weighted_sum(same.double()), after.weighted_sum(same.double()), rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", TOWERS)
def test_a_broken_user_is_left_out_or_clipped_and_spoils_nobody(name: str, steps: int, value: float) -> None:
    tower, objective = a_tower(name), an_objective("bpr", repeat=False)
    objective.vectors[4, 0] = value
    part = contribution(tower, objective, steps)
    weights = clip_weights(part, 0.5)
    total = part.weighted_sum(weights)
    assert total.isfinite().all()
    without = weights.clone()
    without[4] = 0
    assert (total.double() - part.weighted_sum(without).double()).norm() <= 0.5 * (1 + 1e-6)
    if not math.isfinite(value):
        assert weights[4] == 0


def test_towers_are_found_by_name() -> None:
    assert set(towers()) == set(TOWERS)
    with pytest.raises(InputError, match="hybrid"):
        tower("hybird")


class Normalised(ContentTower):
    """A tower with a layer for which closed forms of a norm come out too small where a user has several items."""

    name = "normalised"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.last = nn.LayerNorm(DIM).double()

    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        return self.last(super().encode(items, rows))


@pytest.mark.parametrize("steps", STEPS)
def test_the_norm_is_that_of_what_is_added_for_any_layer(steps: int) -> None:
    built = Normalised(ContentTower.Config.model_validate({"dim": DIM, "features": 8}), planted_catalogue(), 3).double()
    objective = an_objective("softmax")
    part = contribution(built, objective, steps)
    assert torch.allclose(part.norms(), oracle(built, objective, steps).norm(dim=1), atol=1e-9)


@pytest.mark.parametrize("name", TOWERS)
def test_vectors_are_capped_and_the_same_one_by_one(name: str) -> None:
    built = a_tower(name, max_norm=0.8)
    together = built(torch.arange(ITEMS))
    assert together.shape == (ITEMS, DIM)
    assert float(together.norm(dim=1).max().detach()) <= 0.8 * (1 + 1e-9)
    alone = torch.stack([built(torch.tensor(item)) for item in range(ITEMS)])
    assert torch.allclose(together, alone, rtol=1e-9)


def test_content_needs_public_data_and_knows_alike_items_untrained() -> None:
    kind = tower("content")
    with pytest.raises(InputError, match="public item data"):
        kind(kind.Config.model_validate({"dim": 4}), Catalogue(ids=("a", "b")), 0)
    vectors = kind(kind.Config.model_validate({"dim": 8, "features": 8}), planted_catalogue(), 0)(
        torch.arange(ITEMS)
    ).detach()
    alike = vectors @ vectors.T
    taste = torch.arange(ITEMS) % 4
    same = taste[:, None] == taste
    assert float(alike[same].mean()) > float(alike[~same].mean()) + 0.2


@pytest.mark.parametrize("rule", ["random", "next"])
def test_targets_are_of_the_history_and_left_out_of_it(rule: Any) -> None:
    rows = edge_rows()
    users = batch_of(rows)
    for round_index in range(5):
        history, targets = hold_out(users, 3, 4, rule, round_index)
        for row, events in enumerate(rows):
            mine = targets.items[row, targets.valid[row], 0].tolist()
            kept = history.slice(row, row + 1).items.tolist()
            assert 1 <= len(mine) <= 3 if len(events) > 1 else not mine
            assert len(kept) >= len(events) / 2
            if rule == "random":
                assert sorted(kept + mine) == sorted(events)
            else:
                assert events[: len(kept) + len(mine)] == kept + mine
            if len(set(events)) < ITEMS:
                assert not set(targets.items[row, :, 1:].flatten().tolist()) & set(events)


def test_targets_change_with_the_round_and_are_the_users_own() -> None:
    users = batch_of([list(range(20))] * 30)
    first, second = (hold_out(users, 2, 2, "random", round_index)[1].items for round_index in (0, 1))
    assert not torch.equal(first, second)
    assert len({tuple(row.tolist()) for row in first[:, :, 0]}) > 20
    seen = torch.cat(
        [hold_out(users, 2, 2, "random", round_index)[1].items[:, :, 0].flatten() for round_index in range(30)]
    )
    counts = torch.bincount(seen, minlength=20).double()
    assert float((counts - counts.mean()).abs().max()) < 5 * math.sqrt(float(counts.mean())), "targets are uniform"
    alone = hold_out(users.slice(3, 4), 2, 2, "random", 0)[1].items
    assert torch.equal(alone[0], first[3])
