"""Attacks on a device's ledger: by the server, by anyone who has its files, by the clock, and by a kill at any byte."""

import json
import os
import random
import shutil
import signal
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fedrec_client.consent import chain
from fedrec_client.consent.answering import Answer, Reason
from fedrec_client.consent.policy import PeriodPolicy, Policy, RunPolicy
from fedrec_client.consent.spending import Cost, epsilon

from fedrec.errors import VerificationError
from tests.client.consent.runs import run
from tests.client.consent.test_device_ledger import SMALL, ask, ledger, lines

DAY = 86400


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    now = [1_800_000_000.0]
    monkeypatch.setattr(chain.time, "time", lambda: now[0])
    return now


def test_a_thousand_small_runs_meet_one_limit(tmp_path: Path) -> None:
    made, given = ledger(tmp_path, SMALL), 0
    for number in range(1000):
        given += ask(made, run(f"run-{number}", count=1, noise=12.0), 0).give[0]
        if number - given > 5:
            break
    assert 0 < given < number
    assert epsilon(Cost.of_gaussians([12.0] * given), 1e-5) <= 2.0


def test_the_period_ends_by_time_alone(tmp_path: Path, clock) -> None:
    made = ledger(tmp_path, SMALL)
    first = 0
    while ask(made, run(f"a-{first}"), 0).give[0]:
        first += 1
    clock[0] += 89 * DAY
    assert not ask(made, run("b"), 0).give[0]
    clock[0] += 2 * DAY
    again = 0
    while ask(made, run(f"c-{again}"), 0).give[0]:
        again += 1
    assert again == first


def test_a_clock_set_back_gives_nothing_back(tmp_path: Path, clock) -> None:
    made = ledger(tmp_path, SMALL)
    while ask(made, run(str(clock[0])), 0).give[0]:
        clock[0] += 1
    clock[0] -= 365 * DAY
    for fresh in (made, ledger(tmp_path, SMALL)):
        assert not ask(fresh, run("back"), 0).give[0]
    times = [json.loads(line)["time"] for line in made.path.read_text().splitlines()]
    assert times == sorted(times)


def test_a_run_without_a_card_is_counted_by_its_description_as_long_as_a_run_may_last(tmp_path: Path, clock) -> None:
    policy = Policy(run=RunPolicy(epsilon=2.0, days=30), period=PeriodPolicy(epsilon=9.0, days=90))
    made = ledger(tmp_path, policy)
    first = sum(ask(made, run(), 0).give[0] for _ in range(20))
    assert 0 < first < 20
    clock[0] += 31 * DAY
    assert sum(ask(made, run(), 0).give[0] for _ in range(20)) == first


def test_a_card_s_expiry_is_measured_by_the_latest_time_seen(tmp_path: Path, clock) -> None:
    made = ledger(tmp_path)
    terms = run(carded=True, expires=clock[0] + 10)
    assert ask(made, terms, 0).answer is Answer.GIVE
    clock[0] += 20
    assert ask(made, run("other"), 0).answer is Answer.GIVE
    clock[0] -= 15
    assert ask(made, terms, 1).answer is Answer.REFUSE


def blocked(folder: Path, clock, policy: Policy = Policy()) -> None:
    """Nothing is given until the period after the last known time has ended, and no run of before goes on."""
    made = ledger(folder, policy)
    verdict = ask(made, run("new", count=5), 0)
    assert verdict.answer is Answer.GIVE
    assert verdict.give.tolist() == [False]
    assert verdict.reasons == {Reason.RESTORED: 1}
    assert len(lines(made, "gap")) == 1
    assert not ask(ledger(folder, policy), run("new", count=5), 1).give[0]
    assert len(lines(made, "gap")) == 1
    clock[0] += policy.period.days * DAY + 1
    assert ask(ledger(folder, policy), run("later"), 0).give[0]


def test_yesterday_s_copy_is_noticed_and_counts_as_spent_in_full(tmp_path: Path, clock) -> None:
    made, terms = ledger(tmp_path), run(count=5, carded=True)
    ask(made, terms, 0)
    shutil.copytree(tmp_path / "node", tmp_path / "backup")
    ask(made, terms, 1)
    shutil.rmtree(tmp_path / "node")
    shutil.copytree(tmp_path / "backup", tmp_path / "node")
    blocked(tmp_path, clock)
    assert not ask(ledger(tmp_path), terms, 2).give[0]


