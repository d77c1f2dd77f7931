"""Progress of a running simulation, on standard error: a live line in a terminal, plain lines elsewhere."""

import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from fedrec.evaluation.private import PRIVATE
from fedrec.plain_text import plain
from fedrec.progress import EVERY, LONG, LongSteps, Step, listening
from fedrec.run.coordinator import RoundReport
from fedrec.screen import say

PLAIN_LINES = 10


class Stop:
    """The stop request: the first Ctrl-C stops the run after the round, a second one at once.

    A stop between rounds wastes no budget. An interrupted round is charged already.
    """

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C as a request within this context. Other threads than the main one get no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        say("Finishing this round first; Ctrl-C again stops at once.", err=True)


class RunProgress:
    """Progress of stages and rounds, and the stop between two rounds on request.

    Args:
        console: the console to print on.
        quiet: show nothing.

    Attributes:
        epsilon: the target, None without privacy.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self.console, self.quiet, self.stop = console, quiet, Stop()
        self.epsilon: float | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._steps: dict[str, TaskID] = {}
        self._lines = LongSteps(lambda step: self.say(f"{step}{' (ended)' if step.ended else ' ...'}"), after=EVERY)

    def say(self, text: str) -> None:
        """Print one line, unless quiet."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print one line, also when quiet."""
        self.console.print(text)

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Show a step of unknown length."""
        if self.quiet or not self.console.is_terminal:
            self.say(f"{text} ...")
            yield
            return
        with self.console.status(Text(f"{plain(text)} ...")):
            yield

    @contextmanager
    def rounds(self, label: str, total: int) -> Iterator[None]:
        """Show the rounds of a run; `round` reports each."""
        with self.stop.listening(), self._bar_of(label, total):
            yield

    @contextmanager
    def _bar_of(self, label: str, total: int) -> Iterator[None]:
        if self.quiet or not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        with _Bars(*columns, console=self.console, transient=False) as bar:
            self._bar, self._task = bar, bar.add_task(label, total=total, note="")
            try:
                yield
            finally:
                self._bar = self._task = None
                self._steps.clear()

    def steps(self) -> AbstractContextManager[None]:
        """Show the algorithm's long steps (`fedrec.progress`) within this context."""
        return nullcontext() if self.quiet else listening(self._step)

    def _step(self, step: Step) -> None:
        if self._bar is None:
            self._lines(step)
        elif step.ended:
            if (task := self._steps.pop(step.name, None)) is not None:
                self._bar.remove_task(task)
        elif step.name in self._steps:
            self._bar.update(self._steps[step.name], completed=step.done)
        else:
            self._steps[step.name] = self._bar.add_task(step.name, total=step.total, completed=step.done, note="")

    def round(self, report: RoundReport) -> None:
        """Report a finished round that is on disk. Raises: KeyboardInterrupt on a stop request."""
        note = f"{report.seconds:.2f} s/round, {report.users / max(report.seconds, 1e-9):,.0f} users/s"
        if self.epsilon is not None:
            spent = report.epsilon["rdp"] if report.epsilon["pld"] is None else report.epsilon["pld"]
            note = f"epsilon {spent:.3f} of {self.epsilon:g}, {note}"
        if report.metrics:
            self.say(f"round {report.round + 1}: {_measured(report.metrics)}")
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=report.round + 1, note=note)
        elif (report.round + 1) % max(1, report.rounds // PLAIN_LINES) == 0 or report.round + 1 == report.rounds:
            self.say(f"round {report.round + 1}/{report.rounds}: {note}")
        if self.stop.requested:
            raise KeyboardInterrupt


class _Bars(Progress):
    """The rounds, and below them each step that has lasted `LONG` seconds."""

    def get_renderables(self) -> Iterable[RenderableType]:
        rounds = self.task_ids[:1]
        yield self.make_tasks_table([task for task in self.tasks if task.id in rounds or (task.elapsed or 0) >= LONG])


def _measured(metrics: Mapping[str, float]) -> str:
    """Format true metrics as they are, and those of a private look with the standard deviation of their noise."""
    std = metrics.get(f"{PRIVATE}std", 0.0)
    return ", ".join(
        f"{name} {value:.3f}" + (f" +- {std:.3f}" if name.startswith(PRIVATE) else "")
        for name, value in metrics.items()
        if name != f"{PRIVATE}std"
    )
