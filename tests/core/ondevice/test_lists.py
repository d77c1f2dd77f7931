"""Filters, diversity, freshness, exploration and newcomers on a device, and likeness as in the torch form."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedrec.algorithms.als import ALSModel
from fedrec.errors import InputError
from fedrec.ondevice import newcomers, reasons
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.history import History
from fedrec.ondevice.lists import Freshness, Wishes, recommend
from fedrec.ondevice.public_items import PublicItems
from fedrec.ondevice.released import load
from fedrec.recommend import ranking
from fedrec.recommend.public_items import public_items
from fedrec.testing.ondevice import save_released
from fedrec.testing.toy_users import batch_of, planted_catalogue

N = 300


def released() -> ALSModel:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(N, 6, generator=generator) + torch.eye(6)[torch.arange(N) % 4]
    return ALSModel(table, table.T @ table, torch.rand(N, generator=generator), alpha0=0.1, reg=0.01, nu=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DeviceModel:
    return load(save_released(released(), tmp_path_factory.mktemp("lists")))


@pytest.fixture
def public(tmp_path: Path) -> PublicItems:
    public_items(planted_catalogue(N)).write(tmp_path / "public.safetensors")
    return PublicItems.read(tmp_path / "public.safetensors", N)


HISTORY = History(np.array([3, 7, 11, 20, 21], np.int64))


def test_without_wishes_a_list_is_the_exact_one(model: DeviceModel) -> None:
    state = model.fit(HISTORY)
    found = recommend(model, state, Wishes(k=12))
    items, scores = model.top(state, 12, HISTORY.items)
    assert [entry.item for entry in found] == items.tolist()
    assert [entry.score for entry in found] == scores.tolist()
    assert {entry.why for entry in found} == {"exact"}


def test_filters_hold_for_every_entry_and_cost_no_place(model: DeviceModel, public: PublicItems) -> None:
    allowed = public.mask(having={"taste": ["taste-1", "taste-2"]}, between={"year": (1991, 1993)})
    by_hand = np.isin(np.arange(N) % 4, (1, 2)) & np.isin(np.arange(N) % 7, (1, 2, 3))
    assert np.array_equal(allowed, by_hand)
    assert np.array_equal(public.mask(without={"taste": ["taste-0"]}), np.arange(N) % 4 != 0)
    left_out, state = np.array([1, 2, 9]), model.fit(HISTORY)
    plain = Wishes(k=20, allowed=allowed, exclude=left_out)
    for wishes in (plain, replace(plain, diversity=0.6), replace(plain, explore=0.5, seed=3)):
        found = [entry.item for entry in recommend(model, state, wishes)]
        assert len(found) == len(set(found)) == 20
        assert allowed[found].all()
        assert not set(found) & {1, 2, 9, *HISTORY.items.tolist()}
    assert len(recommend(model, state, replace(plain, k=200))) == allowed.sum() - len({3, 7, 11, 20, 21, 1, 2, 9} & set(
        np.flatnonzero(allowed).tolist()
    ))  # fmt: skip
    for wrong in ({"having": {"tast": []}}, {"having": {"taste": ["taste-9"]}}, {"between": {"yer": (0, 1)}}):
        with pytest.raises(InputError, match="Did you mean"):
            public.mask(**wrong)  # type: ignore[arg-type]


def test_a_diverse_list_is_that_of_the_torch_form(model: DeviceModel) -> None:
    torch_form, person = released(), batch_of([HISTORY.items.tolist()], items=N)
    for diversity in (0.2, 0.5, 0.9):
        expected, _ = ranking.best(
            torch_form, person, 10, diversity=diversity, rows=lambda items: torch_form.items[items]
        )
        found = recommend(model, model.fit(HISTORY), Wishes(diversity=diversity))
        assert [entry.item for entry in found] == expected.tolist()
        plain = set(model.top(model.fit(HISTORY), 10, HISTORY.items)[0].tolist())
        assert {entry.item for entry in found if entry.why == "exact"} == plain & {entry.item for entry in found}
        assert {entry.why for entry in found} <= {"exact", "diverse"}


def test_fresh_items_rise_and_are_marked(model: DeviceModel) -> None:
    state, ages = model.fit(HISTORY), np.full(N, np.nan)
    late = model.top(state, 60, HISTORY.items)[0][40:]
    ages[late] = 0.0
    found = recommend(model, state, Wishes(freshness=Freshness(ages, half_life=30, weight=2.0)))
    assert [entry.item for entry in found] == late[:10].tolist()
    assert {entry.why for entry in found} == {"fresh"}
    ages[late] = 1e9
    unchanged = recommend(model, state, Wishes(freshness=Freshness(ages, half_life=30, weight=2.0)))
    assert [entry.item for entry in unchanged] == model.top(state, 10, HISTORY.items)[0].tolist()
    assert {entry.why for entry in unchanged} == {"exact"}


def test_exploration_is_marked_and_repeats_with_its_seed(model: DeviceModel) -> None:
    state, changed = model.fit(HISTORY), 0
    exact = model.top(state, 10, HISTORY.items)[0].tolist()
    for seed in range(200):
        found = recommend(model, state, Wishes(explore=0.2, seed=seed))
        assert found == recommend(model, state, Wishes(explore=0.2, seed=seed))
        assert len({entry.item for entry in found}) == 10
        for place, entry in enumerate(found):
            assert entry.why == ("exact" if entry.item == exact[place] else "explored")
            changed += entry.why == "explored"
    assert 320 < changed < 480  # 400 expected of 2,000, six standard deviations are 107
    assert recommend(model, state, Wishes(explore=0.0)) == recommend(model, state, Wishes())


def test_a_newcomer_gets_what_is_popular_and_unlike_each_other(model: DeviceModel, public: PublicItems) -> None:
    nobody = model.fit(History())
    found = recommend(model, nobody, Wishes(), public.rows)
    assert {entry.why for entry in found} <= {"popular", "diverse"}
    plain = recommend(model, nobody, Wishes(diversity=0.0))
    assert [entry.item for entry in plain] == model.top(nobody, 10)[0].tolist()
    assert {entry.why for entry in plain} == {"popular"}

    def tastes(entries: list[int]) -> int:
        return int(np.bincount(np.array(entries) % 4, minlength=4).max())

    very = recommend(model, nobody, Wishes(diversity=0.7), public.rows)
    assert tastes([entry.item for entry in very]) <= tastes([entry.item for entry in plain])
    one = recommend(model, model.record(nobody, 5), Wishes())
    assert {entry.why for entry in one} == {"exact"}


def test_a_questionnaire_turns_labels_into_a_list(model: DeviceModel, public: PublicItems) -> None:
    asked = newcomers.questions(public)
    assert asked == {"taste": ["taste-0", "taste-1", "taste-2", "taste-3"]}
    pretended = newcomers.pseudo_history(model, public, {"taste": ["taste-2"]})
    assert len(pretended) == newcomers.EACH
    assert (pretended.items % 4 == 2).all()
    listed = model.top(model.fit(pretended), 20)[0]
    assert (listed % 4 == 2).sum() > 10  # 5 by chance
    with pytest.raises(InputError, match="no label"):
        newcomers.pseudo_history(model, public, {"taste": ["none"]})


def test_likeness_is_that_of_the_torch_form(model: DeviceModel) -> None:
    torch_form = released()
    likeness = torch.cosine_similarity(torch_form.items, torch_form.items[8:9])
    likeness[8] = -torch.inf
    assert [place for place, _ in reasons.similar(model, 8, 7)] == likeness.topk(7).indices.tolist()
    with pytest.raises(InputError, match="outside"):
        reasons.similar(model, N)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"diversity": 1.0}, {"explore": -0.1}, {"explore": float("nan")}])
def test_wishes_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Wishes(**wrong)  # type: ignore[arg-type]


def test_public_features_of_another_catalogue_are_refused(tmp_path: Path) -> None:
    public_items(planted_catalogue(N)).write(tmp_path / "public.safetensors")
    with pytest.raises(InputError, match="fetch it again"):
        PublicItems.read(tmp_path / "public.safetensors", N + 1)
    (tmp_path / "public.safetensors").write_bytes(b"")
    with pytest.raises(InputError):
        PublicItems.read(tmp_path / "public.safetensors", N)
