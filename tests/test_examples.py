"""The programs and the notebook of `examples/` run as they stand."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


def test_there_are_examples() -> None:
    assert PROGRAMS
    assert list(EXAMPLES.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_runs_in_an_empty_folder(program: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the record holds: True" in done.stdout
    assert list(tmp_path.iterdir()) == [], "it leaves nothing where it was started"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda notebook: notebook.name)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs the extra fedrec[test]")
    client = pytest.importorskip("nbclient", reason="needs the extra fedrec[test]")
    pytest.importorskip("ipykernel", reason="needs the extra fedrec[test]")
    pages: Any = nbformat.read(notebook, as_version=4)
    assert [cell.outputs for cell in pages.cells if cell.cell_type == "code" and cell.outputs] == [], "kept outputs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        client.NotebookClient(pages, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in pages.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("text/html" in output.get("data", {}) for output in shown) >= 4, "results show themselves as tables"
