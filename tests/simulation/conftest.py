"""Fixtures of tests with many runs."""

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
from fedrec_sim.experiment import child_run

from fedrec.cli import run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs happen in this process, which saves seconds of imports each; the command lines that were run."""
    commands: list[list[str]] = []

    class Child:
        def __init__(self, command: list[str], stderr: Any, **_: Any) -> None:
            commands.append(command)
            self.code = run(command[command.index("simulate") :])

        def wait(self) -> int:
            return self.code

    # The name in that module alone: the ledger asks git for the commit, which must stay a process.
    monkeypatch.setattr(child_run, "subprocess", SimpleNamespace(Popen=Child, DEVNULL=subprocess.DEVNULL))
    return commands
