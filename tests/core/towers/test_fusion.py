"""The gated fusion of modalities: items that lack some have the others, and everything learns."""

import numpy as np
import pytest
import torch

from fedrec.data.catalogue import Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.errors import InputError
from fedrec.towers.base import tower
from fedrec.towers.fusion import FusionConfig, FusionTower

ITEMS, DIM = 24, 12


def mixed() -> Catalogue:
    """Text vectors, pictures and labels of two tastes; item 0 has text alone, 1 a picture alone, 2 nothing."""
    taste, draw = np.arange(ITEMS) % 2, np.random.default_rng(0)
    text, image = (
        (np.eye(2)[taste] @ draw.normal(size=(2, 6)) + 0.1 * draw.normal(size=(ITEMS, 6))).astype(np.float32)
        for _ in range(2)
    )
    labels = np.eye(2, dtype=bool)[taste]
    image[[0, 2]], text[[1, 2]], labels[[0, 1, 2]] = 0, 0, False
    blocks = (Vectors("text", text), Vectors("image", image), Categories("genres", ("a", "b"), labels))
    return Catalogue(tuple(f"i{n}" for n in range(ITEMS)), None, blocks)


def built(catalogue: Catalogue | None = None, **changes: int) -> FusionTower:
    config = FusionConfig.model_validate({"dim": DIM, "features": 4} | changes)
    made = tower("fusion")(config, catalogue or mixed(), 0)
    assert isinstance(made, FusionTower)
    return made


def test_a_missing_modality_has_no_weight_and_the_others_have_it_all() -> None:
    made = built()
    assert made.modalities == ("text", "image", "genres")
    weights = made.weights(torch.arange(ITEMS)).detach()
    expected = torch.full((ITEMS, 3), 1 / 3)
    expected[:3] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert torch.allclose(weights, expected)
    vectors = made(torch.arange(ITEMS)).detach()
    assert (vectors.norm(dim=1) > 0.1).tolist() == [n != 2 for n in range(ITEMS)], "only what has nothing has no vector"


def test_items_alike_in_one_modality_are_alike_although_they_lack_another() -> None:
    vectors = torch.nn.functional.normalize(built()(torch.arange(ITEMS)).detach(), dim=1)
    alike = vectors @ vectors.T
    for item in (0, 1):  # one has no picture, the other no text
        same, other = (alike[item, 3 + (item + place) % 2 :: 2].mean() for place in (1, 0))
        assert float(same) > float(other) + 0.3


def test_gradients_flow_to_every_part_and_from_an_item_without_data_to_none() -> None:
    made = built()
    made(torch.arange(ITEMS)).square().sum().backward()
    assert all(float(each.grad.abs().max()) > 0 for each in made.parameters() if each.grad is not None)
    assert all(each.grad is not None for each in made.parameters())
    made.zero_grad()
    made(torch.tensor([2])).square().sum().backward()
    assert all(each.grad is not None and not each.grad.any() for each in made.parameters())
    made.zero_grad()
    made(torch.tensor([0])).square().sum().backward()  # text alone
    assert float(made.projections[0].weight.grad.abs().max()) > 0  # type: ignore[union-attr]
    assert not made.projections[1].weight.grad.any()  # type: ignore[union-attr]
    assert not made.gates[0].weight.grad.any(), "a single modality has weight 1 whatever its gate"  # type: ignore[union-attr]


def test_the_gate_learns_which_modality_counts() -> None:
    """Labels of taste against noise: after some steps the noise has less weight."""
    draw = np.random.default_rng(1)
    taste = torch.arange(ITEMS) % 2
    genres = Categories("genres", ("a", "b"), np.eye(2, dtype=bool)[taste.numpy()])
    noise = Vectors("noise", draw.normal(size=(ITEMS, 4)).astype(np.float32))
    made = built(Catalogue(tuple(f"i{n}" for n in range(ITEMS)), None, (noise, genres)), dim=4)
    for projection in made.projections:
        projection.requires_grad_(False)
    same = (taste[:, None] == taste).float()
    gates = list(made.gates.parameters())
    for _ in range(30):
        vectors = made(torch.arange(ITEMS))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(4 * vectors @ vectors.T - 2, same)
        slopes = torch.autograd.grad(loss, gates)
        for gate, slope in zip(gates, slopes, strict=True):
            gate.data -= 2 * slope
    weights = made.weights(torch.arange(ITEMS)).detach().mean(0)
    assert float(weights[1]) > 0.6


def test_it_is_small_and_needs_data() -> None:
    count = sum(each.numel() for each in built().parameters())
    widths = [getattr(built(), f"features{place}").shape[1] for place in range(3)]
    assert count == sum(width * (DIM + 1) + 1 for width in widths)
    with pytest.raises(InputError, match="needs public item data"):
        built(Catalogue(("a", "b"), None, (Texts("title", ("x", "y")),)))
    with_numbers = Catalogue(("a", "b"), None, (Numbers("year", np.array([1.0, 2.0])), Texts("title", ("x", "y"))))
    assert built(with_numbers).modalities == ("year",)
