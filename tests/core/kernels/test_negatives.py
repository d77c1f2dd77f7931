"""Mixed negatives: outside the history, by the user's own key, with the density that the loss is corrected by."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedrec.kernels.negatives import mixed_negatives
from fedrec.testing.toy_users import batch_of

N = 12
POPULARITY = torch.tensor([40.0, 20, 10, 5, 4, 3, 2, 1, 1, 1, 0.5, 0])
histories = st.lists(st.lists(st.integers(0, N - 1), max_size=N + 2), min_size=1, max_size=5)


@given(rows=histories, seed=st.integers(0, 99))
def test_they_lie_outside_the_history_and_follow_the_user_alone(rows: list[list[int]], seed: int) -> None:
    users = batch_of(rows, seed, items=N)
    drawn = mixed_negatives(users, POPULARITY, 20, stream=1).items
    for user, row in enumerate(rows):
        assert len(set(row)) == N or not set(row) & set(drawn[user].tolist())
        alone = mixed_negatives(users.slice(user, user + 1), POPULARITY, 20, stream=1)
        assert torch.equal(alone.items[0], drawn[user])


def empirical(rows: list[list[int]], draws: int = 40_000) -> tuple[Tensor, Tensor]:
    """Return the observed and the expected number of draws of each item, (users, N) each."""
    users = batch_of(rows, items=N)
    found = mixed_negatives(users, POPULARITY, draws, stream=1)
    counts = torch.stack([torch.bincount(row, minlength=N) for row in found.items]) / draws
    everything = torch.arange(N).expand(len(rows), -1)
    return counts, found.log_ratio(everything).exp() / found.outside.clamp(min=1)[:, None]


def test_the_density_is_that_of_the_draws() -> None:
    rows = [[], [0], [3, 5, 7], [0, 1, 2, 3]]
    counts, density = empirical(rows)
    for user, row in enumerate(rows):
        outside = torch.tensor([item not in row for item in range(N)])
        torch.testing.assert_close(counts[user][outside], density[user][outside], atol=0.01, rtol=0.05)
        assert float(density[user][outside].sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_user_who_has_everything_gets_uniform_draws_and_no_correction() -> None:
    counts, _ = empirical([list(range(N))])
    assert (counts - 1 / N).abs().max() < 0.01
    users = batch_of([list(range(N))], items=N)
    assert not mixed_negatives(users, POPULARITY, 4, 1).log_ratio(torch.arange(N)[None]).any()


def test_the_corrected_loss_is_least_at_the_logarithm_of_popularity() -> None:
    """Targets follow a law; negatives do not: scores at the law's logarithm leave no gradient."""
    generator = torch.Generator().manual_seed(0)
    law = torch.linspace(1, 6, N).softmax(0)  # far from POPULARITY, which draws half of the negatives
    count = 60_000
    users = batch_of([[]] * count, items=N)
    negatives = mixed_negatives(users, POPULARITY, 6, stream=1)
    targets = torch.multinomial(law, count, replacement=True, generator=generator)[:, None]
    candidates = torch.cat([targets, negatives.items], 1)
    for scores, corrected in ((law.log(), True), (law.log(), False)):
        logits = scores[candidates] - corrected * negatives.log_ratio(candidates)
        error = logits.softmax(1)
        error[:, 0] -= 1
        gradient = torch.zeros(N).index_add_(0, candidates.flatten(), error.flatten()) / count
        assert (gradient.abs().max() < 0.006) == corrected
