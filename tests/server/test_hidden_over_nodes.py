"""Hidden participation over nodes with gates: exact sums, one price, and servers that try to learn a coin."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_client import coins
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import DeviceLedger
from fedrec_client.consent.policy import PeriodPolicy, Policy, RunPolicy
from fedrec_client.node import COMPUTED
from fedrec_client.users_noise import UsersNoise
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger

from fedrec.errors import FedrecError
from fedrec.federation import exchange
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.integers import EncodedIntegers
from fedrec.run import masked
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from fedrec.wire import Packet
from tests.server.carded import CHANGES, FIRST, Carded
from tests.server.grid_in_memory import MemoryGrid
from tests.server.hidden_rounds import compared
from tests.server.test_trust_over_nodes import answers, verified

HIDDEN = ("privacy.participation=hidden", "privacy.sampling=0.4")
POLICY = Policy(
    run=RunPolicy(minimum_cohort=1, delta=1e-2, repeats=5, epsilon=50.0), period=PeriodPolicy(epsilon=100.0)
)
TRUST = {"local": ("privacy.trust=local",), "distributed": ("privacy.trust=distributed", "privacy.colluding=0.0")}
KIND = {"local": exchange.SUM, "distributed": masked.MASKED}


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Carded:
    made = Carded(tmp_path / "nodes", nodes=3, users=20)
    monkeypatch.setenv(*made.environment())
    return made


ADAPTIVE = ("privacy.clipping.adaptive=true", "privacy.clipping.rate=1.0")


@pytest.mark.parametrize(
    ("trust", "more"),
    [
        *((trust, ()) for trust in TRUST),
        *(pytest.param(trust, ADAPTIVE, marks=pytest.mark.slow, id=f"{trust}-adaptive") for trust in TRUST),
    ],
)
def test_sums_are_those_of_one_process_with_the_same_coins(
    tmp_path: Path, carded: Carded, monkeypatch: pytest.MonkeyPatch, trust: str, more: tuple[str, ...]
) -> None:
    """With the nodes' noise taken off, the total is that of the users whose coin fell, modulo 2^b."""
    scenario = load_scenario("quickstart", [*CHANGES, "engine.nodes=3", *TRUST[trust], *HIDDEN, *more])
    made = Deployment(scenario, RunDirectory(tmp_path / "run"), Messenger(carded.grid(), poll=0.001))
    rounds = compared(made, monkeypatch, users=20)
    made.run()
    assert len(set(rounds)) == len(rounds) == 2
    assert all(0 < len(fell) < 60 for fell in rounds)
    statement = verified(tmp_path / "run")
    server = next(row for row in statement["adversaries"] if row["adversary"] == "server")
    assert "amplified by sampling" in server["why"]
    for each in carded.asked.values():
        questions = [packet for packet in each if packet.kind in (KIND[trust], masked.ADVERTISE)]
        assert questions
        assert all(packet.facts["everybody"] is True and "cohort" not in packet.tensors for packet in questions)


def shape_of(packet: Packet) -> object:
    """What a network sees of an answer but the random bits: kinds, names and sizes."""
    facts = {name: sized(name, value) for name, value in packet.facts.items()}
    return packet.kind, facts, {name: (each.shape, each.dtype) for name, each in packet.tensors.items()}


def sized(name: str, value: object) -> object:
    """Length of a fact without signatures of node keys, whose encoding varies in length by chance."""
    if name == exchange.MASKS_SIGNATURE or not isinstance(value, str | bytes):
        return value if isinstance(value, bool | int) else 0
    return len(value.partition("\n\n")[0]) if name == exchange.RECEIPT and isinstance(value, str) else len(value)


def left_by(folder: Path) -> dict[str, object]:
    """What a run left on the nodes' disks: files, their sizes, and what the device ledgers say."""
    found: dict[str, object] = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        where, lines = path.parent.relative_to(folder), path.read_text(errors="replace").splitlines()
        if path.suffix in (".receipts", ".key", ".card") or path.name == "limits.json":  # with signatures, or before it
            found[f"{where}/{path.suffix or path.name}"] = len(lines)
        elif path.suffix == ".jsonl":
            charges = [each for line in lines if (each := json.loads(line))["kind"] == "charge"]
            kept = ("round", "gaussian", "renyi", "paid", "gave", "rows", "epsilon")
            found[str(where)] = [{name: each[name] for name in kept if name in each} for each in charges]
            found[f"{where}/kinds"] = [json.loads(line)["kind"] for line in lines]
            found[f"{where}/size"] = path.stat().st_size
        else:
            found[f"{where}/{'' if where.name == 'masks' else path.suffix}"] = path.stat().st_size
    return found


def recorded(made: Carded) -> MemoryGrid:
    """Nodes with device ledgers."""
    grid = made.grid()
    for n in range(made.nodes):
        path = made.folder / f"node{n}" / "own" / "device-ledger.jsonl"
        grid.nodes[FIRST + n]._consent = Consent(POLICY, DeviceLedger(path, POLICY), COMPUTED)
    return grid


