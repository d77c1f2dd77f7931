"""The JSON file of a benchmark, written after every measurement, so that a failure loses only the last one."""

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
    """The results of one `fedrec bench`, in `document` and in the file `out`/`name`.

    Args:
        out: folder of the file; None for no file.
        name: name of the file.
        about: facts of the benchmark.
        planned: number of measurements. An interrupted benchmark has fewer.
    Raises: InputError, before any measurement, for an existing file or a folder that cannot be written to.
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
        """Add one measurement, and write the file."""
        self.document["results"].append(result)
        self.document |= machine()
        if self._file is not None:
            replace(self._file, f"{json.dumps(self.document, indent=2, allow_nan=False)}\n".encode())


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Check an algorithm's settings. Raises: InputError for an unknown algorithm or setting."""
    parse(algorithm(name).Config, dict(settings), f"--set {name}")
