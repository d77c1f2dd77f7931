"""One attack: its kind, its name, and how it is played."""

from collections.abc import Callable
from dataclasses import dataclass

from fedrec.audit.self_test.stage import Stage


@dataclass(frozen=True)
class Attack:
    """play(stage): returns None where it was refused, else what happened instead."""

    kind: str
    name: str
    play: Callable[[Stage], str | None]
