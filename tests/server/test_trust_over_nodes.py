"""Trust models `local` and `distributed` over nodes with gates: exact sums, dropouts, and servers that cheat."""

import contextlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_client.users_noise import UsersNoise
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger, TooFewNodes
from fedrec_sim.engines.in_process import InProcessFederation
from fedrec_sim.engines.setup import scenario_split

from fedrec import wire
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.data import datasets
from fedrec.errors import FedrecError
from fedrec.federation import exchange
from fedrec.run import masked
from fedrec.run.directory import RunDirectory
from fedrec.run.federation import RoundVoid
from fedrec.run.scenario import load_scenario
from fedrec.secagg import Survivors
from fedrec.wire import Packet
from tests.server.carded import CHANGES, FIRST, Carded
from tests.server.grid_in_memory import MemoryGrid

DISTRIBUTED = ("privacy.trust=distributed", "privacy.colluding=0.0")


def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int = 3) -> Carded:
    made = Carded(tmp_path / "nodes", nodes=count, users=20)
    monkeypatch.setenv(*made.environment())
    return made


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Carded:
    return nodes(tmp_path, monkeypatch)


def answers(carded: Carded, kind: str) -> list[Packet]:
    return [packet for each in carded.answered.values() for packet in each if packet.kind == kind]


def verified(folder: Path) -> dict:
    assert fedrec(["audit", "verify", str(folder), "--trust-run-key"]) == 0
    return json.loads((folder / "release/privacy/statement.json").read_text())


def test_a_node_of_a_local_run_adds_the_noise_itself(tmp_path: Path, carded: Carded) -> None:
    carded.run(tmp_path / "run", ("privacy.trust=local",))
    statement = verified(tmp_path / "run")
    given = answers(carded, exchange.SUMS)
    assert len(given) == 6
    assert all(packet.facts[exchange.NOISED] is True for packet in given)
    server = next(row for row in statement["adversaries"] if row["adversary"] == "server")
    assert server["epsilon"] is not None
    assert not any("before the noise" in line for line in statement["unprotected"])


def test_a_node_of_a_distributed_run_sends_masked_vectors_alone(tmp_path: Path, carded: Carded) -> None:
    carded.run(tmp_path / "run", DISTRIBUTED)
    verified(tmp_path / "run")
    assert not answers(carded, exchange.SUMS)
    assert not answers(carded, exchange.REFUSAL)
    assert len(answers(carded, masked.MASKS)) == 3 * 5 + 3 * 3, "the second round begins with masked vectors"
    assert read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0][0].payload["card"]["roster"]


def test_the_statement_says_up_to_how_many_users_an_operator_is_covered(tmp_path: Path, carded: Carded) -> None:
    """Each of 3 nodes hosts 20 users, and knows their noise: more than the one who counts as colluding."""
    carded.run(tmp_path / "run", DISTRIBUTED)
    lines = [line for line in verified(tmp_path / "run")["not_protected"] if "the operator of a node" in line]
    assert len(lines) == 1
    assert lines[0].endswith("at most 1 users of a round")


@pytest.mark.parametrize("trust", ["local", "distributed"])
@pytest.mark.parametrize("count", [3, 5])
def test_sums_over_nodes_have_the_bits_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: str, count: int
) -> None:
    """With the noise that each node drew taken off, the total is that of all users in one process, modulo 2^b."""
    carded, noise = nodes(tmp_path, monkeypatch, count), []
    exact = UsersNoise.added

    def noted(self: UsersNoise, sums: dict, round_index: int, users: int) -> dict:
        found = exact(self, sums, round_index, users)
        noise.append({name: found[name] - sums[name] for name in sums})
        return found

    monkeypatch.setattr(UsersNoise, "added", noted)
    scenario = load_scenario("quickstart", [*CHANGES, f"engine.nodes={count}", f"privacy.trust={trust}"])
    made = Deployment(scenario, RunDirectory(tmp_path / "run"), Messenger(carded.grid(), poll=0.001))
    found = []
    sums = made.nodes.clipped_sums

    def kept(algorithm, shared, round_index, cohort):
        noise.clear()
        totals = sums(algorithm, shared, round_index, cohort)
        bare = {name: total - sum(each[name] for each in noise) for name, total in totals.items()}
        found.append((shared, round_index, cohort, bare))
        return totals

    made.nodes.clipped_sums = kept
    made.run()
    for shared, round_index, cohort, bare in found:
        together = in_process(made, shared, round_index, cohort)
        for name, total in bare.items():
            bits = made.setup.plan.discrete.encoding(round_index, name).bits
            assert torch.equal(total & ((1 << bits) - 1), together[name])


def in_process(made: Deployment, shared: dict, round_index: int, cohort: np.ndarray) -> dict[str, torch.Tensor]:
    dataset = datasets.load(made.scenario.data, None, made.public_seed)
    split = scenario_split(dataset, made.scenario, "test", made.public_seed)
    federation = InProcessFederation(split.train, made.setup.plan, seed=made.public_seed, batch_users=7)
    return federation.clipped_sums(made.setup.algorithm, shared, round_index, cohort)


