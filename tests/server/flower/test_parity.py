"""The same run over nodes and in one process ends with the same model: one node, three, four; noise or none."""

import math

import pytest

from fedrec.algorithms import kernel_rank
from fedrec.algorithms.kernel_rank_plan import AGAIN, ALL, NEVER
from fedrec.privacy.plan import PrivacyConfig
from fedrec.testing.other_device import needs_other_device, other_device
from tests.server.deployed import SETTINGS, deployed, difference, in_process

SEEN = {
    "no privacy": PrivacyConfig(epsilon="none"),
    "noise": PrivacyConfig(epsilon=4.0, delta=1e-4),
    "Poisson": PrivacyConfig(epsilon=4.0, delta=1e-4, sampling=0.5),
    "distributed": PrivacyConfig(epsilon=4.0, delta=1e-4, trust="distributed"),
    "local": PrivacyConfig(epsilon=4.0, delta=1e-4, trust="local"),
    "secret coins": PrivacyConfig(epsilon=4.0, delta=1e-4, trust="distributed", sampling=0.4, participation="hidden"),
    "private metrics": PrivacyConfig(epsilon=4.0, delta=1e-4, evaluation_share=0.1),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("privacy", SEEN)
def test_nodes_end_with_the_bits_of_one_process(name, privacy) -> None:
    """However many nodes the users are spread over: sums are exact, and a user's part is the user's own."""
    together = in_process(name, SEEN[privacy])
    for nodes in (1, 3, 4):
        assert difference(deployed(nodes, name, SEEN[privacy]).run(), together) == 0


@pytest.mark.parametrize("least", [0.0, math.inf], ids=["pairs", "popularity again"])
def test_server_and_nodes_agree_on_what_a_round_asks_for(least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kernel-rank` chooses from what was released; its nodes compute the sum that the state names."""
    monkeypatch.setitem(SETTINGS, "kernel-rank", {"rounds": 3, "head_items": 20})
    monkeypatch.setattr(kernel_rank, "LEAST_LIFT", least)
    privacy = PrivacyConfig(epsilon=40.0, delta=1e-4)
    together = in_process("kernel-rank", privacy)
    assert float(together[AGAIN]) == (ALL if least else NEVER)
    assert difference(deployed(3, "kernel-rank", privacy).run(), together) == 0


@needs_other_device
@pytest.mark.parametrize("name", ["kernel-rank", "tower-sgd"])
def test_nodes_may_compute_on_another_device(name: str) -> None:
    with other_device() as device:
        found = deployed(3, name, SEEN["noise"], device=device).run()
    assert {tensor.device.type for tensor in found.values()} == {"cpu"}  # the server's own
    assert difference(found, in_process(name, SEEN["noise"])) < 1e-3