@pytest.mark.parametrize("trust", TRUST)
def test_nothing_that_leaves_or_stays_depends_on_the_coins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trust: str
) -> None:
    """Two runs, one whose coins all fall and one whose coins all do not: sizes, files, logs and work are equal."""
    seen, exact = {}, EncodedIntegers.add
    for side, fell in (("real", True), ("zero", False)):
        made, work = Carded(tmp_path / side, nodes=3, users=20), []

        def counted(self, total, query, round_index, contribution, weights, keys, work=work):
            work.append((query.name, round_index, int((weights != 0).sum())))
            exact(self, total, query, round_index, contribution, weights, keys)

        with monkeypatch.context() as patched:
            patched.setenv(*made.environment())
            patched.setattr(coins, "draw", lambda users, sampling, words, fell=fell: np.full(users, fell))
            patched.setattr(EncodedIntegers, "add", counted)
            caplog.clear()
            with contextlib.suppress(FedrecError):
                made.run(tmp_path / f"{side}-run", (*TRUST[trust], *HIDDEN), over=recorded(made))
        encoded: dict[tuple[str, int], int] = {}
        for name, number, users in work:
            encoded[name, number] = encoded.get((name, number), 0) + users
        seen[side] = (
            {n: [shape_of(packet) for packet in each] for n, each in made.answered.items()},
            left_by(tmp_path / side),
            sorted(record.getMessage() for record in caplog.records if record.name.startswith("fedrec.node")),
            (len(work), encoded),
        )
    for real, zero in zip(seen["real"], seen["zero"], strict=True):
        assert real == zero
    _, left, _, (_, encoded) = seen["real"]
    assert set(encoded.values()) == {60}
    charges = left["node0/own"]
    assert [charge["gave"] for charge in charges] == ["all", "all"]


@pytest.mark.parametrize("trust", TRUST)
def test_a_server_that_leaves_users_out_learns_no_coin(tmp_path: Path, carded: Carded, trust: str) -> None:
    """Sums of two cohorts that differ by one user would show this user's message."""
    grid, got = carded.grid(), []
    node = grid.nodes[FIRST]
    honest, first = node.answer, exchange.SUM if trust == "local" else masked.ADVERTISE

    def attacked(packet: Packet) -> Packet:
        if packet.kind == first and not got and packet.facts["everybody"] is True:
            asked = exchange.ask_sum("", "", 0, {}, {}, np.arange(19), 20)
            got.append(honest(replace(packet, facts={**packet.facts, "everybody": False}, tensors={
                **packet.tensors, **asked.tensors,
            })))  # fmt: skip
        return honest(packet)

    node.answer = attacked
    with contextlib.suppress(FedrecError):
        carded.run(tmp_path / "run", (*TRUST[trust], *HIDDEN), over=grid)
    assert got[0].facts["code"] == "cohort"


def test_the_same_question_gets_the_same_coins_and_a_restarted_node_pays_for_new_ones(
    tmp_path: Path, carded: Carded, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, drawn, draw, got = recorded(carded), [], coins.draw, []
    node = grid.nodes[FIRST]
    honest = node.answer

    def seen(users: int, sampling: float, words: WordStream) -> np.ndarray:
        drawn.append(draw(users, sampling, words))
        return drawn[-1]

    def repeated(packet: Packet) -> Packet:
        found = honest(packet)
        if packet.kind == exchange.SUM and packet.round == 0 and not got and found.kind == exchange.SUMS:
            before, paid = len(drawn), charges()
            got.append(honest(packet))
            assert (len(drawn), charges()) == (before, paid)
            assert all(torch.equal(got[0].tensors[name], each) for name, each in found.tensors.items())
            node._given = None  # as after a restart
            got.append(honest(packet))
            assert (len(drawn), charges()) == (before + 1, paid + 1)
            assert any(not torch.equal(got[1].tensors[name], each) for name, each in found.tensors.items())
        return found

    def charges() -> int:
        lines = (carded.folder / "node0" / "own" / "device-ledger.jsonl").read_text().splitlines()
        return sum(json.loads(line)["kind"] == "charge" for line in lines)

    monkeypatch.setattr(coins, "draw", seen)
    node.answer = repeated
    carded.run(tmp_path / "run", (*TRUST["local"], *HIDDEN), over=grid)
    assert len(got) == 2


def test_a_card_and_a_description_that_differ_in_who_contributes_are_refused(
    tmp_path: Path, carded: Carded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that tells the card one thing and the run's description another one could price what is not hidden."""
    monkeypatch.setattr(UsersNoise, "hidden", property(lambda self: False))
    with contextlib.suppress(FedrecError):
        carded.run(tmp_path / "run", (*TRUST["local"], *HIDDEN))
    assert set(carded.codes()) == {"terms"}
    assert not answers(carded, exchange.SUMS)


def test_a_coin_falls_with_its_probability_and_never_above_it() -> None:
    fell = coins.draw(200_000, 0.3, WordStream.seeded("coins"))
    assert abs(fell.mean() - 0.3) < 5 * np.sqrt(0.21 / len(fell))
    assert not coins.draw(1000, 2.0**-54, WordStream.seeded("rare")).any()
    again = coins.draw(200_000, 0.3, WordStream.seeded("others"))
    assert abs((fell & again).mean() - 0.09) < 5 * np.sqrt(0.09 * 0.91 / len(fell))
