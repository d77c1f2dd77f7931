"""One attack: its kind, its name, and the function that plays it."""

from collections.abc import Callable
from dataclasses import dataclass

from fedrec.audit.self_test.stage import Stage


@dataclass(frozen=True)
class Attack:
    """An attack. `play(stage)` returns None if it was refused, else a description of what happened."""

    kind: str
    name: str
    play: Callable[[Stage], str | None]