def test_a_copy_put_back_under_a_running_node_is_noticed(tmp_path: Path, clock) -> None:
    made, terms = ledger(tmp_path), run(count=5, carded=True)
    ask(made, terms, 0)
    before = made.path.read_bytes()
    ask(made, terms, 1)
    made.path.write_bytes(before)
    assert ask(made, terms, 2).reasons == {Reason.RESTORED: 1}


def test_two_copies_that_went_on_apart_are_noticed(tmp_path: Path, clock) -> None:
    made = ledger(tmp_path)
    ask(made, run(), 0)
    before = made.path.read_bytes(), (tmp_path / "node.counter").read_bytes()
    ask(made, run(), 1)
    counter = (tmp_path / "node.counter").read_bytes()
    made.path.write_bytes(before[0])
    (tmp_path / "node.counter").write_bytes(before[1])
    ask(ledger(tmp_path), run("other"), 1)
    (tmp_path / "node.counter").write_bytes(counter)
    blocked(tmp_path, clock)


def test_a_deleted_ledger_leaves_its_counter(tmp_path: Path, clock) -> None:
    made = ledger(tmp_path)
    ask(made, run(), 0)
    made.path.unlink()
    blocked(tmp_path, clock)
    assert lines(made, "gap")[0]["n"] > 3


def test_a_deleted_counter_proves_nothing(tmp_path: Path, clock) -> None:
    made = ledger(tmp_path)
    ask(made, run(), 0)
    (tmp_path / "node.counter").unlink()
    blocked(tmp_path, clock)


def test_a_ledger_whose_last_lines_were_cut_off_is_noticed(tmp_path: Path, clock) -> None:
    made = ledger(tmp_path)
    ask(made, run(), 0)
    ask(made, run(), 1)
    content = made.path.read_bytes()
    made.path.write_bytes(content[:-10])
    blocked(tmp_path, clock)


def edited(content: str, number: int, key: str, value: object) -> str:
    found = content.splitlines()
    found[number] = json.dumps(json.loads(found[number]) | {key: value}, separators=(",", ":"))
    return "\n".join(found) + "\n"


def test_an_edited_ledger_answers_nothing(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    for number in range(3):
        ask(made, run(), number)
    content = made.path.read_text()
    last = len(content.splitlines()) - 1
    for number in range(last + 1):
        for key, value in (("more", 1), ("n", 99), ("time", 5), ("prev", "0" * 64)):
            if number == last and key == "more":
                continue
            made.path.write_text(edited(content, number, key, value))
            with pytest.raises(VerificationError, match=r"line \d+: .*; it was edited or damaged"):
                ask(ledger(tmp_path), run("x"), 0)
    price = f'"gaussian":{Cost.of_gaussians([4.0]).gaussian}'
    assert content.count(price) == 3
    made.path.write_text(content.replace(price, '"gaussian":1', 1))
    with pytest.raises(VerificationError):
        ask(ledger(tmp_path), run("x"), 0)
    made.path.write_text('"gaussian":1'.join(content.rsplit(price, 1)))  # fits its own chain, and not the counter
    assert ask(ledger(tmp_path), run("x"), 0).reasons == {Reason.RESTORED: 1}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"n": "x", "head": 1}'])
def test_a_damaged_counter_answers_nothing(content: str, tmp_path: Path) -> None:
    ask(ledger(tmp_path), run(), 0)
    (tmp_path / "node.counter").write_text(content)
    with pytest.raises(VerificationError, match=r"node\.counter"):
        ask(ledger(tmp_path), run(), 1)


