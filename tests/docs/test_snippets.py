"""The Python of README and docs runs as it is written, a page as one program, on small data in an empty folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedrec.cli import run
from tests.docs.fences import ROOT, blocks, pages
from tests.docs.test_commands import SMALL, prepare

PAGES = [page for page in pages() if blocks(page.read_text(encoding="utf-8"), "python")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, a catalogue and two finished runs, `runs/first` and `runs/second`, that kept their ranks."""
    folder = tmp_path_factory.mktemp("snippets")
    prepare(folder)
    for seed, name in enumerate(("first", "second")):
        options = f"{SMALL} --set evaluation.keep_ranks=true --set evaluation.baselines=false"
        log = f"--set data.path={folder / 'log.csv'} --set data.catalogue={folder / 'items.csv'}"
        line = f"simulate --quiet --seed {seed} --out {folder / 'runs' / name} {log} {options}"
        assert run(line.split()) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(page: Path, workspace: Path) -> None:
    program = "\n\n".join(blocks(page.read_text(encoding="utf-8"), "python"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=workspace, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{page}\n{done.stderr}"


def test_some_page_has_python() -> None:
    assert PAGES
