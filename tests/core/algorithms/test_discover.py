"""A released model is read back as it was written, or refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedrec.algorithms.discover import load_model, model_items
from fedrec.algorithms.popularity import PopularityModel
from fedrec.errors import InputError
from fedrec.run.directory import RunDirectory

ITEMS = ("12", 'a, "b"', "c\nd")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = RunDirectory(tmp_path)
    made.begin()
    made.write_model(PopularityModel(torch.tensor([3.0, 2.0, 1.0])), ITEMS)
    return made.model


def test_a_model_is_read_back(folder: Path) -> None:
    (scores,) = load_model(folder).tensors().values()
    assert scores.tolist() == [3.0, 2.0, 1.0]


def test_a_model_belongs_to_the_items_that_it_was_trained_on(folder: Path) -> None:
    assert model_items(folder) == list(ITEMS)
    assert load_model(folder, ITEMS).kind == "popularity"
    for items, says in (
        (ITEMS[:2], "trained on 3 items, the data hold 2"),
        ((ITEMS[0], ITEMS[2], ITEMS[1]), "position 1 is item"),
        (("12", 'a, "b"', "c"), "another catalogue, or another order"),
    ):
        with pytest.raises(InputError, match=says):
            load_model(folder, items)
    (folder / "items.json").unlink()
    assert load_model(folder, ITEMS).kind == "popularity", "the manifest holds the hash of the ids"
    with pytest.raises(InputError, match=r"items\.json"):
        load_model(folder, ITEMS[:2])


def test_a_model_of_an_older_version_names_no_items(folder: Path) -> None:
    file = folder / "manifest.json"
    told = json.loads(file.read_text())
    del told["items"]
    file.write_text(json.dumps(told))
    assert load_model(folder, ITEMS[:2]).kind == "popularity"


def manifest(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / "manifest.json"
        file.write_text(json.dumps(change(json.loads(file.read_text()))))

    return damage


def tensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no model here"),
        (lambda folder: (folder / "manifest.json").write_text('{"kind'), "no model's manifest"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "no model's manifest"),
        (manifest(lambda found: []), "no model's manifest"),
        (manifest(lambda found: {name: found[name] for name in ("kind", "sha256")}), "no model's manifest"),
        (manifest(lambda found: found | {"kind": "popularty"}), "Did you mean 'popularity'?"),
        (manifest(lambda found: found | {"kind": "als"}), "do not fit each other"),
        (manifest(lambda found: found | {"sha256": "0" * 64}), "by its SHA-256"),
        (tensors, "by its SHA-256"),
    ],
)
def test_what_is_damaged_is_one_line(damage: Callable[[Path], None], says: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(InputError) as caught:
        load_model(folder)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
