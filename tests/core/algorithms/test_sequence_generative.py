"""Generation of semantic ids: the contract, the gradient written out, probabilities, and beams."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.generative_model import GenerativeModel
from fedrec.algorithms.sequence import Sequence
from fedrec.algorithms.sequence_examples import Examples, NegativeDraws
from fedrec.algorithms.sequence_settings import SequenceConfig
from fedrec.data.new_items import NewItems
from fedrec.ondevice.generative import GenerativeForm
from fedrec.ondevice.history import History
from fedrec.recommend.device_form import device_form
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, USERS, batch_of, close, edge_rows, planted_catalogue, planted_rows

SETTINGS: dict[str, Any] = {"objective": "generative", "dim": 4, "columns": 6, "codes": 4, "levels": 2, "length": 9}


def algorithm_of(facts: PublicFacts, **settings: Any) -> Sequence:
    return Sequence(SequenceConfig(**SETTINGS | {"targets": 3, "rounds": 3, "learning_rate": 0.05} | settings), facts)


def facts_of(mu: float = math.inf) -> PublicFacts:
    return PublicFacts(planted_catalogue(), USERS, float(USERS), mu=mu, seed=3)


@pytest.mark.slow
class TestGenerative(AlgorithmContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return algorithm_of(facts, rounds=2)


@pytest.fixture(scope="module")
def model() -> GenerativeModel:
    """A trained model whose decoder is moved at random, so that every path through it counts."""
    algo = algorithm_of(facts_of(), rounds=2)
    found = algo.release(AlgorithmContract().train(algo, batch_of(planted_rows()[0])))
    assert isinstance(found, GenerativeModel)
    generator = torch.Generator().manual_seed(1)
    for value in found.decoder.values():
        value += 0.5 * torch.randn(value.shape, generator=generator)
    return found


@pytest.fixture(scope="module")
def form(model: GenerativeModel) -> GenerativeForm:
    found = device_form(model)
    assert isinstance(found, GenerativeForm)
    return found


def test_a_users_gradient_is_that_of_the_loss_written_out() -> None:
    """Slow oracle: one target at a time, one level at a time, autograd through the whole tower."""
    algo = algorithm_of(facts_of(), scale=2.0)
    shared = algo.initial() | {"level": torch.linspace(-1, 1, ITEMS)}
    generator = torch.Generator().manual_seed(0)
    for name in shared:
        if name.startswith("tower.decoder"):
            shared[name] = shared[name] + 0.5 * torch.randn(shared[name].shape, generator=generator)
    users = batch_of([[3, 8, 1, 30, 3, 9], list(range(20)), [5], [], [7, 2]])
    found = algo.contribute(shared, users, 1)["tower"]
    examples = Examples.draw(users, 9, 3, algo.config.newest, NegativeDraws(0, True, None, 0), 1)
    tower = algo._tower(shared).requires_grad_(True)
    decoder = tower.decoder
    assert decoder is not None
    mass = shared["level"].exp()
    for row in range(len(users)):
        tower.zero_grad()
        vectors = tower.items()
        losses: list[torch.Tensor] = []
        for place, target in zip(examples.at[row], examples.targets[row], strict=True):
            if not examples.valid[row, len(losses)]:
                break
            history = examples.inputs[row, : int(place) + 1]
            state = tower.encoder(vectors[history][None], torch.ones(1, len(history), dtype=torch.bool))[0, -1]
            loss, among = torch.zeros(()), torch.arange(ITEMS)
            for level, table in enumerate(decoder.tables):
                codes = decoder.codes[:, level]
                gate = 1 + sum(decoder.prefixes[j][decoder.codes[target, j]] for j in range(level))
                each = 2.0 * table @ (state * gate)
                terms = {int(code): mass[among][codes[among] == code].sum().log() + each[code] for code in codes[among]}
                loss = loss + torch.stack(list(terms.values())).logsumexp(0) - terms[int(codes[target])]
                among = among[codes[among] == codes[target]]
            losses.append(loss)
        expected = torch.zeros(tower.size)
        if losses:
            torch.stack(losses).mean().backward()
            grads = [torch.zeros_like(value) if value.grad is None else value.grad for value in tower.parameters()]
            expected = torch.cat([each.flatten() for each in grads])
        assert close(found.dense(row), expected, 1e-4), row


def test_probabilities_of_all_items_sum_to_one_and_are_the_popularity_without_events(model: GenerativeModel) -> None:
    scores = model.score(model.fit(batch_of(edge_rows())))
    assert torch.allclose(scores.exp().sum(1), torch.ones(len(scores)), atol=1e-5)
    nothing = model.score(model.fit(batch_of([[]])))[0]
    assert torch.allclose(nothing, model.bias.log_softmax(0), atol=1e-5)


def test_no_two_items_have_the_same_codes(model: GenerativeModel) -> None:
    assert model.codes.shape == (ITEMS, 3)
    tuples = [tuple(row) for row in model.codes.tolist()]
    assert len(set(tuples)) == ITEMS
    shared = Counter(each[:2] for each in tuples)
    assert max(shared.values()) > 1  # items that only their last code tells apart
    assert all(sorted(each[2] for each in tuples if each[:2] == one) == list(range(n)) for one, n in shared.items())


def test_a_beam_as_wide_as_the_catalogue_is_the_exact_ranking(form: GenerativeForm) -> None:
    for row in [*edge_rows(), []]:
        state = form.fit(History(np.array(row, np.int64)))
        order = np.argsort(-form.scores(state), kind="stable")
        items, scores, exact = form.generate(state, ITEMS, width=ITEMS)
        assert exact
        assert np.array_equal(scores, form.scores(state)[items])
        assert np.array_equal(scores, form.scores(state)[order])
        assert sorted(items.tolist()) == list(range(ITEMS))


def test_a_narrow_beam_says_whether_its_list_is_exact(form: GenerativeForm) -> None:
    said = []
    for row in planted_rows(seed=2)[0][:40]:
        state = form.fit(History(np.array(row, np.int64)))
        for width in (1, 2, 4):
            items, scores, exact = form.generate(state, 2, width=width)
            assert np.array_equal(scores, form.scores(state)[items])  # each is a real item, with its own score
            best = np.sort(form.scores(state))[::-1][:2]
            assert not exact or np.array_equal(scores, best)
            said.append((exact, len(scores) == 2 and bool(np.array_equal(scores, best))))
    assert {exact for exact, _ in said} == {True, False}
    assert any(not right for _, right in said)


def test_a_list_without_a_width_is_exact_and_expands_few_prefixes(
    form: GenerativeForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedrec.ondevice.generative.WIDTH", 1)
    expanded: list[int] = []
    expand = GenerativeForm._expand

    def counted(self: GenerativeForm, level: int, prefixes: np.ndarray, *rest: Any) -> Any:
        below = expand(self, level, prefixes, *rest)
        expanded.append(len(below[0]))
        return below

    state = form.fit(History(np.array([3, 8, 1], np.int64)))
    best = np.sort(form.scores(state))[::-1][:1]
    monkeypatch.setattr(GenerativeForm, "_expand", counted)
    items, scores, exact = form.generate(state, 1)
    assert exact
    assert np.array_equal(scores, best)
    assert len(items) == 1
    left_out = np.array([item for item in range(ITEMS) if item != int(items[0])])
    assert form.generate(state, 3, exclude=left_out)[0].tolist() == items.tolist()
    assert expanded[2] < ITEMS


def test_an_item_that_nobody_has_had_is_generated_by_its_public_vector() -> None:
    """Item 3 occurs in no history. Its codes come from the catalogue alone, and its taste's readers are offered it."""
    rows = [[item for item in row if item != 3] for row in planted_rows()[0]]
    algo = algorithm_of(facts_of(), rounds=6, popularity_weight=0.0)
    made = device_form(algo.release(AlgorithmContract().train(algo, batch_of(rows))))
    assert isinstance(made, GenerativeForm)
    offered = made.generate(made.fit(History(np.array([7, 11, 15], np.int64))), 10)[0]
    others = made.generate(made.fit(History(np.array([8, 12, 16], np.int64))), 10)[0]
    assert 3 in offered
    assert 3 not in others


