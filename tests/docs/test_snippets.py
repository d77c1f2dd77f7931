"""The Python of README and docs runs as it is written, a page as one program, on small data in an empty folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedrec.cli import run
from tests.docs.fences import ROOT, blocks, pages
from tests.docs.test_commands import SMALL, prepare

PROGRAMS = {
    "\n\n".join(found): page for page in pages() if (found := blocks(page.read_text(encoding="utf-8"), "python"))
}
"""The Python of a page as one program -> the page. README and quickstart have the same lines, which run once."""


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
@pytest.mark.parametrize("program", PROGRAMS, ids=[str(page.relative_to(ROOT)) for page in PROGRAMS.values()])
def test_the_python_of_a_page_runs(program: str, workspace: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(workspace, tmp_path / "empty")
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_lines_of_readme_and_quickstart_are_the_same() -> None:
    readme, quickstart = (
        blocks((ROOT / name).read_text(encoding="utf-8"), "python") for name in ("README.md", "docs/quickstart.md")
    )
    assert readme == quickstart
    assert 8 <= len(readme[0].strip().splitlines()) <= 12
