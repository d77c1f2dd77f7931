"""The objectives over all items: gradients against autograd, dropout by keys, the recurrence against its formula."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedrec import draws
from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.sequence import Sequence
from fedrec.algorithms.sequence_examples import Examples, NegativeDraws
from fedrec.algorithms.sequence_full import FullContribution, FullObjective
from fedrec.algorithms.sequence_gradients import Score, gradients
from fedrec.algorithms.sequence_settings import SequenceConfig
from fedrec.data.users import UserBatch
from fedrec.ondevice.sequences import ENCODERS
from fedrec.privacy.fixed_point import Lattice
from fedrec.rowwise import rowwise
from fedrec.sequences.base import encoder
from fedrec.sequences.gru import GRU, GRUConfig
from fedrec.sequences.items import ItemVectors
from fedrec.sequences.masked import Masked
from fedrec.sequences.tower import SequenceTower
from fedrec.sequences.transformer import Drop, Transformer
from fedrec.testing.toy_users import USERS, batch_of, planted_catalogue, planted_rows

ITEMS, DIM, LENGTH = 9, 4, 6
ROWS = [[0, 3, 8, 2], [5], [], [1, 4, 4, 7, 0, 2, 3, 6, 8], [6, 1]]


def users(rows: list[list[int]] = ROWS) -> UserBatch:
    lengths = torch.tensor([len(row) for row in rows])
    items = torch.tensor([item for row in rows for item in row], dtype=torch.int64)
    return UserBatch(items, lengths, ITEMS, draws.keys(3, torch.arange(len(rows))))


def tower(name: str, features: Tensor | None = None, **settings: float) -> SequenceTower:
    """A tower whose encoder has random parameters, so that every path through it is used."""
    kind = encoder(name)
    rows = torch.stack([torch.arange(ITEMS), torch.arange(ITEMS) // 2], 1)  # two codes an item
    vectors = ItemVectors(features, DIM, rows, torch.zeros(ITEMS, DIM))
    made = SequenceTower(vectors, kind(kind.Config(**settings), DIM, LENGTH, 2))
    generator = torch.Generator().manual_seed(4)
    for value in made.parameters():
        value.data += 0.3 * torch.randn(value.shape, generator=generator)
    return made


def contribution(
    made: SequenceTower, batch: UserBatch, hidden: float = 0.0, *, together: bool = False
) -> FullContribution:
    objective = FullObjective(1.5, torch.linspace(-1, 1, ITEMS), LENGTH, hidden)
    return FullContribution(made, made.items().detach(), batch, objective, 7, together=together)


@pytest.mark.parametrize("name", ["transformer", "gru", "attention"])
def test_a_gradient_is_that_of_the_cross_entropy_over_all_items(name: str) -> None:
    features = torch.randn(ITEMS, 5, generator=torch.Generator().manual_seed(5))
    made = tower(name, features, **({"dropout": 0.0} if name == "transformer" else {}))
    found = contribution(made, users())
    for row, history in enumerate(ROWS):
        events = torch.tensor(history[-LENGTH - 1 :], dtype=torch.int64)
        made.zero_grad()
        if len(events) > 1:
            vectors = made.items()
            predicted = made.encoder(vectors[events[:-1]][None], torch.ones(1, len(events) - 1, dtype=torch.bool))[0]
            scores = 1.5 * predicted @ vectors.mT + torch.linspace(-1, 1, ITEMS)
            (cross_entropy(scores, events[1:], reduction="sum") / LENGTH).backward()
        expected = torch.cat(
            [torch.zeros(value.numel()) if value.grad is None else value.grad.flatten() for value in made.parameters()]
        )
        assert torch.allclose(found.dense(row), expected, atol=1e-5), row


def test_hidden_events_are_predicted_from_the_others_and_never_from_themselves() -> None:
    made = tower("masked", dropout=0.0)
    assert isinstance(made.encoder, Masked)
    events, hide = torch.tensor(ROWS[3][-LENGTH - 1 :]), torch.tensor([False, True, False, False, True, False, False])
    vectors, keys, mask = made.items().detach(), torch.tensor([1]), torch.ones(1, 7, dtype=torch.bool)

    def reveal(given: Tensor) -> Tensor:
        assert isinstance(made.encoder, Masked)
        return made.encoder.revealed(given[None], mask, hide[None], keys)[0][hide]

    before = reveal(vectors[events])
    hidden, seen = vectors[events].clone(), vectors[events].clone()
    hidden[1] += torch.arange(DIM)
    seen[6] += torch.arange(DIM)
    assert torch.equal(reveal(hidden), before)
    assert (reveal(seen) != before).any(1).all()
    part = contribution(made, users(), hidden=0.5)
    assert part.dense(3).any()
    assert not part.dense(1).any()


def test_users_add_the_same_integers_in_any_batch() -> None:
    made, batch = tower("transformer"), users()
    size = contribution(made, batch).shape
    lattice, ones = Lattice.of(0.3, 5), torch.ones(5, dtype=torch.float64)
    whole, alone = (torch.zeros(size, dtype=torch.int64) for _ in range(2))
    with rowwise(torch.device("cpu")):
        contribution(made, batch).add_to(whole, ones, lattice)
        for row in range(len(batch)):
            contribution(made, batch.slice(row, row + 1)).add_to(alone, ones[:1], lattice)
    assert whole.any()
    assert torch.equal(whole, alone)


@pytest.mark.parametrize("name", ["transformer", "gru", "attention", "masked"])
def test_users_who_are_added_up_together_make_the_sum_of_their_gradients(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*ROWS, [2, 7, 1, 8, 0], [4, 3], [8, 6, 5, 3, 0, 7]]
    settings: dict[str, Any] = {"dropout": 0.3} if name in ("transformer", "masked") else {}
    made = tower(name, **settings)
    batch = replace(users(rows), tied=torch.arange(8) == 5)
    passes: list[int] = []
    gradient = FullContribution._gradient

    def counted(self: FullContribution, group: list[int]) -> Tensor:
        passes.append(len(group))
        return gradient(self, group)

    monkeypatch.setattr(FullContribution, "_gradient", counted)
    part = contribution(made, batch, 0.4 if name == "masked" else 0.0, together=True)
    lattice, weights = Lattice.of(0.3, 8), torch.tensor([1, 1, 1, 1, 0, 1, 1, 1], dtype=torch.float64)
    total = torch.zeros(part.shape, dtype=torch.int64)
    part.add_to(total, weights, lattice)
    assert len(passes) < 7
    expected = torch.stack([part.dense(row) for row in range(8) if weights[row]]).sum(0)
    assert torch.allclose(lattice.values(total).float(), expected, atol=1e-5)
    passes.clear()
    part.add_to(total, 0.5 * weights, lattice)
    assert max(passes) == 1, "users whose weights differ from 1 are clipped, each alone"


def test_the_newest_event_of_a_history_is_always_hidden() -> None:
    """A device asks for the event behind its newest one, so training does, too."""
    made, batch = tower("masked", dropout=0.0), users()
    part = contribution(made, batch, hidden=1e-9)  # no coin shows it
    for row in (0, 3, 4):
        events = torch.tensor(ROWS[row][-LENGTH - 1 :])
        _, _, targets, _ = part._predict(events[None], [row])
        assert targets.tolist() == [ROWS[row][-1]]


@pytest.mark.parametrize("mu", [math.inf, 2.0])
def test_only_users_of_a_run_without_privacy_are_added_up_together(mu: float) -> None:
    facts = PublicFacts(planted_catalogue(), USERS, float(USERS), mu)
    settings: dict[str, Any] = {"objective": "full", "dim": 4, "columns": 8}
    made = Sequence(SequenceConfig(**settings), facts)
    (part,) = made.contribute(made.initial(), batch_of(planted_rows()[0][:3]), made.rounds - 1).values()
    assert isinstance(part, FullContribution)
    assert part.together == (mu == math.inf)


def test_dropout_follows_the_key_and_keeps_the_mean() -> None:
    both = Drop(0.25, torch.tensor([5, 6]))(torch.ones(2, 400, 64))
    one = torch.ones(1, 300, 64)
    first, again, other = (Drop(0.25, torch.tensor([key]))(one) for key in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(both[:, :300], torch.cat([first, other])), "padding changes no draw"
    assert abs(float(first.mean()) - 1) < 0.02
    assert abs(float((first == 0).float().mean()) - 0.25) < 0.01
    drop = Drop(0.25, torch.tensor([5]))
    assert not torch.equal(drop(one), drop(one)), "each layer drops other numbers"
    assert torch.equal(Drop(0.25, None)(one), one)
    made = tower("transformer", dropout=0.5).encoder
    assert isinstance(made, Transformer)
    given = torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))
    trained = made.alone(given, torch.tensor([1]))
    assert not torch.allclose(trained, made(given[None], torch.ones(1, 5, dtype=torch.bool))[0])


def test_coins_have_their_chance_and_are_independent() -> None:
    keys = draws.keys(1, torch.arange(40))
    for chance in (0.1, 0.8):
        found = draws.coins(keys, 3, 1001, chance)
        assert found.shape == (40, 1001)
        assert abs(float(found.double().mean()) - chance) < 0.01
        neighbours = (found[:, 1:] & found[:, :-1]).double().mean()
        assert abs(float(neighbours) - chance**2) < 0.015
    assert draws.coins(keys, 3, 10, 1.0).all()
    assert torch.equal(draws.coins(keys, 3, 10, 0.5)[:, :7], draws.coins(keys, 3, 7, 0.5))


def test_the_recurrence_is_the_unit_of_the_encoder() -> None:
    unit = GRU(GRUConfig(update=0.2), DIM, LENGTH, 0).double()
    generator = torch.Generator().manual_seed(2)
    for value in unit.parameters():
        value.data = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    inputs = torch.randn(LENGTH, DIM, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(LENGTH, DIM, generator=generator, dtype=torch.float64)
    plain = unit(inputs[None], torch.ones(1, LENGTH, dtype=torch.bool))[0]
    written = unit.alone(inputs, torch.tensor([0]))
    assert torch.allclose(written, plain, atol=1e-12)
    leaves = [inputs, *unit.parameters()]
    for one, other in zip(
        torch.autograd.grad((plain * weights).sum(), leaves),
        torch.autograd.grad((written * weights).sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("name", ["transformer", "masked"])
def test_a_device_predicts_as_the_torch_form(name: str) -> None:
    built = tower(name, blocks=2).encoder.double()
    own = {place: value.detach().numpy() for place, value in built.named_parameters()}
    events = torch.randn(LENGTH, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for count in range(1, LENGTH + 1):
        expected = built(events[None, :count], torch.ones(1, count, dtype=torch.bool))[0, -1]
        found = ENCODERS[name](built.config.model_dump(), own, events[:count].numpy())
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["transformer", "masked"])
def test_private_training_can_use_the_encoder(name: str) -> None:
    """Under `torch.func`, and with windows that are padded beyond the longest history."""
    made, batch = tower(name), users()
    examples = Examples.draw(batch, LENGTH, 3, LENGTH, NegativeDraws(4, True, None, 1), 0)
    found = gradients(made, made.items().detach(), examples, Score(1.0, torch.zeros(ITEMS), "softmax"))
    assert found.isfinite().all()
    assert found[0].any()


@pytest.mark.parametrize("wrong", [{"objective": "masked"}, {"encoder": {"name": "masked"}, "objective": "full"}])
def test_the_masked_objective_needs_its_encoder(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="belong together"):
        SequenceConfig(**wrong)
