"""Events of a run for the command that started it: a line of JSON a round, some for a long step, one for the end."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedrec.progress import Step


class RunEvents:
    """Appends to the file `path`; to nothing where there is none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def round(self, round: int, rounds: int, seconds: float, epsilon: float | None = None) -> None:
        """The round at position `round` is finished; epsilon: spent by then, None without privacy."""
        epsilon = epsilon if epsilon is not None and math.isfinite(epsilon) else None
        self._append({"round": round + 1, "rounds": rounds, "seconds": seconds, "epsilon": epsilon})

    def step(self, step: Step) -> None:
        """How far a long step of a round is."""
        self._append({"step": step.name, "done": step.done, "total": step.total, "ended": step.ended})

    def folder(self, path: Path) -> None:
        """Where the run is written."""
        self._append({"folder": str(path)})

    def end(self, code: int, line: str) -> None:
        """How it ended: an exit code, and one line for people."""
        self._append({"code": code, "line": line})

    def _append(self, event: dict[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")


def read_events(path: Path, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The whole lines from byte `start` on, each with where the next one begins."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield start, json.loads(line)