def test_a_torn_line_at_any_byte_was_no_charge(tmp_path: Path) -> None:
    """As after a power loss while a line is written: what was acknowledged stays, the torn rest is dropped."""
    made, counter = ledger(tmp_path), tmp_path / "node.counter"
    ask(made, run(count=5), 0)
    whole, counted = made.path.read_bytes(), counter.read_bytes()
    ask(made, run(count=5), 1)
    after = made.path.read_bytes()
    for length in range(len(whole), len(after) + 1):
        made.path.write_bytes(after[:length])
        counter.write_bytes(counted)
        fresh = ledger(tmp_path)
        fresh.open()
        found = len(lines(fresh, "charge"))
        assert found == (2 if length == len(after) else 1)
        assert made.path.read_bytes() == (after if found == 2 else whole)


def charging(folder: Path, first: int, pipe: int) -> None:
    """What a process does until it is killed: charge, and only then report the release."""
    terms = run(count=100_000, noise=50.0, carded=True)
    policy = Policy(run=RunPolicy(repeats=1000))  # a round that is killed before its report is asked again
    for number in range(first, 100_000):
        assert ask(ledger(folder, policy), terms, number, identities=np.arange(3)).give.all()
        os.write(pipe, f"{number}\n".encode())


def killed(folder: Path, times: int) -> None:
    """Charge in processes that are killed; every acknowledged charge is in the ledger, which is whole."""
    chance, released = random.Random(7), set()
    for _ in range(times):
        ours, theirs = os.pipe()
        process = os.fork()
        if not process:
            try:
                charging(folder, max(released, default=-1) + 1, theirs)
            finally:
                os._exit(1)
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            first = pipe.readline() if chance.random() < 0.7 else ""  # else it is killed at any point of its start
            time.sleep(chance.random() * 0.03)
            os.kill(process, signal.SIGKILL)
            assert os.waitpid(process, 0)[1] == signal.SIGKILL
            released |= set(map(int, (first + pipe.read()).split()))
    made = ledger(folder)
    made.open()
    charged = {line["round"] for line in lines(made, "charge")}
    assert len(released) > times / 3
    assert released <= charged
    assert len(charged - released) <= times
    assert not lines(made, "gap")


def test_fifty_kills_lose_no_charge(tmp_path: Path) -> None:
    killed(tmp_path, 50)


def test_two_processes_charge_one_ledger(tmp_path: Path) -> None:
    ledger(tmp_path, SMALL).open()
    processes = []
    for first in range(2):
        processes.append(os.fork())
        if not processes[-1]:
            code = 1
            try:
                made = ledger(tmp_path, SMALL)
                for number in range(first, 30, 2):
                    ask(made, run(count=30, noise=6.0, carded=True), number)
                code = 0
            finally:
                os._exit(code)
    assert [os.waitpid(process, 0)[1] for process in processes] == [0, 0]
    made = ledger(tmp_path, SMALL)
    made.open()
    assert {line["round"] for line in lines(made, "charge")} == set(range(30))
    given = sum(line["gave"] == "all" for line in lines(made, "charge"))
    alone = ledger(tmp_path / "alone", SMALL)
    assert given == sum(ask(alone, run(count=30, noise=6.0, carded=True), number).give[0] for number in range(30))


def test_what_is_kept_in_memory_is_no_larger_than_the_file(tmp_path: Path) -> None:
    """A hub keeps a bit a user of each charge, not an array, and no line that was counted."""
    made, hub = ledger(tmp_path), np.arange(20_000)
    terms = run(count=100, noise=60.0, sampling=0.5, carded=True)
    ask(made, terms, 0, identities=hub)
    tracemalloc.start()
    for number in range(1, 60):
        ask(made, terms, number, identities=hub, cohort=hub[number % 2 :: 2])
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1.5 * made.path.stat().st_size + 1e6


def test_replaying_a_question_for_fresh_noise_pays_each_time(tmp_path: Path) -> None:
    """Without a card nothing proves that a repeated question is no second release."""
    made = ledger(tmp_path, SMALL)
    given = sum(ask(made, run(), 0).give[0] for _ in range(12))
    assert 0 < given < 12
    carded = ledger(tmp_path / "carded", replace(SMALL, run=RunPolicy(epsilon=2.0, repeats=1000)))
    others = sum(ask(carded, run(carded=True), 0, f"q-{n}-").give[0] for n in range(12))
    assert others == given


@pytest.mark.slow
def test_three_hundred_kills_lose_no_charge(tmp_path: Path) -> None:
    killed(tmp_path, 300)
