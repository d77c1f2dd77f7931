"""fedrec's wheel with its base dependencies alone, and no network: the folder that `pip install fedrec` would fill."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SLIM = {"typer-slim": ("typer", {"click", "typing-extensions"})}
"""Base package that may be installed as another one with the same files -> that one, and what the base one needs."""


def built_wheel(folder: Path) -> Path:
    """Build the wheel of this repository."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def unpacked(wheel: Path, site: Path) -> Path:
    """Make a folder of the wheel and links to the packages that it needs without extras, and theirs."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    about = next(site.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    open_, done = needed(re.findall(r"^Requires-Dist: (.*)$", about, re.MULTILINE)), {"fedrec"}
    while open_ - done:
        name = sorted(open_ - done)[0]
        done.add(name)
        package, needs = name, None
        try:
            found = distribution(name)
        except PackageNotFoundError:
            package, needs = SLIM[name]
            found = distribution(package)
        open_ |= needed(found.requires or []) if needs is None else needs
        for top in {path.parts[0] for path in found.files or () if path.parts[0] != ".."}:
            (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    return site


def needed(lines: list[str]) -> set[str]:
    """Return the packages of requirements that hold here without extras."""
    found = [Requirement(line) for line in lines]
    return {one.name for one in found if one.marker is None or one.marker.evaluate({"extra": ""})}


@pytest.fixture(scope="session")
def base_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation without extras."""
    folder = tmp_path_factory.mktemp("base")
    return unpacked(built_wheel(folder), folder / "site")


def run_in(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the standard library and `site` alone."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    environment = kept | {"PYTHONPATH": str(site), "HOME": str(cwd), "PYTHONSAFEPATH": "1", "COLUMNS": "120"}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
