"""A stay begins when the device is eligible, ends when it is not, by its deadline or by the app, and tries again."""

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fedrec_client import AsyncEdgeClient, Conditions, EdgeClient, KeyFile, Passphrase, Plan, Server
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.participation import stay
from fedrec_client.participation.retrying import Backoff
from fedrec_client.participation.stay import Ended, Participation
from fedrec_client.participation.store_mark import mark_of

from fedrec.errors import InputError
from tests.client.consent.runs import run
from tests.client.consent.test_device_ledger import ask

GOOD = Conditions(on_power=True, battery=1.0, unmetered=True, load=0.0)


class Node:
    """In place of a node's processes: what each attempt finds, and what happens in it."""

    def __init__(self) -> None:
        self.attempts, self.ends, self.within = 0, ["", "", ""], lambda: None

    def __call__(self, server: Server, users: Any, state: Any, port: Any, made: Any, say: Any, over: Any) -> Any:
        self.attempts += 1
        self.config = users.config
        problem = self.ends[min(self.attempts, len(self.ends)) - 1]
        self.within()
        while not problem and not over():
            time.sleep(0.01)
        return problem, None


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node()
    monkeypatch.setattr(stay, "attempt", made)
    monkeypatch.setattr(stay, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(stay, "QUIET_SECONDS", 0.05)
    return made


def took_part(folder: Path, conditions: Any = lambda: GOOD, **plan: Any) -> Participation:
    with EdgeClient.open(folder, KeyFile(folder / "events.key")) as client:
        client.record("1", "like")
        place = Server("here:1", folder / "ca.crt", folder / "node.key")
        made = Plan(conditions=conditions, backoff=Backoff(first=0.01), **({"seconds": 30.0} | plan))
        return client.participate(place, folder / "items.json", made)


def pays(folder: Path, number: int = 0) -> None:
    ledger = DeviceLedger(folder / FILE, stay.policy_of(folder))
    ledger.open()
    assert ask(ledger, run(count=3), number).give.any()


def test_a_device_that_is_not_eligible_starts_nothing_and_leaves_no_mark(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    found = took_part(folder, lambda: Conditions(on_power=False, battery=1.0, load=0.0))
    assert found == Participation(Ended.NOT_ELIGIBLE, 0, ("not on mains power", "unknown whether metered network"))
    assert node.attempts == 0
    assert not mark_of(folder).exists()


def test_a_condition_that_ends_within_the_stay_ends_it(node: Node, tmp_path: Path) -> None:
    looks = iter([GOOD, GOOD, GOOD])
    found = took_part(tmp_path / "device", lambda: next(looks, Conditions(on_power=False, battery=1.0)))
    assert found.ended is Ended.NOT_ELIGIBLE
    assert "not on mains power" in found.obstacles
    assert node.attempts == 1
    assert node.config["store"] == str(tmp_path / "device")


def test_the_own_work_of_a_stay_is_no_load(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    looks = iter([GOOD])
    busy = Conditions(on_power=True, battery=1.0, unmetered=True, load=1.4)
    assert took_part(tmp_path / "a", lambda: next(looks, busy), seconds=0.3).ended is Ended.DEADLINE
    assert took_part(tmp_path / "b", lambda: busy).ended is Ended.NOT_ELIGIBLE


def test_it_ends_at_its_deadline_and_by_the_event(node: Node, tmp_path: Path) -> None:
    assert took_part(tmp_path / "a", seconds=0.1).ended is Ended.DEADLINE
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    assert took_part(tmp_path / "b", stop=stop).ended is Ended.STOPPED


def test_a_cancelled_task_ends_it(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "device"

    async def cancelled() -> None:
        client = await AsyncEdgeClient.open(folder, KeyFile(folder / "events.key"))
        place = Server("here:1", folder / "ca.crt", folder / "node.key")
        task = asyncio.create_task(client.participate(place, folder / "items.json", Plan(conditions=lambda: GOOD)))
        while not node.attempts:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun = time.monotonic()
    asyncio.run(cancelled())  # which waits for the thread
    assert time.monotonic() - begun < 20


def test_it_is_done_when_the_rounds_are_charged_and_nothing_follows(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    node.within = lambda: [pays(folder, number) for number in range(2)]
    assert took_part(folder, rounds=2) == Participation(Ended.DONE, 2)
    again = took_part(folder)
    assert again.obstacles == ("too soon after it last took part",)
    assert node.attempts == 1


def test_an_end_that_may_pass_is_followed_by_another_try(node: Node, tmp_path: Path) -> None:
    node.ends = ["nobody there", "nobody there", ""]
    assert took_part(tmp_path / "device", seconds=0.5).ended is Ended.DEADLINE
    assert node.attempts == 3


def test_an_end_for_good_is_the_callers_error(node: Node, tmp_path: Path) -> None:
    def refused() -> None:
        raise InputError("the server refused this node's signature")

    node.within = refused
    with pytest.raises(InputError, match="refused this node's signature"):
        took_part(tmp_path / "device")
    assert took_part.__name__


def test_a_store_that_asks_for_a_passphrase_is_one_line_before_anything_starts(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    with EdgeClient.open(folder, Passphrase("a long secret of words")) as client:
        client.record("1")
        with pytest.raises(InputError, match="passphrase"):
            client.participate(Server("here:1", folder, folder), folder / "items.json", Plan(conditions=lambda: GOOD))
    assert node.attempts == 0


@pytest.mark.parametrize("plan", [{"seconds": 0}, {"seconds": float("inf")}, {"rounds": 0}])
def test_a_plan_that_cannot_be_is_one_line(plan: dict, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="participate"):
        Plan(**plan)
    assert SimpleNamespace(**plan)
