"""New items of a released model: exact rows where a kernel is exact, and no favour for anything but content."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedrec
from fedrec import draws
from fedrec.algorithms.als import ALSModel
from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.content import Content, ContentConfig
from fedrec.algorithms.popularity import PopularityModel
from fedrec.api.model import Model
from fedrec.data.catalogue import Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.kernels.feature_map import NeighbourMap, SparseMap
from fedrec.kernels.model import KernelModel
from fedrec.kernels.new_items import Predictor, wider_maps
from fedrec.kernels.public import public_kernels
from fedrec.kernels.space import centred_space
from fedrec.model import ReleasedModel
from fedrec.ondevice.history import History
from fedrec.ondevice.released import open_released

ITEMS = 90


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    draw = np.random.default_rng(5)
    kind = draw.integers(6, size=ITEMS)
    texts = tuple(f"the series{n % 31}" for n in range(ITEMS))
    places = np.eye(6, 20)[kind] + 0.1 * draw.normal(size=(ITEMS, 20))
    return Catalogue(
        tuple(f"i{n:03d}" for n in range(ITEMS)),
        None,
        (
            Categories("kind", tuple("abcdef"), np.eye(6, dtype=bool)[kind]),
            Numbers("year", 1990 + kind + draw.normal(size=ITEMS)),
            Texts("title", texts),
            Vectors("text", places.astype(np.float32)),
        ),
    )


@pytest.fixture(scope="module")
def items(catalogue: Catalogue) -> NewItems:
    return NewItems(catalogue, np.flatnonzero(np.arange(ITEMS) % 5 > 0))


def test_rows_of_new_items_reproduce_the_kernels(items: NewItems) -> None:
    """The oracle: kernels factored over all items at once, where the statistics of both catalogues are the same."""
    released = public_kernels(items.trained_catalogue).maps
    wide = wider_maps(released, items)
    assert list(wide) == list(released)
    whole, new = public_kernels(items.catalogue).maps, torch.from_numpy(np.flatnonzero(items.new))
    trained = torch.from_numpy(items.trained)
    for name, map_ in wide.items():
        assert torch.equal(map_.rows(trained), released[name].rows(torch.arange(len(trained))))
        if isinstance(map_, SparseMap):
            continue
        ours = map_.rows(new) @ map_.rows(trained).T
        theirs = whole[name].rows(new) @ whole[name].rows(trained).T
        assert np.corrcoef(ours.flatten(), theirs.flatten())[0, 1] > 0.99, name


def test_words_of_another_catalogue_are_refused(items: NewItems) -> None:
    released = public_kernels(items.trained_catalogue).maps
    blocks = [
        replace(block, texts=(*block.texts[7:], *block.texts[:7])) if isinstance(block, Texts) else block
        for block in items.catalogue.blocks
    ]
    other = NewItems(replace(items.catalogue, blocks=tuple(blocks)), items.trained)
    with pytest.raises(InputError, match="differs from training"):
        wider_maps(released, other)


def test_new_items_have_no_neighbours_and_the_others_keep_theirs(items: NewItems) -> None:
    many = len(items.trained)
    table = torch.rand(many, many, generator=torch.Generator().manual_seed(0))
    starts = torch.arange(0, many * many + 1, many)
    map_ = NeighbourMap(starts, torch.arange(many).repeat(many), table.flatten())
    space = centred_space({"pairs": map_}, torch.ones(many), torch.zeros(many, 1), (1.0, 0.5))
    weights = torch.zeros(len(space.names))
    weights[-2:] = 1.0
    wide = KernelModel(space, weights).with_new_items(items)
    keys = draws.keys(0, torch.arange(1))
    history = torch.tensor([3, 1, 7])
    before = UserBatch(items=history, lengths=torch.tensor([3]), n_items=many, keys=keys)
    places = torch.from_numpy(items.trained)
    after = replace(before, items=places[history], n_items=ITEMS)
    found, expected = wide.score(wide.fit(after)), KernelModel(space, weights).score(space.fit(before))
    torch.testing.assert_close(found[:, places], expected)
    assert not found[:, torch.from_numpy(items.new)].any()


def test_vectors_that_content_explains_are_predicted(items: NewItems) -> None:
    block = items.catalogue.blocks[0]
    assert isinstance(block, Categories)
    rows = torch.from_numpy(block.membership.astype(np.float32)) @ torch.randn(6, 4, generator=torch.manual_seed(0))
    wide = Predictor(items).widened(rows[items.trained])
    assert torch.equal(wide[items.trained], rows[items.trained])
    assert float((wide - rows)[items.new].norm() / rows[items.new].norm()) < 0.1


def test_a_new_item_has_no_popularity_and_its_place_says_nothing(catalogue: Catalogue, items: NewItems) -> None:
    """Two new items of the same features tie, wherever they are in the catalogue."""
    twin = catalogue.select(np.where(np.arange(ITEMS) == 85, 0, np.arange(ITEMS)))
    twins = NewItems(replace(twin, ids=catalogue.ids), items.trained)
    draw = torch.manual_seed(1)
    vectors, popularity = torch.randn(len(items.trained), 4, generator=draw), torch.rand(len(items.trained))
    als = ALSModel(vectors, vectors.T @ vectors, popularity, alpha0=0.3, reg=0.01, nu=1.0).with_new_items(twins)
    assert torch.allclose(als.items[0], als.items[85], atol=1e-6)
    assert als.popularity[twins.new].unique().numel() == 1
    assert PopularityModel(popularity).with_new_items(twins).scores[twins.new].unique().numel() == 1


def test_a_model_that_had_a_place_for_the_new_items_is_refused(items: NewItems) -> None:
    """It may have learned them: as negatives, by their popularity, or by their index."""
    with pytest.raises(InputError, match="were there in training"):
        PopularityModel(torch.rand(ITEMS)).with_new_items(items)


def test_a_model_without_content_says_so(items: NewItems) -> None:
    class Plain(PopularityModel):
        kind = "plain"

    with pytest.raises(InputError, match="'plain' has no place"):
        ReleasedModel.with_new_items(Plain(torch.rand(len(items.trained))), items)
    with pytest.raises(InputError, match="no public features"):
        Predictor(NewItems(Catalogue(items.catalogue.ids), items.trained))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_devices_read_a_wider_model(items: NewItems, tmp_path: Path) -> None:
    facts = PublicFacts(catalogue=items.trained_catalogue, users=50, expected_cohort=50.0)
    trained = Model(Content(ContentConfig(), facts).release({}), items.trained_catalogue.ids)
    columns: dict[str, list[Any]] = {
        block.name: list(block.texts) for block in items.catalogue.blocks if isinstance(block, Texts)
    }
    columns |= {b.name: list(b.values) for b in items.catalogue.blocks if isinstance(b, Numbers)}
    kind = items.catalogue.blocks[0]
    assert isinstance(kind, Categories)
    columns["kind"] = [[kind.labels[place] for place in np.flatnonzero(row)] for row in kind.membership]
    columns["text"] = next(b.values.tolist() for b in items.catalogue.blocks if isinstance(b, Vectors))
    wide = trained.with_new_items({"item_id": list(items.catalogue.ids), **columns})
    folder = wide.save(tmp_path / "wide")
    read, form = fedrec.load_model(tmp_path / "wide"), open_released(folder, tmp_path / "index").model
    assert read.items == wide.items == items.catalogue.ids
    assert items.new[5]
    known = np.array([3, 7, 5])  # 5 is new: a device counts it from the first event
    listed, _ = form.top(form.fit(History(known)), 40, exclude=known)
    names = [read.items[item] for item in known]
    assert read.recommend(history=names, k=40)["item"].to_list() == [read.items[item] for item in listed]