@pytest.mark.parametrize(("changes", "why"), [
    ((*DISTRIBUTED, "seed=5"), "leave the seed out"),
    (("privacy.trust=local", "seed=5"), "leave the seed out"),
    ((*DISTRIBUTED, "privacy.aggregator=helper"), "needs a helper"),
    ((*DISTRIBUTED, "engine.nodes=2"), "at least 3 nodes"),
    ((*DISTRIBUTED, "privacy.dropout=0.5"), "no threshold protects a member"),
])  # fmt: skip
def test_what_nodes_do_not_offer_is_refused_in_one_line(tmp_path: Path, carded: Carded, changes, why) -> None:
    with pytest.raises(FedrecError, match=why):
        carded.run(tmp_path / "run", changes)
    assert not (tmp_path / "run").exists()


STAGES = (*masked.STAGES, "nobody")


def dropping(carded: Carded, grid: MemoryGrid, drops: dict[int, str]) -> None:
    """Make nodes silent from a stage on, in each round that `drops` is changed for."""

    def silent(n: int):
        def twist(message, reply):
            stage = wire.from_record(message.content).kind
            late = n in drops and stage in STAGES and STAGES.index(stage) >= STAGES.index(drops[n])
            return None if late else reply

        return twist

    grid.twists = {FIRST + n: silent(n) for n in carded.asked}


@pytest.mark.slow
def test_every_round_is_right_or_void_whatever_nodes_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 nodes, of which each drops with 30 % at a random stage, over 20 rounds.

    In every third round nobody drops, so that the next one has keys that were made ahead.
    """
    carded, random_, drops, exact = nodes(tmp_path, monkeypatch, 16), random.Random(1), {}, UsersNoise.added
    given: dict[int, dict[str, torch.Tensor]] = {}
    grid, tried, begun = carded.grid(), [], []
    dropping(carded, grid, drops)
    changes = (
        "engine.nodes=16", "data.users=80", "algorithm.rounds=22", "privacy.trust=distributed", "privacy.dropout=0.35",
        "privacy.colluding=0.05", "federation.deadline=0.02", "federation.patience=0.02",
    )  # fmt: skip
    scenario = load_scenario("quickstart", [*CHANGES, *changes])
    made = Deployment(scenario, RunDirectory(tmp_path / "run"), Messenger(grid, poll=0.001))
    sums, seen = made.nodes.clipped_sums, {"right": 0, "void": 0}

    def noted(self: UsersNoise, totals: dict, round_index: int, users: int) -> dict:
        found = exact(self, totals, round_index, users)
        asked = [n for n in range(16) if (run := grid.nodes[FIRST + n]._run) is not None and run[1]._noise is self]
        given[asked[0]] = found
        return found

    def kept(algorithm, shared, round_index, cohort):
        given.clear()
        drops.clear()
        tried.append(round_index)
        if len(tried) % 3:
            drops.update({n: random_.choice(masked.STAGES) for n in range(16) if random_.random() < 0.3})
        begun.append(made.nodes._masked.ready is not None)
        sent = [n for n in range(16) if n not in drops or STAGES.index(drops[n]) > STAGES.index(masked.MASKED)]
        try:
            totals = sums(algorithm, shared, round_index, cohort)
        except RoundVoid:
            seen["void"] += 1
            raise
        for name, total in totals.items():
            bits = made.setup.plan.discrete.encoding(round_index, name).bits
            whole = sum(given[n][name] for n in sent) & ((1 << bits) - 1)
            assert torch.equal(total, whole)
        seen["right"] += 1
        return totals

    monkeypatch.setattr(UsersNoise, "added", noted)
    made.nodes.clipped_sums = kept
    made.run()
    entries = read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0]
    charged = sum(entry.payload["type"] == "charge" for entry in entries)
    assert seen["right"] + seen["void"] == charged >= 20
    assert min(seen.values()) > 0
    assert sum(begun) >= 5
    verified(tmp_path / "run")


def plain(packet: Packet) -> Packet:
    return replace(packet, kind=exchange.SUM)


def counted(packet: Packet) -> Packet:
    return replace(packet, facts={**packet.facts, masked.COUNTS: "[2000, 2000, 2000]"})


def others_counted(packet: Packet) -> Packet:
    """The asked node's own number is right; another one claims the noise of more users than the run has."""
    own, *others = json.loads(packet.facts[masked.COUNTS])
    return replace(packet, facts={**packet.facts, masked.COUNTS: json.dumps([own, *others[1:], 2000])})


def own_keys(packet: Packet) -> Packet:
    keys = packet.facts[masked.ROSTER]
    return replace(packet, facts={**packet.facts, masked.ROSTER: keys[:32] + bytes(range(64))})


def fewer(packet: Packet) -> Packet:
    return replace(packet, facts={**packet.facts, masked.MESSAGE: Survivors((0, 1)).encode()})


def other_charge(packet: Packet) -> Packet:
    return replace(packet, facts={**packet.facts, masked.CHARGE: packet.facts[masked.CHARGE] - 1})


