"""The users' executor wakes when the SuperNode has a message, and asks for nothing in between."""

import importlib
import inspect
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from fedrec.transport import doorbell, interfaces
from fedrec.transport.doorbell import Doorbell


def test_a_ring_ends_the_wait_of_another_process(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "bell")
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_ring_after, args=(str(tmp_path / "bell"),))
    other.start()
    began = time.monotonic()
    bell.wait(60)
    assert time.monotonic() - began < 50
    other.join()


def _ring_after(path: str) -> None:
    Doorbell(Path(path)).ring()


def test_a_ring_before_the_wait_counts_and_several_are_one(tmp_path: Path) -> None:
    bell, other = Doorbell(tmp_path / "bell"), Doorbell(tmp_path / "bell")
    for _ in range(3):
        other.ring()
    began = time.monotonic()
    bell.wait(30)
    assert time.monotonic() - began < 20
    began = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_a_bell_that_nobody_hears_never_blocks_the_ringer(tmp_path: Path) -> None:
    bell = Doorbell(tmp_path / "bell")
    ringing = threading.Thread(target=lambda: [bell.ring() for _ in range(1 << 17)])
    ringing.start()
    ringing.join(30)
    assert not ringing.is_alive()


def test_only_the_owner_can_ring(tmp_path: Path) -> None:
    Doorbell(tmp_path / "bell")
    assert (tmp_path / "bell").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "bell")
    with pytest.raises(OSError, match="symbolic links"):
        Doorbell(tmp_path / "link")


def test_the_environment_names_the_bell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(doorbell.VARIABLE, raising=False)
    assert Doorbell.of_environment() is None
    monkeypatch.setenv(doorbell.VARIABLE, str(tmp_path / "bell"))
    assert Doorbell.of_environment() is not None
    assert os.path.exists(tmp_path / "bell")


def test_the_node_rings_for_each_message_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    node = importlib.import_module("flwr.supernode.start_client_internal")
    assert "run_id = _pull_and_store_message(" in inspect.getsource(node.start_client_internal)
    found, rung = iter([None, 7, None, 7]), []
    monkeypatch.setattr(interfaces, "quick_pulls", lambda: None)  # it changes Flower for the whole process
    monkeypatch.setattr(node, "time", node.time)
    monkeypatch.setattr(node, "_pull_and_store_message", lambda state: next(found))
    interfaces.quick_node(lambda: rung.append(True))
    assert [node._pull_and_store_message(state=None) for _ in range(4)] == [None, 7, None, 7]
    assert len(rung) == 2


def test_an_executor_that_is_rung_for_sleeps_as_long_as_flower_does() -> None:
    slept: list[float] = []
    interfaces.TaskBell(slept.append).sleep(1.0)
    assert slept == [1.0]
