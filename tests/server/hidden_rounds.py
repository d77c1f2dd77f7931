"""A deployment with secret coins whose every round is compared with one process."""

import numpy as np
import pytest
import torch
from fedrec_client import coins
from fedrec_client.users_noise import UsersNoise
from fedrec_server.deployment import Deployment

from fedrec.privacy.discrete.stream import WordStream
from tests.server.test_trust_over_nodes import in_process


def compared(made: Deployment, monkeypatch: pytest.MonkeyPatch, users: int) -> list[tuple[int, ...]]:
    """Check each round of `made`: with the nodes' noise taken off, the total is that of the users whose coin fell.

    Args:
        made: the deployment, before its run.
        monkeypatch: of the test.
        users: of each node.

    Returns:
        The positions of the users whose coin fell, of each round; empty until the run.
    """
    noise, drawn, added, draw, sums = [], [], UsersNoise.added, coins.draw, made.nodes.clipped_sums
    rounds: list[tuple[int, ...]] = []

    def noted(self: UsersNoise, given: dict, round_index: int, count: int) -> dict:
        found = added(self, given, round_index, count)
        noise.append({name: found[name] - given[name] for name in given})
        assert count == users
        return found

    def seen(count: int, sampling: float, words: WordStream) -> np.ndarray:
        drawn.append(draw(count, sampling, words))
        return drawn[-1]

    def kept(algorithm, shared, round_index, cohort):
        noise.clear(), drawn.clear()
        totals = sums(algorithm, shared, round_index, cohort)
        fell = np.flatnonzero(np.concatenate(drawn))
        rounds.append(tuple(fell))
        together = in_process(made, shared, round_index, fell)
        for name, total in totals.items():
            mask = (1 << made.setup.plan.discrete.encoding(round_index, name).bits) - 1
            assert torch.equal((total - sum(each[name] for each in noise)) & mask, together[name])
        return totals

    monkeypatch.setattr(UsersNoise, "added", noted)
    monkeypatch.setattr(coins, "draw", seen)
    made.nodes.clipped_sums = kept
    return rounds
