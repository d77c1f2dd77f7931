"""One set of make targets behind `.ci/run`, the workflow, pre-commit and the text; and no test that silently skips."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKS = {"simulate", "test", "test-slow", "lint", "types", "docs"}
"""Make targets that must pass before a change lands."""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def called(source: str) -> set[str]:
    """Return the make targets that a text calls."""
    targets = re.findall(r"\bmake((?: [a-z][a-z-]*)+)", source)
    return {target for line in targets for target in line.split()}


def test_every_check_runs_in_ci() -> None:
    assert called(text(".ci/run")) >= CHECKS
    assert "run: .ci/run\n" in text(".github/workflows/ci.yml")


@pytest.mark.parametrize("name", [".ci/run", ".pre-commit-config.yaml", "CONTRIBUTING.md"])
def test_every_target_that_is_named_exists(name: str) -> None:
    starts = ("make", "entry:", "step")
    found = called("\n".join(line for line in text(name).splitlines() if line.strip().startswith(starts)))
    assert found
    assert found <= set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


def test_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in listed.splitlines() if line.startswith("make ")} >= CHECKS | {"coverage"}


def test_without_a_browser_the_tests_skip_and_say_so(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/core/audit/report/test_report_browser.py",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "passed" not in done.stdout
    assert "The browser tests were skipped: no Chromium on this machine" in done.stdout
