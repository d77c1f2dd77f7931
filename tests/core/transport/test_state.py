"""The folder of a running server or node, and child processes: one holder, nothing left behind, nothing readable."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fedrec.errors import InputError
from fedrec.transport.environment import safe_environment
from fedrec.transport.processes import ProcessEnded, children
from fedrec.transport.state import State

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)",
]


def until(holds, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_process_at_a_time_has_a_state(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    assert state.running() is None
    with state.claim():
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
        assert state.running() is None, "not ready yet"
        state.tell({"address": "here"})
        assert state.running() == {"address": "here", "pid": os.getpid()}
        with pytest.raises(InputError, match=f"in use by process {os.getpid()}"), State(tmp_path / "state").claim():
            pass
    assert state.running() is None
    assert not state.stop()


def test_a_state_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    with pytest.raises(InputError, match="chmod 700"), State(tmp_path / "state").claim():
        pass


def test_who_only_looks_keeps_nobody_out(tmp_path: Path) -> None:
    state = State(tmp_path / "s")
    state.path.mkdir(mode=0o700)
    looking = (state.path / "lock").open("a+")
    fcntl.flock(looking, fcntl.LOCK_EX)
    threading.Timer(0.3, looking.close).start()
    with state.claim():
        pass


def test_a_process_that_is_still_starting_is_stopped(tmp_path: Path) -> None:
    starting = "import sys, time; from pathlib import Path; from fedrec.transport.state import State\n"
    starting += "with State(Path(sys.argv[1])).claim() as _:\n    print('has it', flush=True)\n    time.sleep(60)"
    command = [sys.executable, "-c", starting, str(tmp_path / "s")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "has it\n"
    state = State(tmp_path / "s")
    assert state.running() is None
    threading.Thread(target=process.wait).start()
    assert state.stop()
    assert not state.stop()


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "s" / "lock").mkdir(parents=True, mode=0o700)
    (tmp_path / "s").chmod(0o700)
    with pytest.raises(InputError, match="cannot be made"), State(tmp_path / "file" / "s").claim():
        pass
    with pytest.raises(InputError, match="cannot be used"), State(tmp_path / "s").claim():
        pass


def test_a_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    state = State(tmp_path)
    path = state.secret("a")
    assert len(path.read_text()) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert state.secret("a").read_text() == path.read_text() != state.secret("b").read_text()


def test_a_state_whose_process_was_killed_is_free(tmp_path: Path) -> None:
    holder = "import sys, time; from pathlib import Path; from fedrec.transport.state import State\n"
    holder += "with State(Path(sys.argv[1])).claim() as _:\n"
    holder += "    State(Path(sys.argv[1])).tell({})\n    time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / "s")])
    state = State(tmp_path / "s")
    assert until(lambda: state.running() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.running() is None
    with state.claim():
        pass


@pytest.mark.parametrize("command", [SLEEP, STUBBORN])
def test_children_end_with_the_block(tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedrec.transport.processes.GRACE", 0.5)
    said: list[str] = []
    with children(said.append) as made:
        child = made.start("one", command, tmp_path / "one.log", safe_environment(tmp_path))
        monkeypatch.setattr(child, "end", lambda end=child.end: end(0.5))
        assert until(lambda: child.text == "here\n")
        assert stat.S_IMODE((tmp_path / "one.log").stat().st_mode) == 0o600
    assert not lives(child.process.pid)
    assert said[0].startswith("one: ")


WAITS_FOR_OTHERS = """
import signal, sys, time
from pathlib import Path

def asked(*_):
    Path(sys.argv[1]).touch()
    end = time.monotonic() + 5
    while len(list(Path(sys.argv[1]).parent.glob("*.asked"))) < 3:
        if time.monotonic() > end:
            sys.exit(1)
        time.sleep(0.01)
    sys.exit(0)

signal.signal(signal.SIGTERM, asked)
print("here", flush=True)
while True:
    time.sleep(60)
"""


def test_children_that_end_at_once_are_all_asked_before_any_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three that end only once all were asked, and one that never ends by itself: one deadline for all."""
    with children(at_once=True) as made:
        polite = [
            made.start(
                name, [sys.executable, "-c", WAITS_FOR_OTHERS, str(tmp_path / f"{name}.asked")], tmp_path / name, {}
            )
            for name in "abc"
        ]
        stubborn = made.start("stubborn", STUBBORN, tmp_path / "stubborn", safe_environment(tmp_path))
        assert until(lambda: all(child.text == "here\n" for child in [*polite, stubborn]))
        monkeypatch.setattr("fedrec.transport.processes.GRACE", 1.5)
        begin = time.monotonic()
    assert [child.code for child in polite] == [0, 0, 0]
    assert stubborn.code == -signal.SIGKILL
    assert time.monotonic() - begin < 4


def test_a_signal_ends_the_block_and_the_children(tmp_path: Path) -> None:
    started = []

    def interrupted() -> None:
        with children() as made:
            started.append(made.start("one", SLEEP, tmp_path / "one.log", safe_environment(tmp_path)))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not lives(started[0].process.pid)


def test_a_child_that_ended_is_told_with_its_last_line(tmp_path: Path) -> None:
    with children() as made:
        made.start("one", [sys.executable, "-c", "exit('why it ended')"], tmp_path / "l", safe_environment(tmp_path))
        assert until(lambda: made.all[0].code is not None)
        with pytest.raises(ProcessEnded, match=r"one ended with code 1 \(why it ended\); see"):
            made.check()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells children of their parent's death")
def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = "import sys, time; from pathlib import Path; from fedrec.transport.processes import children\n"
    parent += "with children() as made:\n"
    parent += f"    child = made.start('one', {SLEEP!r}, Path(sys.argv[1]) / 'log', {{}})\n"
    parent += "    print(child.process.pid, flush=True)\n    time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", parent, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    assert until(lambda: (tmp_path / "log").read_text() == "here\n")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert until(lambda: not lives(pid))


def test_news_are_told_once_and_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "one.log"
    log.write_text("long before\n")
    with children() as made:
        child = made.start("one", SLEEP, log, {})
        assert until(lambda: child.text == "here\n")
        assert (child.news(), child.news()) == ("here\n", "")
        assert log.read_text() == "long before\nhere\n"
    monkeypatch.setattr("fedrec.transport.processes.LONG_LOG", 10)
    with children() as made:
        child = made.start("one", SLEEP, log, {})
        assert until(lambda: log.read_text() == "here\n")
        assert (tmp_path / "one.log.1").read_text() == "long before\nhere\n"


def test_the_environment_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    monkeypatch.setenv("FLWR_INTERNAL_GRPC_CONTROL_API", "1")
    found = safe_environment(tmp_path, MORE="1")
    assert found["FLWR_HOME"] == str(tmp_path / "flwr")
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert found["MORE"] == "1"
    assert not {"FORWARDED_ALLOW_IPS", "FLWR_INTERNAL_GRPC_CONTROL_API"} & found.keys()
