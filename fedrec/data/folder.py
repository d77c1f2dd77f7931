"""The folder of datasets, with a folder per dataset: the option of every command, and the variable behind it."""

import os
from pathlib import Path
from typing import Annotated

import typer

VARIABLE = "FEDREC_DATA"
"""Environment variable that names the folder where nothing else does."""

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar=VARIABLE, metavar="DIR", help="The folder of datasets, a folder each."),
]
"""The option `--data-dir`; a command with other words for it uses the same variable."""


def data_folder(given: Path | str | None) -> Path | None:
    """Return the folder of datasets: `given`, else the one that the environment names, else None."""
    named = given or os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else None
