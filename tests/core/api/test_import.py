"""`import fedrec` is light, and its names are those that the stub gives to type checkers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fedrec

HEAVY = ("torch", "polars", "numpy", "flwr", "pydantic", "rich", "typer", "opacus", "matplotlib")
SECONDS = 0.3


def test_it_loads_nothing_heavy_and_takes_little_time() -> None:
    program = (
        "import sys, time\nbefore = time.process_time()\nimport fedrec\nspent = time.process_time() - before\n"
        f"print(spent, *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    spent, *loaded = done.stdout.split()
    assert loaded == []
    assert float(spent) < SECONDS


def test_the_api_loads_neither_flower_nor_ray() -> None:
    program = (
        "import sys, fedrec\n[getattr(fedrec, name) for name in fedrec.__all__]\n"
        "print(*(name for name in ('flwr', 'ray', 'pandas') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_stub_has_the_same_names_from_the_same_modules() -> None:
    stub = Path(fedrec.__file__ or "").with_suffix(".pyi").read_text(encoding="utf-8")
    imported = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    homes = {alias.asname: node.module for node in imported for alias in node.names}
    assert sorted(homes) == fedrec.__all__
    for name in fedrec.__all__:
        assert getattr(fedrec, name).__module__ == homes[name]
    assert dir(fedrec) == sorted([*fedrec.__all__, "__version__"])


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'simulate'"):
        fedrec.simulat  # noqa: B018
    assert fedrec.__version__
