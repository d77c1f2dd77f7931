"""Fixtures of all tests: the folder of real data, and a key for ledgers that belongs to no user."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fedrec.audit.log.keys import KEY_VARIABLE, PASSPHRASE_VARIABLE, new_key
from tests.core.chromium import missing

# Tests start fedrec in processes of its own: without bytecode on disk each of them would compile every module anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("fedrec", deadline=None)  # seconds say nothing on a machine that others use
settings.load_profile("fedrec")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report, also under `-q`, that a part of the tests had no browser to run in."""
    line = missing()
    skipped = terminalreporter.stats.get("skipped", [])
    if line is not None and any("browser" in report.nodeid for report in skipped):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that holds a folder per dataset: FEDREC_DATA, else `../shared/data`, else skips."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("FEDREC_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no datasets: set FEDREC_DATA to a folder that holds a folder per dataset ({folder} is none)")
    return folder


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    """PyTorch's number of threads, which a test must restore: two threads on a busy core take ten times as long."""
    before = torch.get_num_threads() if (torch := sys.modules.get("torch")) else None
    yield
    if before is not None and torch is not None and (left := torch.get_num_threads()) != before:
        torch.set_num_threads(before)
        pytest.fail(f"the test left PyTorch with {left} threads instead of {before}; restore the number")


@pytest.fixture(scope="session", autouse=True)
def ledger_key(tmp_path_factory: pytest.TempPathFactory):
    """The default key, in child processes too, so that no test touches the home of its user."""
    path = tmp_path_factory.mktemp("key") / "ledger-key.pem"
    new_key(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, str(path))
        patch.delenv(PASSPHRASE_VARIABLE, raising=False)
        yield path
