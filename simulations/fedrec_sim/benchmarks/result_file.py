"""The JSON of a benchmark: on disk after every measurement, so that an hour of them is not lost with the last."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedrec.algorithms.discover import algorithm
from fedrec.durable import replace
from fedrec.errors import InputError
from fedrec.run.directory import make_folder
from fedrec.settings import parse
from fedrec_sim.benchmarks.options import machine


class ResultFile:
    """What `fedrec bench` measured, under `document`, and in `out`/`name` where a folder is given.

    planned: how many measurements make it whole: one that was broken off has fewer. Raises: InputError when the folder
    holds such a file or cannot be written to, before anything is measured.
    """

    def __init__(self, out: Path | None, name: str, about: Mapping[str, Any], planned: int) -> None:
        if out is not None and (out / name).exists():
            raise InputError(f"--out {out}: holds another benchmark; give a new folder")
        if out is not None:
            make_folder(out)
            if not os.access(out, os.W_OK):
                raise InputError(f"--out {out}: cannot be written to; choose another folder")
        self._file = out / name if out is not None else None
        self.document: dict[str, Any] = {**about, "planned": planned, "results": []}

    def add(self, result: Mapping[str, Any]) -> None:
        """Keep one more measurement."""
        self.document["results"].append(result)
        self.document |= machine()
        if self._file is not None:
            replace(self._file, f"{json.dumps(self.document, indent=2, allow_nan=False)}\n".encode())


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raises: InputError for an algorithm that there is not, and for settings that it does not have."""
    parse(algorithm(name).Config, dict(settings), f"--set {name}")
