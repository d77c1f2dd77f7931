"""The protocol is clean: the counts of training negatives reveal nothing about the held-out item.

Published federated recommenders drew negatives from outside train AND test, so that the held-out item was never a
negative. A "memoriser" without any model then finds it every time. It must fail here, and the test must detect it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from fedrec.data.datasets import DataConfig, load
from fedrec.data.splits import Split
from fedrec.data.splits import split as make_split
from fedrec.data.users import UserBatch
from fedrec.evaluation.ranking import ranks
from fedrec.model import ReleasedModel

SEED = 11
DRAWS_PER_ITEM = 12
Sampler = Callable[[UserBatch, int, int], torch.Tensor]


@dataclass
class Memoriser(ReleasedModel):
    """Scores an item by minus the number of times that it was drawn as a negative for this user."""

    sampler: Sampler
    kind = "memoriser"

    def fit(self, users):
        counts = torch.zeros(len(users), users.n_items)
        for stream in range(DRAWS_PER_ITEM):
            drawn = self.sampler(users, users.n_items, stream)
            counts.scatter_add_(1, drawn, torch.ones(drawn.shape))
        return {"counts": counts}

    def score(self, state, candidates=None):
        return -state["counts"] if candidates is None else -state["counts"].gather(1, candidates)

    def fold_in(self, state, items):
        raise NotImplementedError

    def tensors(self):
        return {}

    @classmethod
    def restore(cls, tensors, manifest):
        raise NotImplementedError


def clean(users: UserBatch, count: int, stream: int) -> torch.Tensor:
    return users.negatives(count, stream)


def leaky(split: Split) -> Sampler:
    """The published mistake: where the draw is the held-out item, another one is taken."""
    keys = split.train.batch(np.arange(len(split.targets)), SEED).keys.tolist()
    held_out = dict(zip(keys, split.targets.tolist(), strict=True))

    def sample(users: UserBatch, count: int, stream: int) -> torch.Tensor:
        target = torch.tensor([held_out[key] for key in users.keys.tolist()])[:, None]
        drawn = users.negatives(count, stream)
        return torch.where(drawn == target, drawn.roll(1, dims=1), drawn)

    return sample


@pytest.fixture(scope="module", params=["quickstart", "ml-100k"])
def split(request) -> Split:
    needs_files = request.param != "quickstart"
    data_dir = request.getfixturevalue("data_dir") if needs_files else None
    return make_split(load(DataConfig(name=request.param), data_dir, SEED), "leave-one-out", "test", SEED)


def above_chance(model: Memoriser, split: Split) -> dict[str, float]:
    """Hits among the first ten beyond what a random order gives, in standard deviations, for both protocols."""
    found = ranks(model, replace(split, device=split.train), seed=SEED)
    unseen = split.seen.n_items - np.array([len(set(split.seen.row(u).tolist())) for u in found.users])
    result = {}
    for name, ranked, pool in (("full", found.full, unseen), ("sampled-99", found.sampled, np.full(len(unseen), 100))):
        chance = np.minimum(10 / pool, 1)
        hits = int((ranked < 10).sum())
        result[name] = (hits - chance.sum()) / math.sqrt((chance * (1 - chance)).sum())
    return result


def test_a_memoriser_of_our_negatives_does_no_better_than_chance(split):
    assert max(above_chance(Memoriser(clean), split).values()) < 3


def test_the_check_catches_a_sampler_that_avoids_the_held_out_item(split):
    model = Memoriser(leaky(split))
    assert min(above_chance(model, split).values()) > 20
    assert (ranks(model, split, seed=SEED).sampled < 10).double().mean() > 0.95
