"""The folder of datasets, one folder each: the option of every command, and its environment variable."""

import os
from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "FEDREC_DATA"
"""Environment variable that names the folder where no option does."""

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar=VARIABLE, metavar="DIR", help="The folder of datasets, a folder each."),
]
"""The option `--data-dir`; a command with another help text uses the same variable."""


def data_folder(given: Path | str | None) -> Path | None:
    """Return the folder of datasets: `given`, else the one that the environment names, else None."""
    named = given or os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else None
