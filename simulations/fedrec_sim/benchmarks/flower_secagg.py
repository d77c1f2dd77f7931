"""The primitives of Flower's SecAgg+ for the same work: keys, shares, masks and sums, as its own workflow calls them.

Source: flwr 1.41, `secaggplus_mod` and `secaggplus_workflow`. They run with Flower's legacy context alone, so their
calls are measured one by one, and a round's cost is the sum over its calls. Its masks come from 32 bits of seed: the
work is the same, the protection is not.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedrec_sim.benchmarks.secagg import Cost

_RANGE = 1 << 32


@dataclass(frozen=True)
class Calls:
    """CPU seconds of one call each. `agree` reads the keys, `seal` is one decryption, and `add` makes the mask, too."""

    keys: float
    split_seed: float
    split_key: float
    combine_seed: float
    combine_key: float
    agree: float
    seal: float
    add: float
    reduce: float


def calls(length: int, neighbours: int, threshold: int) -> Calls:
    """Measure every call once warm. Raises: ModuleNotFoundError without `flwr`."""
    from flwr.common.secure_aggregation import ndarrays_arithmetic as arithmetic
    from flwr.common.secure_aggregation.crypto import shamir, symmetric_encryption
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
    from flwr.supercore.primitives import asymmetric

    private, public = asymmetric.generate_key_pairs()
    own, other = asymmetric.private_key_to_bytes(private), asymmetric.public_key_to_bytes(public)
    vector = [np.zeros(length, np.int64)]

    def agree() -> bytes:
        return symmetric_encryption.generate_shared_key(
            asymmetric.bytes_to_private_key(own), asymmetric.bytes_to_public_key(other)
        )

    key = agree()
    seeds, keys = (shamir.create_shares(secret, threshold, neighbours) for secret in (bytes(32), own))
    sealed = symmetric_encryption.encrypt(key, bytes(200))
    return Calls(
        keys=_seconds(asymmetric.generate_key_pairs),
        split_seed=_seconds(lambda: shamir.create_shares(bytes(32), threshold, neighbours), 1),
        split_key=_seconds(lambda: shamir.create_shares(own, threshold, neighbours), 1),
        combine_seed=_seconds(lambda: shamir.combine_shares(seeds[:threshold]), 1),
        combine_key=_seconds(lambda: shamir.combine_shares(keys[:threshold]), 1),
        agree=_seconds(agree),
        seal=_seconds(lambda: symmetric_encryption.decrypt(key, sealed)),
        add=_seconds(lambda: arithmetic.parameters_addition(vector, pseudo_rand_gen(key, _RANGE, [(length,)])), 3),
        reduce=_seconds(lambda: arithmetic.parameters_mod(vector, _RANGE), 3),
    )


def client(length: int, cohort: int, neighbours: int, one: Calls) -> Cost:
    """Compose a member's round: two key pairs, two secrets shared, two agreements and a mask for each neighbour."""
    seconds = 2 * one.keys + one.split_seed + one.split_key + one.add + one.reduce
    seconds += neighbours * (2 * one.agree + 2 * one.seal + one.add)
    return Cost("client", "flower", cohort, neighbours, length, seconds, 8 * length, None, composed=True)


def server(length: int, cohort: int, neighbours: int, dropped: int, one: Calls) -> Cost:
    """Compose the server's round: a secret and a mask for each survivor, `neighbours` masks for each dropped member."""
    of_dropped = dropped * (one.combine_key + neighbours * (one.agree + one.add))
    seconds = (cohort - dropped) * (one.combine_seed + one.add) + of_dropped + one.reduce
    up = (cohort - dropped) * 8 * length
    return Cost("server", "flower", cohort, neighbours, length, seconds, up, None, composed=True)


def _seconds(work: Callable[[], Any], times: int = 20) -> float:
    work()
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times
