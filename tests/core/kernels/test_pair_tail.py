"""EASE beyond the inverted items: a ridge regression of each tail item on the head, and the way back."""

import torch

from fedrec.kernels.pair_kernels import MOST_INVERTED, inverted
from fedrec.kernels.pair_table import Pairs
from fedrec.kernels.pair_tail import tail_weights

HEAD, ITEMS, PENALTY = 7, 9, 5.0


def table() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    events = (torch.rand(60, ITEMS, generator=generator) < 0.4).float()
    events[:, HEAD] *= torch.rand(60, generator=generator) < 0.5
    events[:, HEAD + 1] = 0
    return events.T @ events


def test_a_tail_item_is_weighed_as_if_it_were_inverted_with_the_head() -> None:
    sums = table()
    unit = PENALTY * torch.eye(ITEMS)
    inverse = torch.linalg.inv((sums + unit)[:HEAD, :HEAD])
    found = tail_weights(Pairs.of(sums, 0), inverse, PENALTY, HEAD + 1, most=ITEMS).dense(ITEMS)
    whole = torch.linalg.inv((sums + unit)[: HEAD + 1, : HEAD + 1])
    ease = -whole / whole.diagonal()
    torch.testing.assert_close(found[:HEAD, HEAD], ease[:HEAD, HEAD])
    torch.testing.assert_close(found[HEAD, :HEAD], ease[HEAD, :HEAD], atol=0.01, rtol=0.05)
    assert not found[:HEAD, :HEAD].any()
    assert not found[HEAD:, HEAD:].any()


def test_blocks_and_cuts_of_the_tail_change_nothing_else(monkeypatch) -> None:
    sums = table()
    sums[:, HEAD + 1] = sums[HEAD + 1] = torch.arange(1.0, ITEMS + 1)
    inverse = torch.linalg.inv((sums + PENALTY * torch.eye(ITEMS))[:5, :5])
    whole = tail_weights(Pairs.of(sums, 0), inverse, PENALTY, ITEMS, most=ITEMS)
    monkeypatch.setattr("fedrec.kernels.pair_tail._ENTRIES", 10)
    parts = tail_weights(Pairs.of(sums, 0), inverse, PENALTY, ITEMS, most=2)
    assert bool((parts.keys.diff() > 0).all())
    assert len(parts.keys) == 2 * 2 * (ITEMS - 5)
    torch.testing.assert_close(parts.values, whole.dense(ITEMS).flatten()[parts.keys])
    for tail in range(5, ITEMS):
        assert set(parts.dense(ITEMS)[tail].nonzero()[:, 0].tolist()) == set(
            whole.dense(ITEMS)[tail].abs().topk(2).indices.tolist()
        )


def test_the_inverted_items_are_bounded_by_memory_alone(monkeypatch) -> None:
    monkeypatch.setattr("fedrec.kernels.pair_kernels.MOST_INVERTED", 4)
    pairs = Pairs.of(table(), 0)
    inverse, _, known = inverted(pairs, pairs.diagonal(), 1.0)
    assert (len(inverse), known) == (4, HEAD + 1)
    assert MOST_INVERTED**2 * 4 < 1 << 30
