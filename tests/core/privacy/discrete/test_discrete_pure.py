"""Discrete privacy on a device: nothing of it may need torch, scipy or an accountant's library."""

import subprocess
import sys
from pathlib import Path

ROOM = Path(__file__).parents[4] / "fedrec/privacy/discrete"


def test_no_file_of_the_room_loads_a_heavy_library() -> None:
    modules = [f"fedrec.privacy.discrete.{file.stem}" for file in ROOM.glob("*.py") if file.stem != "__init__"]
    program = (
        "import importlib, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "print({'torch', 'scipy', 'opacus', 'dp_accounting', 'pydantic', 'flwr'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set()"
    assert len(modules) > 5
