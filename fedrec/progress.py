"""Progress of long steps: an algorithm counts, and the front end that listens shows it.

An algorithm writes

    with step("denoising popularity", total=steps) as advance:
        for _ in range(steps):
            ...
            advance()

and prints nothing. Without a listener a step does nothing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

LONG = 1.0
"""Seconds after which a person sees a step."""

EVERY = 5.0
"""Seconds between two lines about the same step."""


@dataclass(frozen=True)
class Step:
    """The progress of a step.

    Attributes:
        name: name of the step, a constant of the code.
        total: number of its parts.
        done: number of finished parts.
        ended: True if the step is over; a step that stops early, or fails, ends below its total.
    """

    name: str
    total: int
    done: int = 0
    ended: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.done}/{self.total}"


Listener = Callable[[Step], None]


class Advance(Protocol):
    """Counts finished parts of a step."""

    def __call__(self, parts: int = 1) -> None: ...


_LISTENER: ContextVar[Listener | None] = ContextVar("fedrec_progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` for this thread's steps within the context: at the start, after each part, and at the end."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def step(name: str, total: int) -> Iterator[Advance]:
    """One long step.

    Args:
        name: what it does, in a few words.
        total: how many parts it has, at most.

    Yields:
        What to call after a part, or with the number of parts that were finished.
    """
    listener = _LISTENER.get()
    if listener is None:
        yield _nothing
        return
    now = Step(name, total)

    def advance(parts: int = 1) -> None:
        nonlocal now
        now = replace(now, done=now.done + parts)
        listener(now)

    listener(now)
    try:
        yield advance
    finally:
        listener(replace(now, ended=True))


class LongSteps:
    """A listener for lines: passes on a step that has lasted `after` seconds, then a count every `EVERY` seconds.

    Args:
        listener: gets them, and the end of each step that it got a count of.
        after: seconds.
        clock: the time in seconds.
    """

    def __init__(self, listener: Listener, after: float = LONG, clock: Callable[[], float] = time.monotonic) -> None:
        self._listener, self._after, self._clock = listener, after, clock
        self._due: dict[str, float] = {}
        self._shown: set[str] = set()

    def __call__(self, now: Step) -> None:
        if now.ended:
            self._due.pop(now.name, None)
            if now.name in self._shown:
                self._shown.remove(now.name)
                self._listener(now)
        elif self._clock() >= self._due.setdefault(now.name, self._clock() + self._after):
            self._due[now.name] = self._clock() + EVERY
            self._shown.add(now.name)
            self._listener(now)


def _nothing(parts: int = 1) -> None:
    """Nobody listens."""
