"""kill -9 at any moment: no acknowledged event is lost, none appears, and the store opens with one key or the other."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fedrec_client.store import Event, Store
from fedrec_client.store import database as layout

from tests.client.store.stores import child, ended, filled, items, opened


def recorded_until_killed(folder: Path, draws: random.Random, most: int) -> int:
    """Record in a child, kill it after some acknowledgements and a moment; return how many it acknowledged."""

    def record(pipe: int) -> None:
        with opened(folder) as store:
            start = len(store.events())
            for n in range(start, start + 10_000):
                store.append(Event(f"item-{n}"))
                os.write(pipe, b".")

    number, pipe = child(record)
    wanted, seen = draws.randrange(most), 0
    while seen < wanted:
        seen += len(os.read(pipe, wanted - seen))
    time.sleep(draws.random() * 0.01)
    os.kill(number, signal.SIGKILL)
    assert ended(number) == -signal.SIGKILL
    while more := os.read(pipe, 1 << 16):
        seen += len(more)
    os.close(pipe)
    return seen


def kills(folder: Path, times: int, seed: int) -> None:
    draws, known = random.Random(seed), 0
    opened(folder).close()
    for _ in range(times):
        seen = recorded_until_killed(folder, draws, 6)
        with opened(folder) as store:
            found = items(store)
            assert known + seen <= len(found) <= known + seen + 1
            assert found == [f"item-{n}" for n in range(len(found))]
            known = len(found)
            if draws.random() < 0.02:
                store.forget(everything=True)
                known = 0
    names = {file.name for file in folder.iterdir()}
    assert names == {"me.store", "me.key"}


def test_twenty_kills_while_recording(tmp_path: Path) -> None:
    kills(tmp_path, 20, 1)


@pytest.mark.slow
def test_three_hundred_kills_while_recording(tmp_path: Path) -> None:
    kills(tmp_path, 300, 2)


def dies_before(step: int, work: Callable[[Store], object], folder: Path) -> int:
    """Do `work` in a child that kills itself before its `step`-th SQL statement or file operation; return how it ended.

    Steps are counted from the end of `open`.
    """

    def run(pipe: int) -> None:
        store, left = opened(folder), [step]

        def count(*_: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted(call: Callable) -> Callable:
            def each(*values: object, **options: object) -> object:
                count()
                return call(*values, **options)

            return each

        for name in ("replace", "fsync", "open", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        store._vault._link.set_trace_callback(count)
        work(store)
        os.write(pipe, b"done")

    number, pipe = child(run)
    done = os.read(pipe, 4)
    os.close(pipe)
    ended(number)
    return len(done)


WORK: dict[str, Callable[[Store], object]] = {
    "rotate the data key": lambda store: store.rotate_data_key(),
    "rotate the master key": lambda store: store.rotate_master_key(),
    "forget an item": lambda store: store.forget("item-1"),
    "forget everything": lambda store: store.forget(everything=True),
}
AFTER = {"forget an item": ["item-0", "item-2"], "forget everything": []}


@pytest.mark.parametrize("name", ["rotate the master key", "forget everything"])
def test_a_kill_before_some_steps(tmp_path: Path, name: str) -> None:
    killed_at(range(2, 200, 7), name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_a_kill_before_any_step(tmp_path: Path, name: str) -> None:
    killed_at(range(200), name, tmp_path)


def killed_at(steps: range, name: str, tmp_path: Path) -> None:
    before = [f"item-{n}" for n in range(3)]
    outcomes = set()
    for step in steps:
        folder = tmp_path / str(step)
        folder.mkdir()
        with filled(folder, 3) as store:
            store.set_state("age", b"30")
        done = dies_before(step, WORK[name], folder)
        with opened(folder) as store:
            found, states = items(store), store.states()
            assert found in (before, AFTER.get(name, before))
            assert states == ({} if name == "forget everything" and not found else {"age": b"30"})
            assert not store._vault.head.erasing, "what a kill left is erased at the next open"
            outcomes.add(len(found))
            store.append(Event("next"))
        if done:
            break
        with opened(folder) as store:
            store.rotate_master_key()
            assert items(store)[-1] == "next"
    assert done
    assert step > 10
    assert outcomes == {3, len(AFTER.get(name, before))}


def test_a_kill_while_a_store_is_made(tmp_path: Path) -> None:
    for step in range(0, 100, 3):
        folder = tmp_path / str(step)
        folder.mkdir()

        def make(pipe: int, left: list[int], place: Path) -> None:
            def dying(call: Callable) -> Callable:
                def each(*values: object, **options: object) -> object:
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*values, **options)

                return each

            for call in ("open", "fsync", "link", "close", "unlink"):
                setattr(os, call, dying(getattr(os, call)))
            layout.sync = dying(layout.sync)  # type: ignore[assignment]
            opened(place)
            os.write(pipe, b"done")

        number, pipe = child(lambda pipe, left=[step], place=folder: make(pipe, left, place))  # type: ignore[misc]
        done = os.read(pipe, 4)
        os.close(pipe)
        ended(number)
        with opened(folder) as store:
            assert items(store) == []
            store.append(Event("x"))
        with opened(folder) as store:
            assert items(store) == ["x"]
        assert list(folder.glob(".me.key*")) == [], "no second name of the key is left"
        if done:
            break
    assert done
    assert step > 5


def test_two_processes_make_one_store(tmp_path: Path) -> None:
    def make(pipe: int) -> None:
        with opened(tmp_path) as store:
            store.append(Event(str(os.getpid())))

    children = [child(make)[0] for _ in range(6)]
    for number in children:
        ended(number)
    assert sorted(items(opened(tmp_path))) == sorted(map(str, children))
    assert {file.name for file in tmp_path.iterdir()} - {"me.store-wal", "me.store-shm"} == {"me.store", "me.key"}
