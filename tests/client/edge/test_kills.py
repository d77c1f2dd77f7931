"""kill -9 of a process that records and recommends: no acknowledged event is lost, and lists are right afterwards."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.client.edge.devices import IDS, als, device, listed, released
from tests.client.store.stores import child, ended

KINDS = ("view", "like", "dislike")


def work(folder: Path, seed: int, pipe: int) -> None:
    """Record until killed, with a list, an undo or a list with other wishes in between; acknowledge each change."""
    draws = random.Random(seed)
    with device(folder) as client:
        while True:
            if draws.random() < 0.1 and len(client.events()) > 2:
                os.write(pipe, b"-")  # about to take back: both outcomes are right
                client.undo()
                os.write(pipe, b"u")
            client.record(draws.choice(IDS), draws.choice(KINDS))
            os.write(pipe, b"r")
            client.recommend(5, explore=draws.random() / 2)


def kills(place: Path, times: int, seed: int) -> None:
    draws, run = random.Random(seed), released(als(), place / "run")
    with device(place / "device", run):
        pass
    known = 0
    for turn in range(times):
        number, pipe = child(lambda writing, turn=turn: work(place / "device", 1000 * seed + turn, writing))
        first = os.read(pipe, 1)
        time.sleep(draws.random() * 0.02)
        os.kill(number, signal.SIGKILL)
        assert ended(number) == -signal.SIGKILL
        with os.fdopen(pipe, "rb") as rest:
            said = first + rest.read()
        with device(place / "device") as client:
            found = client.events()
            least, most = bounds(known, said)
            assert least <= len(found) <= most, said
            known = len(found)
            if turn % 20 == 0:
                with device(place / f"other-{turn}", run) as other:
                    other.record_all([each.event for each in found])
                    assert listed(client) == listed(other)
    assert {each.name for each in (place / "device").iterdir()} == {
        *("events.store", "events.key", "model.json", "models"),
    }


def bounds(known: int, said: bytes) -> tuple[int, int]:
    """Return the least and the most events that may be there after `known` ones and these acknowledgements."""
    sure = known + said.count(b"r") - said.count(b"u")
    return sure - said.endswith(b"-"), sure + (not said.endswith(b"-"))


@pytest.mark.slow
def test_two_hundred_kills_while_recording_and_recommending(tmp_path: Path) -> None:
    kills(tmp_path, 200, 3)


def test_ten_kills_while_recording_and_recommending(tmp_path: Path) -> None:
    kills(tmp_path, 10, 4)
