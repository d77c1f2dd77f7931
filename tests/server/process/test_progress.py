"""The progress of a long step on the server, in the command that started the run over nodes."""

import io
from pathlib import Path

import pytest
from fedrec_server.process.progress import EventProgress
from fedrec_server.process.run_events import RunEvents, read_events

from fedrec.progress import Step
from fedrec.screen import plain_console


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_step_passes_through_the_events(tmp_path: Path, terminal: bool) -> None:
    path, file = tmp_path / "events", io.StringIO()
    events = RunEvents(path)
    events.round(0, 2, 0.5, 1.25)
    events.step(Step("denoising popularity", 40, 7))
    with EventProgress(plain_console(file=file, force_terminal=terminal, width=120), "run").showing() as progress:
        for _, event in read_events(path, 0):
            progress(event)
    assert "denoising popularity: 7/40" in file.getvalue()


def test_after_the_step_the_note_of_the_round_is_back() -> None:
    file = io.StringIO()
    with EventProgress(plain_console(file=file, force_terminal=True, width=120), "run").showing() as progress:
        progress({"round": 1, "rounds": 2, "seconds": 0.5, "epsilon": 1.25})
        progress({"step": "denoising popularity", "done": 7, "total": 40, "ended": False})
        progress({"step": "denoising popularity", "done": 40, "total": 40, "ended": True})
    text = file.getvalue()
    assert text.rfind("epsilon 1.250") > text.rfind("denoising")
