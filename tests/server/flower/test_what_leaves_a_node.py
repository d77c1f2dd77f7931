"""Every byte that leaves a node through whole runs, searched for what must not leave."""

import json
import struct

import numpy as np
import pytest
import torch
from fedrec_client.hosted_data import Hosted

from fedrec.evaluation.private import PrivateEvaluation
from fedrec.privacy.plan import PrivacyConfig
from fedrec.run.coordinator import Coordinator
from tests.server.deployed import SETTINGS, Deployed, deployed, hosted

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-4, evaluation_share=0.1)
SHORTEST = 3
"""Items or numbers in a row that are looked for: fewer could stand in any bytes by chance."""


def forms(items: np.ndarray) -> list[bytes]:
    """A history in the ways that one could write it."""
    rows = [items.astype(kind).tobytes() for kind in ("<i2", "<i4", "<i8", ">i4", "<f4", "<f8")]
    texts = [
        ", ".join(map(str, items)),
        ",".join(map(str, items)),
        " ".join(map(str, items)),
        json.dumps(items.tolist()),
    ]
    return rows + [text.encode() for text in texts]


def varints(items: np.ndarray) -> bytes:
    """Pack small integers as protobuf does."""
    return bytes(b for i in items.tolist() for b in ([i] if i < 128 else [i & 127 | 128, i >> 7]))


def windows(values: np.ndarray) -> list[bytes]:
    """Return the first numbers in a row with information: not zero, and not all equal."""
    rows = (values[start : start + SHORTEST] for start in range(min(40, len(values) - SHORTEST + 1)))
    return [row.tobytes() for row in rows if row.all() and len(set(row.tolist())) > 1]


def found(needles: list[bytes], sent: list[bytes]) -> bool:
    return any(needle in message for needle in needles if len(needle) >= 6 for message in sent)


def recorded(name: str) -> Deployed:
    made = deployed(3, name, PRIVACY)
    made.shared = Coordinator(made.algorithm, made.federation, made.plan).run().shared
    return made


def batches(places: list[Hosted]):
    for place in places:
        yield from ((place, user) for user in range(len(place.source)))


@pytest.mark.parametrize("name", SETTINGS)
def test_no_history_user_vector_or_metric_of_a_user_leaves(name) -> None:
    made = recorded(name)
    sent = made.grid.up
    assert len(sent) == 3 + 3 * made.algorithm.rounds
    for place, user in batches(hosted(3)):
        items = place.source.row(user)
        starts = range(len(items) - SHORTEST + 1)
        needles = [form for start in starts for form in forms(items[start : start + SHORTEST])]
        assert not found([*needles, varints(items)], sent)
        batch = place.source.batch(np.array([user]), seed=5)
        inner = made.algorithm.inner if isinstance(made.algorithm, PrivateEvaluation) else made.algorithm
        for tensor in made.algorithm.release(made.shared).fit(batch).values():
            values = tensor.flatten()
            for dtype in (torch.float32, torch.float64):
                if tensor.dtype.is_floating_point:
                    assert not found(windows(values.to(dtype).contiguous().numpy()), sent)
        metrics = made.algorithm.contribute(made.shared, batch, inner.rounds)["evaluation"].dense(0)
        if 0 < float(metrics[1]) < 1:
            assert not found([metrics.numpy().tobytes(), struct.pack("<3d", *metrics.tolist())], sent)


def test_the_search_finds_what_it_looks_for() -> None:
    items = max((place.source.row(user) for place, user in batches(hosted(3))), key=len)
    for form in [*forms(items[:SHORTEST]), varints(items)]:
        assert found([form], [b"before" + form + b"after"])


def test_all_that_leaves_is_sums_and_presence() -> None:
    made = recorded("als")
    rounds = map(made.algorithm.queries, range(made.algorithm.rounds))
    largest = max(sum(query.size * 8 for query in queries) for queries in rounds)
    assert max(map(len, made.grid.up)) < largest + 1000
    assert min(map(len, made.grid.up)) < 400