def test_a_new_item_gets_codes_and_trained_items_keep_theirs() -> None:
    catalogue, trained = planted_catalogue(), np.array([item for item in range(ITEMS) if item not in (0, 3, 21)])
    facts = PublicFacts(catalogue.select(trained), USERS, float(USERS), seed=3)
    algo = algorithm_of(facts)
    place = {int(item): position for position, item in enumerate(trained)}
    rows = [[place[item] for item in row if item in place] for row in planted_rows()[0]]
    before = algo.release(AlgorithmContract().train(algo, batch_of(rows, items=len(trained))))
    after = before.with_new_items(NewItems(catalogue, trained))
    assert isinstance(before, GenerativeModel)
    assert isinstance(after, GenerativeModel)
    assert torch.equal(after.codes[torch.from_numpy(trained)], before.codes)
    assert len({tuple(row) for row in after.codes.tolist()}) == ITEMS
    made = device_form(after)
    for item in (3, 21):  # of their own taste, 1 in 4
        history = np.array([each for each in range(ITEMS) if each % 4 == item % 4 and each in place][:3], np.int64)
        other = (history + 1) % ITEMS
        mine, theirs = (made.scores(made.fit(History(each)), np.array([item]))[0] for each in (history, other))
        assert mine > theirs + 0.5


def test_a_decoder_within_the_noise_goes_back_to_the_public_start() -> None:
    """It is held like every other parameter; what users agree on is kept."""
    users = batch_of(planted_rows()[0])
    for mu, stays in ((1e-4, True), (1e4, False)):
        algo = algorithm_of(facts_of(mu=mu))
        shared = AlgorithmContract().train(algo, users, noise=1 / mu)
        released = algo.release(shared)
        assert isinstance(released, GenerativeModel)
        assert not torch.equal(shared["tower.decoder.tables.0"], algo._start["decoder.tables.0"])
        assert torch.equal(released.decoder["tables.0"], algo._start["decoder.tables.0"]) == stays
