"""What tests of many runs share."""

from typing import Any

import pytest
from fedrec_sim import child_run

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

    monkeypatch.setattr(child_run.subprocess, "Popen", Child)
    return commands
