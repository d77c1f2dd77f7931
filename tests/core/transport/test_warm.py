"""Tasks in the processes of a `WarmExecutor` (`warm_tasks.py` drives it), and the texts of its errors."""

import json
import subprocess
import sys
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.metadata import Metadata
from flwr.supercore import heartbeat
from flwr.supernode.runtime import run_clientapp

from fedrec.transport import interfaces
from fedrec.transport.warm import NODE_DIED


@pytest.fixture(scope="module", params=[("die", "seen"), ("die", "unseen"), ("raise", "seen")], ids="-".join)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tasks")
    command = [sys.executable, "-m", "tests.core.transport.warm_tasks", str(folder), *request.param]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


def test_messages_go_to_one_process_which_keeps_what_it_has(found: dict[str, Any]) -> None:
    died, hung, *answered = found["notes"]
    assert len({note["process"] for note in answered}) == 1
    assert len({note["process"] for note in (died, hung, *answered)}) == 3
    assert [len(note["so far"]) for note in answered] == [1, 2, 3]


def test_every_task_gets_the_installed_app(found: dict[str, Any]) -> None:
    assert {note["app"] for note in found["notes"]} == {"the installed app"}


def test_the_death_of_a_run_is_reported(found: dict[str, Any]) -> None:
    died, hung, *_ = found["notes"]
    assert died["so far"] == [found["reported"]] == ["die"]
    assert hung["so far"] == ["hang"]


def test_it_ends_with_the_process_that_answers_for_the_node(found: dict[str, Any]) -> None:
    """It also ends if that process could not give its reply to the node; the log has no text of the error."""
    assert found["code"] == NODE_DIED
    assert "somebody" not in found["stderr"]


def test_closing_ends_what_still_works(found: dict[str, Any]) -> None:
    assert found["left"] == []
    assert found["closed"] < 5


def runtime(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, list[Any]]:
    """A message, its context, and what is pushed to the node, in place of Flower's runtime."""
    message = Message(metadata=Metadata(1, "m", 0, 7, "", "", 0.0, 10.0, "train"), content=RecordDict())
    context = Context(1, 7, {}, RecordDict(), {})
    pushed: list[Any] = []

    class Quiet:
        def start(self) -> None: ...
        def stop(self) -> None: ...
        def close(self) -> None: ...

    monkeypatch.setattr(interfaces, "_task_client", lambda _: Quiet())
    monkeypatch.setattr(heartbeat, "HeartbeatSender", lambda _: Quiet())
    monkeypatch.setattr(heartbeat, "make_task_heartbeat_fn_http", lambda _: None)
    monkeypatch.setattr(run_clientapp, "pull_task_input", lambda _: (message, context, None, None))
    monkeypatch.setattr(run_clientapp, "push_message", lambda _, reply, __: pushed.append(reply))
    monkeypatch.setattr(run_clientapp, "push_task_output", lambda **sent: pushed.append(sent))
    return message, context, pushed


def test_a_nodes_error_is_answered_by_its_types_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, pushed = runtime(monkeypatch)

    def app(message: Any, context: Any) -> Any:
        raise ValueError("something about somebody")

    interfaces.run_client_task(None, app)
    reply, output = pushed
    assert reply.error.reason == output["details"] == "ValueError"
    assert "somebody" not in caplog.text + str(output)
    assert "a message was not answered: ValueError at " in caplog.text


def test_what_the_app_keeps_in_the_context_is_dropped_and_a_lost_reply_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    message, context, pushed = runtime(monkeypatch)
    context.state = RecordDict({"kept": ConfigRecord({"much": 1})})
    interfaces.run_client_task(None, lambda message, context: message)
    assert pushed[0] is message
    assert dict(context.state) == {}

    def lost(*_: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr("flwr.supernode.runtime.run_clientapp.push_message", lost)
    pushed.clear()
    with pytest.raises(ConnectionError):
        interfaces.run_client_task(None, lambda message, context: message)
    assert pushed == [], "the node would take it for answered"
