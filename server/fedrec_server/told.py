"""What a run tells whoever started it: a line of JSON for each finished round, and one for how it ended."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedrec_server.coordinator import RoundReport


class Teller:
    """Appends to the file `path`; to nothing where there is none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def round(self, report: RoundReport) -> None:
        """A finished round."""
        spent = report.epsilon.get("pld")
        epsilon = spent if spent is not None and math.isfinite(spent) else None
        self._tell({"round": report.round + 1, "rounds": report.rounds, "seconds": report.seconds, "epsilon": epsilon})

    def folder(self, path: Path) -> None:
        """Where the run is written."""
        self._tell({"folder": str(path)})

    def end(self, code: int, line: str) -> None:
        """How it ended: an exit code, and one line for people."""
        self._tell({"code": code, "line": line})

    def _tell(self, what: dict[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(what) + "\n")


def read_told(path: Path, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
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
