"""A run with clip and noise, without a ledger: some users, with the strength (users x mu) of a larger population."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.discover import algorithm
from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.model import ReleasedModel
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import PrivateSum
from fedrec.settings import parse


def short_run(
    name: str, settings: Mapping[str, Any], catalogue: Catalogue, train: Histories, strength: float
) -> ReleasedModel:
    """Return the released model of the algorithm `name`.

    Args:
        name: of a built-in algorithm.
        settings: its settings.
        catalogue: the public items.
        train: histories of the users.
        strength: users x mu; infinite for a run without noise and clip.
    """
    users = len(train)
    facts = PublicFacts(catalogue, users, float(users), strength / users, seed=1)
    kind = algorithm(name)
    algo: Any = kind(parse(kind.Config, settings, name), facts)
    shared, generator = algo.initial(), torch.Generator().manual_seed(1)
    batches = [train.batch(np.arange(start, min(users, start + 1000)), 1) for start in range(0, users, 1000)]
    for round_index in range(algo.rounds):
        sums = {}
        parts = [algo.contribute(shared, batch, round_index) for batch in batches]
        for query in algo.queries(round_index):
            lattice, total = query.lattice(users), torch.zeros(query.shape, dtype=torch.int64)
            for part in parts:
                given = part[query.name]
                weights = clip_weights(given, query.clip_norm) if facts.private else given.unit_weights()
                given.add_to(total, weights, lattice)
            std = query.clip_norm / (facts.mu * math.sqrt(query.budget_share)) if facts.private else 0.0
            noise = std * torch.randn(query.shape, generator=generator)
            sums[query.name] = PrivateSum(query.decode(total, lattice).float() + noise, std)
        shared = algo.update(shared, sums, round_index)
    model: ReleasedModel = algo.release(shared)
    return model
