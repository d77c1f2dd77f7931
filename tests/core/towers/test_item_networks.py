"""Towers with layers of their own: several hidden layers over features, and a convolution over words."""

import pytest
import torch

from fedrec.data.catalogue import Catalogue, Texts
from fedrec.errors import InputError
from fedrec.testing.toy_users import ITEMS, planted_catalogue
from fedrec.towers.base import ItemTower, tower
from fedrec.towers.text_convolution import TextConvolutionTower

WORDS = ("red fox hunts", "fox hunts red", "red fox hunts at night", "an old sea", "", "red fox hunts")


def built(name: str, catalogue: Catalogue, **changes: object) -> ItemTower:
    kind = tower(name)
    return kind(kind.Config.model_validate({"dim": 5} | changes), catalogue, 3)


def texts(*words: str) -> Catalogue:
    return Catalogue(tuple(f"i{n}" for n in range(len(words))), None, (Texts("plot", words),))


def test_an_untrained_network_changes_no_vector_and_every_layer_learns() -> None:
    made = built("mlp", planted_catalogue(), features=8, layers=[6, 4])
    every = torch.arange(ITEMS)
    content = built("content", planted_catalogue(), features=8)
    assert torch.equal(made(every), content(every))
    assert sum(value.numel() for value in made.parameters()) == 5 * 8 + 6 * 8 + 6 + 4 * 6 + 4 + 5 * 4
    with torch.no_grad():
        made.get_parameter("network.4.weight").fill_(0.1)
    (made(every)[:, 0] * torch.arange(ITEMS)).sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in made.parameters())
    with pytest.raises(ValueError, match="from 1 to 4096"):
        built("mlp", planted_catalogue(), layers=[])


def test_words_decide_and_their_order_does_too() -> None:
    made = built("text-convolution", texts(*WORDS), words=6, width=16, filters=64)
    vectors = made(torch.arange(len(WORDS))).detach()
    assert torch.equal(vectors[0], vectors[5])
    assert not torch.allclose(vectors[0], vectors[1]), "the same words in another order"
    assert not vectors[4].any(), "an item without words has no vector"
    near, far = (float((vectors[0] - vectors[other]).norm()) for other in (2, 3))
    assert near < far


def test_a_word_means_the_same_in_every_catalogue() -> None:
    first = built("text-convolution", texts(*WORDS), words=6, filters=8)
    later = built("text-convolution", texts("something else", WORDS[0]), words=6, filters=8)
    later.load_state_dict(first.state_dict())
    assert torch.equal(later(torch.tensor([1])), first(torch.tensor([0])))
    assert isinstance(first, TextConvolutionTower)
    assert first.tokens[0, :3].tolist() == later.get_buffer("tokens")[1, :3].tolist()


def test_titles_and_labels_are_read_and_a_catalogue_without_words_is_refused() -> None:
    made = built("text-convolution", planted_catalogue())
    assert (made.get_buffer("tokens") >= 0).any(1).all()
    with pytest.raises(InputError, match="needs words"):
        built("text-convolution", Catalogue(("a", "b")))
