"""Every encoder: a prediction never depends on later events, on padding, or on other users."""

import pytest
import torch
from torch import Tensor

from fedrec.errors import InputError
from fedrec.sequences.base import SequenceEncoder, encoder, encoders
from fedrec.sequences.codes import residual_codes
from fedrec.sequences.items import ItemVectors

DIM, LENGTH = 6, 12


def made(name: str) -> SequenceEncoder:
    """An encoder with random parameters, so that every path through it is used."""
    kind = encoder(name)
    built = kind(kind.Config(), DIM, LENGTH, 0).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in built.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return built


def histories(lengths: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random vectors (B, LENGTH, d) with rubbish in the padding, and the mask."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(lengths), LENGTH, DIM, generator=generator, dtype=torch.float64)
    return vectors, torch.arange(LENGTH) < torch.tensor(lengths)[:, None]


@pytest.fixture(params=sorted(encoders()))
def built(request: pytest.FixtureRequest) -> SequenceEncoder:
    return made(request.param)


def test_the_four_are_there() -> None:
    assert {"state-space", "attention", "gru", "convolution"} <= set(encoders())
    with pytest.raises(InputError, match="Did you mean 'state-space'"):
        encoder("state-spase")


def test_a_later_event_never_changes_an_earlier_prediction(built: SequenceEncoder) -> None:
    vectors, mask = histories((12, 7))
    before = built(vectors, mask)
    for place in range(1, LENGTH):
        changed = vectors.clone()
        changed[:, place] += torch.arange(DIM)  # a norm of the layer takes a constant off
        after = built(changed, mask)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.equal(after[0, place], before[0, place])


def test_every_event_reaches_the_last_prediction_or_is_out_of_reach(built: SequenceEncoder) -> None:
    vectors, mask = histories((12,))
    vectors.requires_grad_()
    built(vectors, mask)[0, -1].sum().backward()
    assert vectors.grad is not None
    assert vectors.grad[0, -3:].abs().sum(1).gt(0).all()


def test_padding_never_changes_a_prediction(built: SequenceEncoder) -> None:
    vectors, mask = histories((12, 7, 1))
    whole = built(vectors, mask)
    for row, count in enumerate((12, 7, 1)):
        alone = built(vectors[row : row + 1, :count], mask[row : row + 1, :count])
        assert torch.allclose(alone[0], whole[row, :count], atol=1e-12)
    rubbish = torch.where(mask[:, :, None], vectors, 1e3)
    assert torch.equal(built(rubbish, mask), whole)


def test_users_never_mix(built: SequenceEncoder) -> None:
    vectors, mask = histories((12, 7, 3, 0))
    together = built(vectors, mask)
    assert together.isfinite().all()
    for row in range(4):
        assert torch.allclose(built(vectors[row : row + 1], mask[row : row + 1])[0], together[row], atol=1e-12)


def test_predictions_at_positions_are_those_of_all_positions(built: SequenceEncoder) -> None:
    vectors, mask = histories((12, 7))
    at = torch.tensor([[0, 11, 3], [6, 2, 2]])
    every = built(vectors, mask)
    assert torch.allclose(built(vectors, mask, at), every.gather(1, at[:, :, None].expand(-1, -1, DIM)), atol=1e-12)


@pytest.mark.parametrize("name", ["state-space", "attention", "convolution"])
def test_the_untrained_encoder_is_a_recency_weighted_mean(name: str) -> None:
    kind = encoder(name)
    built = kind(kind.Config(), DIM, LENGTH, 0)
    one = torch.ones(1, LENGTH, DIM)
    found = built(one, torch.ones(1, LENGTH, dtype=torch.bool))[0, -1]
    assert torch.allclose(found, torch.ones(DIM), atol=0.1)
    spikes = torch.eye(LENGTH)[None].repeat(1, 1, 1)[:, :, -DIM:]  # which event a channel sees
    weights = built(spikes, torch.ones(1, LENGTH, dtype=torch.bool))[0, -1]
    assert weights.argmax() == DIM - 1


def test_codes_come_closer_with_each_level_and_like_items_share_them() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.randn(5, DIM, generator=generator)
    vectors = groups[torch.arange(60) % 5] + 0.05 * torch.randn(60, DIM, generator=generator)
    codes, books = residual_codes(vectors, levels=3, size=8, seed=1)
    assert codes.shape == (60, 3)
    assert books.shape == (3, 8, DIM)
    left = vectors.clone()
    errors = []
    for level in range(3):
        left = left - books[level][codes[:, level]]
        errors.append(float(left.square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02
    first = codes[:, 0]
    assert all(len(set(first[group::5].tolist())) <= 4 for group in range(5))
    assert not set(first[0::5].tolist()) & set(first[1::5].tolist())
    again = residual_codes(vectors, levels=3, size=8, seed=1)[0]
    assert torch.equal(again, codes)


def test_a_users_gradient_in_item_tables_is_that_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(9, 4, generator=generator)
    rows = torch.randint(0, 5, (9, 2), generator=generator)
    vectors = ItemVectors(features, 3, rows, torch.randn(5, 3, generator=generator))
    items, slopes = torch.tensor([[0, 4, 4], [8, 1, 0]]), torch.randn(2, 3, 3, generator=generator)
    found = vectors.pulled_back(items, slopes)
    for user in range(2):
        vectors.zero_grad()
        (vectors()[items[user]] * slopes[user]).sum().backward()
        for name, parameter in vectors.named_parameters():
            assert parameter.grad is not None
            assert torch.allclose(found[name][user], parameter.grad, atol=1e-5)
