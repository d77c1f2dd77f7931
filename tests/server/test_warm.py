"""What becomes of tasks in the processes of a `WarmExecutor` (`warm_tasks.py` drives it), and its errors' texts."""

import json
import subprocess
import sys
from typing import Any

import pytest

from fedrec.transport import interfaces


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tasks")
    command = [sys.executable, "-m", "tests.server.warm_tasks", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


def test_messages_go_to_one_process_which_keeps_what_it_has(found: dict[str, Any]) -> None:
    first, second, third, after_death, *_ = found["notes"]
    assert first["process"] == second["process"] == third["process"] != after_death["process"]
    assert third["so far"] == ["answer", "raise", "die"]
    assert after_death["so far"] == ["answer"]


def test_every_task_gets_the_installed_app(found: dict[str, Any]) -> None:
    assert {note["app"] for note in found["notes"]} == {"the installed app"}


def test_an_exception_does_not_end_the_process_and_its_text_is_not_written(found: dict[str, Any]) -> None:
    assert "a message was not answered: ValueError at " in found["stderr"]
    assert "somebody" not in found["stderr"]


def test_a_run_has_a_process_of_its_own_and_its_death_is_reported(found: dict[str, Any]) -> None:
    died, hung = found["notes"][4:]
    assert died["so far"] == ["die"]
    assert len({note["process"] for note in found["notes"]}) == 4
    assert found["reported"] == "die"
    assert hung["so far"] == ["hang"]


def test_closing_ends_what_still_works(found: dict[str, Any]) -> None:
    assert found["left"] == []
    assert found["closed"] < 5


def test_a_nodes_error_is_answered_by_its_types_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.app import Context, Message, RecordDict
    from flwr.app.metadata import Metadata
    from flwr.supercore import heartbeat
    from flwr.supernode.runtime import run_clientapp

    metadata = Metadata(1, "m", 0, 7, "", "", 0.0, 10.0, "train")
    message = Message(metadata=metadata, content=RecordDict())
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

    def app(message: Any, context: Any) -> Any:
        raise ValueError("something about somebody")

    with pytest.raises(ValueError, match="somebody"):
        interfaces.run_client_task(None, app)
    reply, output = pushed
    assert reply.error.reason == "ValueError"
    assert "somebody" not in str(output)
