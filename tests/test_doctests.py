"""Every example in a docstring runs as it stands and prints what it shows."""

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_architecture import PACKAGED, name_of

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LONG = {f"fedrec.algorithms.{name}" for name in ("tower_sgd", "fedrecon", "pfedrec", "fedncf", "sequence")}
EXAMPLES = [file for file in PACKAGED if ">>> " in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=[pytest.mark.slow] * (name_of(file) in LONG)) for file in EXAMPLES],
    ids=map(name_of, EXAMPLES),
)
def test_the_examples_of_a_module_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name_of(file)), optionflags=FLAGS)
    assert found.attempted
    assert not found.failed


def test_a_wrong_example_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    planted = ModuleType("planted", "A sum.\n\n>>> 1 + 1\n3\n")
    assert doctest.testmod(planted, optionflags=FLAGS).failed == 1