@pytest.mark.parametrize(
    ("stage", "attack", "code"),
    [
        (masked.ADVERTISE, plain, "terms"),
        (masked.MASKED, plain, "terms"),
        (masked.ADVERTISE, counted, "roster"),
        (masked.ADVERTISE, others_counted, "roster"),
        (masked.MASKED, counted, "roster"),
        (masked.MASKED, others_counted, "roster"),
        (masked.ADVERTISE, own_keys, "roster"),
        (masked.CONFIRM, fewer, "stage"),
        (masked.UNMASK, other_charge, "stage"),
        (masked.SHARE, other_charge, "stage"),
    ],
)
def test_a_server_that_cheats_gets_a_refusal(tmp_path: Path, carded: Carded, stage: str, attack, code: str) -> None:
    grid, got = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def attacked(packet: Packet) -> Packet:
        if packet.kind == stage and not got:
            got.append(honest(attack(packet)))
        return honest(packet)

    node.answer = attacked
    with contextlib.suppress(FedrecError):  # the node has dropped, or the run has ended
        carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert got[0].facts["code"] == code


@pytest.mark.parametrize("stage", masked.STAGES)
def test_no_stage_is_answered_twice(tmp_path: Path, carded: Carded, stage: str) -> None:
    """A second answer could unmask a second set of survivors, or show two vectors under one mask."""
    grid, again = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def repeated(packet: Packet) -> Packet:
        found = honest(packet)
        if packet.kind == stage and not again:
            again.append(honest(packet))
        return found

    node.answer = repeated
    with contextlib.suppress(FedrecError):
        carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert again[0].facts["code"] == "stage"


def test_a_void_round_is_charged_and_tried_again(tmp_path: Path, carded: Carded) -> None:
    grid, drops = carded.grid(), {1: masked.MASKED}
    dropping(carded, grid, drops)
    seen: list[str] = []

    class Once(Messenger):
        def dropped(self, why: str, group: str, node: int | None = None) -> None:
            seen.append(why)
            drops.clear()
            super().dropped(why, group, node)

    scenario = load_scenario("quickstart", [*CHANGES, "engine.nodes=3", *DISTRIBUTED])
    _, exhausted = Deployment(scenario, RunDirectory(tmp_path / "run"), Once(grid, poll=0.001)).run()
    entries = read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0]
    charged = [entry.payload["round"] for entry in entries if entry.payload["type"] == "charge"]
    assert seen == ["no reply"]
    assert charged == [0, 0, 1][: len(charged)]
    assert len(charged) >= 2
    assert exhausted is not None or charged == [0, 0, 1]
    verified(tmp_path / "run")


def test_a_round_that_stays_void_ends_the_run_and_reveals_nothing(tmp_path: Path, carded: Carded) -> None:
    grid = carded.grid()
    dropping(carded, grid, {2: masked.CONFIRM})
    changes = (*DISTRIBUTED, "algorithm.rounds=8")
    with pytest.raises(RoundVoid, match="void"):
        carded.run(tmp_path / "run", changes, over=grid)
    entries = read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0]
    assert [entry.payload["round"] for entry in entries if entry.payload["type"] == "charge"] == [0, 0, 0]
    assert not list((tmp_path / "run/release/model").glob("*.safetensors"))


def test_a_node_that_restarts_in_a_round_has_dropped_from_it(tmp_path: Path, carded: Carded) -> None:
    grid, got = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def restarted(packet: Packet) -> Packet:
        if packet.kind != masked.MASKED or got:
            return honest(packet)
        fresh = carded.node(0)
        again = [packet for packet in carded.asked[0] if packet.kind == masked.ADVERTISE][-1]
        got.extend(fresh.answer(each) for each in (packet, again))
        return got[0]

    node.answer = restarted
    with contextlib.suppress(FedrecError):
        carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert [answer.facts.get("code") for answer in got] == ["stage", "stage"]


def test_users_of_a_distributed_run_may_be_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carded = nodes(tmp_path, monkeypatch, 4)
    carded.run(tmp_path / "run", (*DISTRIBUTED, "privacy.sampling=0.9", "privacy.dropout=0.25"))
    verified(tmp_path / "run")
    assert len(answers(carded, masked.MASKS)) == 4 * 5 + 4 * 3


def test_a_card_that_promises_larger_sums_than_are_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carded = nodes(tmp_path, monkeypatch, 4)
    monkeypatch.setattr(Deployment, "_minimum_cohort", lambda _: 60)
    with pytest.raises(TooFewNodes, match=r"0 of 4 nodes began .* its policy does not accept"):
        carded.run(tmp_path / "run", (*DISTRIBUTED, "privacy.dropout=0.25"))
    assert set(carded.codes()) == {"terms"}


def test_nodes_whose_processes_end_with_each_message_mask_nothing_among_themselves(
    tmp_path: Path, carded: Carded
) -> None:
    """`--stock`: the first stage's secrets would be gone at the second. No device pays for such a round."""
    grid = carded.grid(kept=False)
    with pytest.raises(FedrecError, match=r"started with --stock, which keeps no secret .* a helper needs none"):
        carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert {packet.facts["code"] for packet in answers(carded, exchange.REFUSAL)} == {"stock"}
    assert not answers(carded, masked.MASKS)
