"""`fedrec bench dropping`: nodes drop as stated, and each total is compared with the plain sum."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from fedrec_server.process.run_client import RunFailed
from fedrec_sim.benchmarks import dropping
from fedrec_sim.benchmarks.dropping import Dropping
from fedrec_sim.benchmarks.dropping_app import HELPED_STAGES, Dropped, Drops

from fedrec.cli import run
from fedrec.run import masked

FOUND = Dropping(16, "peers", 20, 17, 0, 4, 61, True, 300.5, {"link": 20.4}, {"link": 180.2})


def answered(drops: Drops, kinds: tuple[str, ...]) -> list[str]:
    found = []
    for kind in kinds:
        try:
            drops.check(kind)
        except Dropped:
            continue
        found.append(kind)
    return found


def test_a_node_drops_in_the_stated_share_of_rounds_at_any_stage_and_stays_away() -> None:
    drops, lengths = Drops(0.3, random.Random(2)), []
    for _ in range(2000):
        found = answered(drops, masked.STAGES)
        assert found == list(masked.STAGES[: len(found)])
        lengths.append(len(found))
    counts = np.bincount(lengths, minlength=6) / 2000
    assert counts[5] == pytest.approx(0.7, abs=0.04)
    assert all(count == pytest.approx(0.06, abs=0.025) for count in counts[:5])


def test_a_round_of_keys_made_ahead_begins_with_the_masked_vector() -> None:
    drops = Drops(0.5, random.Random(3))
    rounds = [answered(drops, masked.STAGES[2:]) for _ in range(400)]
    assert {len(found) for found in rounds} == {0, 1, 2, 3}
    assert answered(Drops(1.0, random.Random(1)), ("hello", "sum")) == ["hello", "sum"]


def test_with_a_helper_a_node_drops_before_it_computes_or_after() -> None:
    drops = Drops(0.3, random.Random(4))
    lengths = [len(answered(drops, HELPED_STAGES)) for _ in range(2000)]
    assert np.bincount(lengths) / 2000 == pytest.approx([0.15, 0.15, 0.7], abs=0.03)


def test_another_aggregator_is_refused_in_one_line(capsys) -> None:
    assert run(["bench", "dropping", "--aggregator", "third"]) == 2
    assert "--aggregator third: one of peers, helper" in capsys.readouterr().err


@pytest.mark.parametrize("change", [0, 1])
def test_a_total_that_is_not_the_plain_sum_is_wrong(tmp_path: Path, change: int) -> None:
    parts = {0: [1, 250, 3], 2: [4, 9, 6]}
    for member, part in parts.items():
        np.save(tmp_path / f"vector-7-{member}.npy", np.array(part, np.uint32))
    vector = np.array([5, 3 + change, 9], np.uint32)
    np.savez(tmp_path / "total-7.npz", vector=vector, survivors=np.array([0, 2]), ahead=True, bits=8)
    assert dropping.compared(tmp_path, 3) == (1 - change, change, 1, 1)


@pytest.mark.parametrize(("wrong", "verified", "code"), [(0, True, 0), (1, True, 1), (0, False, 1)])
def test_what_a_person_reads(monkeypatch, capsys, wrong: int, verified: bool, code: int) -> None:
    found = Dropping(**{**vars(FOUND), "wrong": wrong, "verified": verified})
    monkeypatch.setattr(dropping, "measure", lambda *_: found)
    assert run(["bench", "dropping"]) == code
    out = capsys.readouterr().out
    assert f"16 nodes, 20 rounds: 17 right, {wrong} wrong, {3 - wrong} void" in out
    assert "link                       180 MB, 20 s of CPU" in out
    assert run(["bench", "dropping", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["void"] == 3 - wrong


@pytest.mark.slow
@pytest.mark.parametrize("aggregator", ["peers", "helper"])
def test_totals_of_real_nodes_that_drop_are_right(aggregator: str) -> None:
    found = dropping.measure(4, 4, 0.15, aggregator, 20, lambda _: None)
    assert ("helper" in found.memory_mb) == (aggregator == "helper")
    assert found.wrong == 0
    assert found.verified
    assert found.right + found.void == found.charges >= 3
    assert found.right >= 1


@pytest.mark.parametrize(("codes", "resumed"), [([5, 5, 0], 2), ([5, 3], 1), ([0], 0)])
def test_a_round_that_too_few_nodes_began_is_resumed(monkeypatch, codes: list[int], resumed: int) -> None:
    asked = _stops_with(monkeypatch, codes)
    dropping._follow(None, {"out": "run"}, lambda _: None, 4)
    assert [config["resume"] for config in asked] == [False] + [True] * resumed


@pytest.mark.parametrize(("codes", "asked"), [([1], 1), ([5] * 9, 5)])
def test_another_failure_or_too_many_stops_end_the_measurement(monkeypatch, codes: list[int], asked: int) -> None:
    found = _stops_with(monkeypatch, codes)
    with pytest.raises(RunFailed, match="stopped"):
        dropping._follow(None, {"out": "run"}, lambda _: None, 4)
    assert len(found) == asked


def _stops_with(monkeypatch, codes: list[int]) -> list[dict]:
    asked: list[dict] = []

    class Stopping:
        def __init__(self, state, config, on_event, apps) -> None:
            asked.append(config)

        def follow(self) -> None:
            if code := codes[len(asked) - 1]:
                raise RunFailed(code, "stopped")

    monkeypatch.setattr(dropping, "RunClient", Stopping)
    return asked
