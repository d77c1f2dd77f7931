"""TransE (Bordes et al. 2013): vectors of entities, such that head + relation is near tail for true facts.

Trained on public triples alone, on the CPU, the same for the same seed. As in the paper: entities have length 1, a
margin loss against a fact with its head or tail replaced, plain gradient descent. Different from the paper: a batch of
facts a step, a learning rate that falls to zero, and a replaced end comes from ends that its relation has, so that the
difference is no matter of types alone.
"""

from dataclasses import dataclass

import numpy as np

from fedrec.errors import InputError
from fedrec.knowledge.triples import Triples
from fedrec.progress import step

VERSION = "1"
"""Of the rule: it changes when equal triples would get other vectors."""
MARGIN = 1.0
RATE = 0.1
BATCH = 256
MOST_STEPS = 500_000
"""Gradient steps of a training; more take hours."""


@dataclass(frozen=True)
class Embedding:
    """Vectors of entities (entities, width) of length 1 and of relations (relations, width), float32."""

    entities: np.ndarray
    relations: np.ndarray

    def distance(self, facts: np.ndarray) -> np.ndarray:
        """Return |head + relation - tail|, (facts,), for (facts, 3) numbers; small for a likely fact."""
        return np.linalg.norm(self._difference(facts), axis=1)

    def _difference(self, facts: np.ndarray) -> np.ndarray:
        return self.entities[facts[:, 0]] + self.relations[facts[:, 1]] - self.entities[facts[:, 2]]


def train(triples: Triples, width: int = 32, epochs: int = 100, seed: int = 0) -> Embedding:
    """Train vectors of all entities and relations.

    Args:
        triples: the facts.
        width: numbers a vector.
        epochs: passes over the facts.
        seed: of start, order and replaced ends; it is public.

    Raises:
        InputError: for more steps than a person waits for.
    """
    facts, rng = triples.facts, np.random.default_rng(seed)
    steps = epochs * -(-len(facts) // BATCH)
    if steps > MOST_STEPS:
        raise InputError(f"{len(facts):,} triples x {epochs} epochs are {steps:,} steps, at most {MOST_STEPS:,}; "
                         "give fewer --epochs")  # fmt: skip
    bound = 6 / np.sqrt(width)
    found = Embedding(
        _unit(rng.uniform(-bound, bound, (len(triples.entities), width)).astype(np.float32)),
        _unit(rng.uniform(-bound, bound, (len(triples.relations), width)).astype(np.float32)),
    )
    ends = _ends(triples)
    done = 0
    with step("training TransE", epochs) as advance:
        for _ in range(epochs):
            order = rng.permutation(len(facts))
            for start in range(0, len(facts), BATCH):
                batch = facts[order[start : start + BATCH]]
                _descend(found, batch, _replaced(batch, ends, rng), RATE * (1 - done / steps))
                done += 1
            advance(1)
    return found


def _ends(triples: Triples) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the heads and the tails that each relation has."""
    by_relation = [triples.facts[triples.facts[:, 1] == r] for r in range(len(triples.relations))]
    return [np.unique(each[:, 0]) for each in by_relation], [np.unique(each[:, 2]) for each in by_relation]


def _replaced(
    batch: np.ndarray, ends: tuple[list[np.ndarray], list[np.ndarray]], rng: np.random.Generator
) -> np.ndarray:
    """Return the batch with a random head or tail in each fact."""
    wrong, side, draw = batch.copy(), rng.random(len(batch)) < 0.5, rng.random(len(batch))
    for relation in np.unique(batch[:, 1]):
        for place, heads in ((0, True), (2, False)):
            rows = np.flatnonzero((batch[:, 1] == relation) & (side == heads))
            pool = ends[0 if heads else 1][relation]
            wrong[rows, place] = pool[(draw[rows] * len(pool)).astype(np.int64)]
    return wrong


def _descend(found: Embedding, right: np.ndarray, wrong: np.ndarray, rate: float) -> None:
    """Take one step on the facts whose margin is violated, and bring the entities that moved back to length 1."""
    near, far = found._difference(right), found._difference(wrong)
    near_length, far_length = np.linalg.norm(near, axis=1), np.linalg.norm(far, axis=1)
    active = near_length + MARGIN > far_length
    if not active.any():
        return
    down = -rate * near[active] / np.maximum(near_length[active], 1e-9)[:, None]
    up = rate * far[active] / np.maximum(far_length[active], 1e-9)[:, None]
    right, wrong = right[active], wrong[active]
    rows = np.concatenate([right[:, 0], right[:, 2], wrong[:, 0], wrong[:, 2]])
    np.add.at(found.entities, rows, np.concatenate([down, -down, up, -up]))
    np.add.at(found.relations, np.concatenate([right[:, 1], wrong[:, 1]]), np.concatenate([down, up]))
    moved = np.unique(rows)
    found.entities[moved] = _unit(found.entities[moved])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-9))
