"""A helper as a process behind TLS that is killed in the middle of rounds whose nodes drop: right or void."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fedrec_client.run_gate import Pins
from fedrec_client.users_noise import UsersNoise
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger
from fedrec_server.helper.keys import read_public
from fedrec_server.helper.link import HelperLink
from fedrec_server.helper.messages import HelperAnswer, RoundRequest

from fedrec.audit.log.keys import default_key
from fedrec.run.directory import RunDirectory
from fedrec.run.federation import RoundVoid
from fedrec.run.scenario import load_scenario
from fedrec.secagg import OpenRequest
from fedrec.transport.processes import free_port
from fedrec.transport.state import State
from fedrec.wire import Packet
from tests.server.carded import CHANGES, FIRST, Carded
from tests.server.test_helper_over_nodes import charges, verified

NODES, DROPS, KILLS = 16, 0.3, 0.5


CURRENT = [-1]
"""The node that computes."""


class Killable:
    """A helper's process; who starts it again after a kill is a supervisor."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.kills = folder, free_port(), 0
        self.start()
        while (facts := State(folder).running()) is None:
            time.sleep(0.05)
        self.address = facts["address"]

    def start(self) -> None:
        command = [sys.executable, "-m", "fedrec.cli", "helper", "start", str(self.folder)]
        with (self.folder.parent / "helper.log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--listen", f"127.0.0.1:{self.port}"], stderr=log)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.kills += 1
        self.start()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)


class Disturbed(HelperLink):
    """The server's way to a helper that is killed before, while or after it opens."""

    def __init__(self, helper: Killable, drawn: random.Random) -> None:
        super().__init__(helper.address, read_public(helper.folder / "helper.pub"))
        self._helper, self._drawn = helper, drawn
        self.survivors: list[int] = []

    def open(self, asked: RoundRequest, until: float) -> HelperAnswer:
        killer = threading.Timer(self._drawn.uniform(0, 0.05), self._helper.kill)
        hit = self._drawn.random() < KILLS
        self.survivors = [seed.sender for seed in OpenRequest.decode(asked.opening).seeds]
        if hit:
            killer.start()
        try:
            return super().open(asked, until)
        finally:
            if hit:
                killer.join()


@pytest.mark.slow
def test_every_round_is_right_or_void_whatever_drops_and_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 nodes, of which each drops with 30 %, over 20 rounds; the helper is killed in more than half of them."""
    drawn, helper = random.Random(3), Killable(tmp_path / "helper")
    try:
        seen = rounds(tmp_path, monkeypatch, drawn, helper)
    finally:
        helper.end()
    assert seen["right"] + seen["void"] == len(charges(tmp_path / "run")) >= 20
    assert min(seen.values()) > 0
    assert helper.kills >= 3
    verified(tmp_path / "run")


def answering(n: int, answer: Callable[[Packet], Packet]) -> Callable[[Packet], Packet]:
    def noted(packet: Packet) -> Packet:
        CURRENT[0] = n
        return answer(packet)

    return noted


def rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: random.Random, helper: Killable) -> dict[str, int]:
    link = Disturbed(helper, random.Random(drawn.random()))
    pins = Pins((default_key().public.text,), helpers=(link.named.key.text,))
    carded = Carded(tmp_path / "nodes", nodes=NODES, users=20, pins=pins)
    monkeypatch.setenv(*carded.environment())
    grid, silent, exact = carded.grid(), set(), UsersNoise.added
    given: dict[int, dict[str, torch.Tensor]] = {}
    for n in range(NODES):
        grid.nodes[FIRST + n].answer = answering(n, grid.nodes[FIRST + n].answer)
        grid.twists[FIRST + n] = lambda message, reply, n=n: (
            None if n in silent and message.metadata.message_type == "train" else reply
        )
    changes = (
        f"engine.nodes={NODES}", "data.users=80", "algorithm.rounds=22", "privacy.trust=distributed",
        "privacy.dropout=0.4", "privacy.colluding=0.05", "federation.deadline=1", "federation.patience=120",
    )  # fmt: skip
    scenario = load_scenario("quickstart", [*CHANGES, *changes])
    made = Deployment(scenario, RunDirectory(tmp_path / "run"), Messenger(grid, poll=0.001), helper=link)
    sums, seen = made.nodes.clipped_sums, {"right": 0, "void": 0}

    def noted(self: UsersNoise, totals: dict, round_index: int, users: int) -> dict:
        given[CURRENT[0]] = exact(self, totals, round_index, users)
        return given[CURRENT[0]]

    def kept(algorithm, shared, round_index, cohort):
        given.clear()
        silent.clear()
        silent.update(n for n in range(NODES) if drawn.random() < DROPS)
        try:
            totals = sums(algorithm, shared, round_index, cohort)
        except RoundVoid:
            seen["void"] += 1
            raise
        assert not silent & set(link.survivors)
        for name, total in totals.items():
            bits = made.setup.plan.discrete.encoding(round_index, name).bits
            whole = sum(given[n][name] for n in link.survivors) & ((1 << bits) - 1)
            assert torch.equal(total, whole), "a total that is not the sum of the nodes that stayed"
        seen["right"] += 1
        return totals

    monkeypatch.setattr(UsersNoise, "added", noted)
    made.nodes.clipped_sums = kept
    made.run()
    return seen
