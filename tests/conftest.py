"""Shared by all tests: where real data lie."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that holds a folder per dataset: FEDREC_DATA, else `../shared/data`, else skips."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("FEDREC_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no datasets: set FEDREC_DATA to a folder that holds a folder per dataset ({folder} is none)")
    return folder
