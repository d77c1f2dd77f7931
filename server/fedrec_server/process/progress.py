"""Progress of a run over nodes, on standard error: a bar in a terminal, elsewhere one line for each round."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class EventProgress:
    """Show the events of a run (`fedrec_server.process.run_events`).

    Args:
        console: the console to print on.
        label: name of the run.
        quiet: show nothing.
    """

    def __init__(self, console: Console, label: str, *, quiet: bool = False) -> None:
        self._console, self._label, self._quiet = console, label, quiet
        self._bar: Progress | None = None
        self.folder: str | None = None
        self._note = ""

    def say(self, line: str) -> None:
        """Print one line."""
        if not self._quiet:
            self._console.print(line, soft_wrap=True)

    @contextmanager
    def showing(self) -> Iterator["EventProgress"]:
        """Show the bar within this context, in a terminal."""
        if self._quiet or not self._console.is_terminal:
            yield self
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} rounds", markup=False),
        )
        more = (TextColumn("{task.fields[note]}", markup=False), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, *more, console=self._console) as self._bar:
            self._task = self._bar.add_task(self._label, total=None, note="waiting for nodes")
            yield self
        self._bar = None

    def __call__(self, event: dict[str, Any]) -> None:
        self.folder = event.get("folder", self.folder)
        if "step" in event:
            self._step(event)
        if "round" not in event:
            return
        note = "no privacy" if event["epsilon"] is None else f"epsilon {event['epsilon']:.3f}"
        self._note = note
        if self._bar is not None:
            self._bar.update(self._task, completed=event["round"], total=event["rounds"], note=note)
        else:
            self.say(f"round {event['round']} of {event['rounds']}: {event['seconds']:.2f} s, {note}")

    def _step(self, event: dict[str, Any]) -> None:
        """A step that takes long, in the place of the round's note until it ends."""
        line = f"{event['step']}: {event['done']}/{event['total']}"
        if self._bar is not None:
            self._bar.update(self._task, note=self._note if event["ended"] else line)
        else:
            self.say(f"{line}{' (ended)' if event['ended'] else ' ...'}")
