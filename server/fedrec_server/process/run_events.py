"""Run events, for the command that started the run: one JSON line a round, some for a long step, one for the end."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedrec.progress import Step


class RunEvents:
    """The events of one run, appended to the file `path`; discarded for None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def round(self, round_index: int, rounds: int, seconds: float, epsilon: float | None = None) -> None:
        """Append a finished round.

        Args:
            round_index: position of the round, from 0.
            rounds: number of rounds of the run.
            seconds: wall time of the round.
            epsilon: epsilon spent so far, None without privacy.
        """
        epsilon = epsilon if epsilon is not None and math.isfinite(epsilon) else None
        self._append({"round": round_index + 1, "rounds": rounds, "seconds": seconds, "epsilon": epsilon})

    def step(self, step: Step) -> None:
        """Append the progress of a long step of a round."""
        self._append({"step": step.name, "done": step.done, "total": step.total, "ended": step.ended})

    def folder(self, path: Path) -> None:
        """Append the run's folder."""
        self._append({"folder": str(path)})

    def end(self, code: int, line: str) -> None:
        """Append the end: an exit code, and one line for people."""
        self._append({"code": code, "line": line})

    def _append(self, event: dict[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")


def read_events(path: Path, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the events of the complete lines from byte `start`, each with the position of the next line."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield start, json.loads(line)
