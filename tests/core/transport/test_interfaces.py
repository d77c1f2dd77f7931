"""The private interfaces of flwr stand where `fedrec.transport.interfaces` looks for them; a new flwr may move them.

If one of these fails: mend `interfaces.py`, or run with `--stock`, which needs the gate's alone.
"""

import importlib
import inspect
import re
import time
from collections.abc import Iterable

import pytest
from fedrec_server.flower.messenger import Messenger
from flwr.app import Message, RecordDict

from fedrec.transport import interfaces
from tests.server.deployed import hosted
from tests.server.grid_in_memory import MemoryGrid

SPEC = {
    "task_type",
    "runtime_api_address",
    "token",
    "insecure",
    "root_certificates_path",
    "parent_pid",
}


def test_the_link_is_made_by_create_app_and_served_by_its_command() -> None:
    import flwr.superlink.main as link

    served = importlib.import_module("flwr.superlink.cli.flower_superlink")  # the package has a function of that name
    assert inspect.signature(link.create_app).parameters.keys() >= {"config", "superlink_lifespan_class"}
    assert "create_app(" in inspect.getsource(served._run_superlink_http_api)
    from flwr.superlink.routers.control.router import router as control
    from flwr.superlink.routers.fleet.router import router as fleet

    assert (control.prefix, fleet.prefix) == ("/v1/control", "/v1/fleet")
    runtime = importlib.import_module("flwr.supercore.routers.runtime.router")
    assert 'prefix="/v1/runtime"' in inspect.getsource(runtime)


def test_a_node_sleeps_by_the_module_time_for_three_seconds_or_for_half_a_one() -> None:
    import flwr.supernode.start_client_internal as node

    source = inspect.getsource(node)
    assert source.count("time.sleep(") == 3
    assert "time.sleep(3)" in source
    assert source.count("time.sleep(0.5)") == 2
    assert len(re.findall(r"\btime\.\w+\(", source)) == 3, "the module's other functions would be missing"


def test_parts_of_messages_are_pulled_with_a_backoff_that_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.supercore.inflatable import inflatable_utils

    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        monkeypatch.setattr(function, "__kwdefaults__", dict(function.__kwdefaults__))
        assert (function.__kwdefaults__["initial_backoff"], function.__kwdefaults__["backoff_cap"]) == (1, 10)
    interfaces.quick_pulls()
    assert inflatable_utils.pull_objects.__kwdefaults__["initial_backoff"] == 0.05


def test_a_reply_whose_sender_died_between_its_parts_is_waited_for_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flwr.supercore.inflatable import inflatable_utils

    fetch = inflatable_utils.pull_objects
    monkeypatch.setattr(fetch, "__kwdefaults__", dict(fetch.__kwdefaults__) | interfaces.PULL_BACKOFF)
    asked: list[str] = []

    def never_whole(part: str) -> bytes:
        asked.append(part)
        raise inflatable_utils.ObjectUnavailableError(part)

    class Uploading(MemoryGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            fetch(["part"], never_whole)
            raise AssertionError("there is no such part")

    messenger = Messenger(Uploading.of(hosted(1)), give_up=interfaces.give_up_parts_after)
    began = time.monotonic()
    (node,) = messenger.online()
    assert list(messenger.ask({node: RecordDict()}, "query", "round 0", until=began + 0.5)) == []
    assert len(asked) > 1
    assert time.monotonic() - began < 60  # Flower's own would be 7,200
    assert messenger.counts["no reply"] == 1


def test_the_executor_comes_from_get_executor_and_gets_specifications() -> None:
    import flwr.supercore.superexec.run_superexec as superexec
    from flwr.supercore.superexec.executor.types import ExecutionSpec, Executor

    from fedrec.transport.warm import WarmExecutor

    source = inspect.getsource(superexec.run_superexec)
    assert "executor = get_executor(" in source
    assert source.count("time.sleep(task_poll_interval)") == len(re.findall(r"\btime\.\w+\(", source)) == 1
    methods = {name for name in vars(Executor) if not name.startswith("_")}
    assert methods == {"get_eligible_capacity", "wait_for_capacity", "launch", "reconcile", "close"}
    assert methods <= vars(WarmExecutor).keys()
    assert ExecutionSpec.__dataclass_fields__.keys() >= SPEC


def test_the_pieces_of_a_task_are_there() -> None:
    from flwr.supercore.exit import exit_handler
    from flwr.supernode.runtime import run_clientapp

    assert isinstance(exit_handler.registered_exit_handlers, list)
    assert list(inspect.signature(run_clientapp.pull_task_input).parameters) == ["client"]
    assert list(inspect.signature(run_clientapp.push_message).parameters) == ["client", "message", "context"]
    assert inspect.signature(run_clientapp.push_task_output).parameters.keys() == {
        *("client", "context", "sub_status", "details")
    }
    module = importlib.import_module("flwr.superlink.runtime.run_serverapp")
    assert inspect.getsource(module).count("run_(") == 1
    assert "context = run_(\n            grid=grid,\n" in inspect.getsource(module)
    assert inspect.signature(module.run_serverapp).parameters.keys() == {
        *("runtime_api_address", "log_queue", "token", "insecure", "certificates", "parent_pid"),
        "runtime_dependency_install",
    }


def test_one_unreadable_reply_does_not_lose_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import flwr.superlink.grid.http_grid as grid
    from flwr.app import ArrayRecord, Message, RecordDict
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    monkeypatch.setattr(grid, "inflate_object_from_contents", grid.inflate_object_from_contents)
    assert inspect.getsource(grid.HttpGrid.pull_messages).count("inflate_object_from_contents(msg_id,") == 1
    interfaces.survive_unreadable_replies()
    message = Message(RecordDict({"a": ArrayRecord()}), dst_node_id=7, message_type="train")
    whole = {identity: each.deflate() for identity, each in get_all_nested_objects(message).items()}
    read = grid.inflate_object_from_contents
    assert read(message.object_id, dict(whole)).content == message.content
    record = next(name for name, each in get_all_nested_objects(message).items() if isinstance(each, RecordDict))
    for identity, content in ((message.object_id, {message.object_id: b"odd"}), (record, whole), ("missing", whole)):
        found = read(identity, dict(content))
        assert found.has_error()
        assert found.metadata.reply_to_message_id == ""


def test_a_node_sleeps_longer_the_longer_there_is_nothing() -> None:
    slept: list[float] = []
    node = interfaces.NodeSleep(slept.append)
    for seconds in (3, 3, 3, 0.5, 3, *[3] * 20):
        node.sleep(seconds)
    assert slept[:5] == pytest.approx([0.1, 0.15, 0.225, 0.05, 0.1])
    assert max(slept) == slept[-1] == interfaces.IDLE_SLEEPS[1]


def test_an_executor_asks_less_often_the_longer_there_is_no_task() -> None:
    idle = iter((1.0, 4.0, 20.0, 900.0, 0.0))  # four sleeps, and one after a task
    slept: list[float] = []
    pace = interfaces.TaskSleep(slept.append, lambda: next(idle))
    for _ in range(5):
        pace.sleep(1.0)
    assert slept == [0.05, 0.1, 0.5, 1.0, 0.05]
