"""The whole way of a private vector: clip, encode, noise share, mask, sum, read. Both aggregators, with dropouts."""

from typing import Literal

import numpy as np
import pytest

from fedrec.privacy.discrete.encoding import rotated
from fedrec.privacy.discrete.rounding import users_draws
from fedrec.privacy.discrete.skellam import skellam
from fedrec.privacy.discrete.stream import WordStream
from fedrec.secagg.in_memory import aggregate_in_memory
from fedrec.secagg.outcome import Total
from fedrec.secagg.peer_client import Stage

USERS, SIZE, LONGEST = 12, 200, 2.0**30


@pytest.mark.parametrize("aggregator", ["peers", "helper"])
def test_the_unmasked_sum_is_the_sum_of_noisy_integers(aggregator: Literal["peers", "helper"]) -> None:
    made = rotated(SIZE, USERS, 1.0, label="joined")
    share = made.squared / (USERS - 2)
    whole = np.trunc(np.random.default_rng(0).normal(0, LONGEST / SIZE, (USERS, SIZE)))
    integers = made.rotated(whole, LONGEST, [users_draws(0, 0, "joined", user) for user in range(USERS)])
    noise = np.stack([skellam(share, made.dimension, WordStream(bytes(32), str(user))) for user in range(USERS)])
    sent = {user: made.sent(integers[user], noise[user]).astype(np.uint32) for user in range(USERS)}
    gone = {3: Stage.MASK}
    found = aggregate_in_memory(sent, made.bits, aggregator=aggregator, dropouts=gone)
    assert isinstance(found, Total)
    kept = list(found.survivors)
    assert kept == [user for user in range(USERS) if user not in gone]
    assert np.array_equal(made.read(found.vector.astype(np.int64)), (integers + noise)[kept].sum(0))
    error = made.decoded(made.read(found.vector.astype(np.int64))) - whole[kept].sum(0) / LONGEST
    assert np.abs(error).max() < 6 * np.sqrt(len(kept) * share) / made.length
