"""The message of ONE device in the first round, before and behind the noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import SumQuery
from fedrec_sim.attacks.target import Target
from fedrec_sim.engines.setup import SimulationSetup

AT_ONCE = 256


@dataclass(frozen=True)
class Message:
    """The part of one user in a query, (size,) float32 each.

    Attributes:
        position: position of the user.
        raw: the part as computed.
        sent: the part as it leaves: clipped under trust `central`, else with the user's own noise share where users add
            noise, which masks hide from the server under `distributed` and nothing hides under `local`.
        released: the noisy sum of this user alone, as seen by an attacker who subtracts all other users.
    """

    position: int
    raw: np.ndarray
    sent: np.ndarray
    released: np.ndarray


def item_query(setup: SimulationSetup, items: int) -> SumQuery | None:
    """Return the first round's query with a row for each item; None without one."""
    queries = setup.algorithm.queries(0) if setup.algorithm.rounds else ()
    return next((query for query in queries if query.shape[0] == items), None)


def messages(target: Target, setup: SimulationSetup, query: SumQuery, positions: np.ndarray) -> Iterator[Message]:
    """Yield the messages of the users at `positions`. A separate plan releases each."""
    algorithm, plan = setup.algorithm, setup.plan
    shared = algorithm.initial()
    rounds = [tuple(queries.values()) for queries in plan.rounds]
    for start in range(0, len(positions), AT_ONCE):
        some = positions[start : start + AT_ONCE]
        batch = target.users.batch(some, target.seed, algorithm.facts.device)
        contribution = algorithm.contribute(shared, batch, 0)[query.name]
        weights = clip_weights(contribution, query.clip_norm) if plan.private else contribution.unit_weights()
        for row, position in enumerate(some.tolist()):
            raw = contribution.dense(row).detach()
            sent = raw.double() * float(weights[row])
            alone = PrivacyPlan.build(plan.config, rounds, plan.users, (target.seed << 20) + position)
            alone.charge(0)
            if alone.discrete is None:
                total = query.encode(sent, alone.lattice(query))
            else:
                own, integers = torch.zeros_like(weights), alone.integers(target.seed)
                own[row] = weights[row]
                total = integers.zeros(query, 0, sent.device)
                integers.add(total, query, 0, contribution, own, batch.keys)
                words = WordStream.seeded(f"own share\0{target.seed}\0{position}")
                own_share = 0 if alone.discrete.shares.by_aggregators else 1
                message = alone.discrete.with_noise(0, query.name, total, own_share, words)
                sent = alone.discrete.read(0, query, message, 1).value
            released = alone.privatise(0, query, total).value
            yield Message(position, *(_flat(part) for part in (raw, sent, released)))


def _flat(tensor: torch.Tensor) -> np.ndarray:
    flat: np.ndarray = tensor.cpu().reshape(-1).float().numpy()
    return flat
