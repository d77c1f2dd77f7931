"""The house: which room may import which, as a table that every file is held to; and what no file may do."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.syntax import calls, imports

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"fedrec": "fedrec", "fedrec_client": "clients", "fedrec_server": "server", "fedrec_sim": "simulations"}
"""Import package -> the folder that holds it (for `fedrec`, the root)."""

BASE = {
    "fedrec.errors",
    "fedrec.extras",
    "fedrec.settings",
    "fedrec.setting_hints",
    "fedrec.draws",
    "fedrec.plugins",
    "fedrec.devices",
    "fedrec.parallel",
    "fedrec.precision",
    "fedrec.json_types",
    "fedrec.record_parts",
    "fedrec.charge",
    "fedrec.rounding",
    "fedrec.rowwise",
    "fedrec.packed_tensors",
    "fedrec.durable",
    "fedrec.private_files",
    "fedrec.plain_text",
    "fedrec.received_files",
    "fedrec.screen",
    "fedrec.lazy_names",
    "fedrec.progress",
    "fedrec.__version__",
}
SUMS = {"fedrec.privacy.queries", "fedrec.privacy.fixed_point"}
"""Modules of the queries, and of the conversion of contributions to integers."""
ALLOWED: dict[str, set[str]] = {
    "fedrec": set(),
    "fedrec.errors": {"fedrec.plain_text"},
    "fedrec.plain_text": set(),
    "fedrec.received_files": {"fedrec.durable", "fedrec.errors"},
    "fedrec.screen": {"fedrec.plain_text"},
    "fedrec.extras": {"fedrec.errors"},
    "fedrec.draws": set(),
    "fedrec.devices": {"fedrec.errors"},
    "fedrec.durable": set(),
    "fedrec.private_files": {"fedrec.durable", "fedrec.errors"},
    "fedrec.parallel": {"fedrec.precision", "fedrec.rowwise"},
    "fedrec.precision": set(),
    "fedrec.progress": set(),
    "fedrec.json_types": set(),
    "fedrec.record_parts": {"fedrec.json_types"},
    "fedrec.charge": {"fedrec.record_parts"},
    "fedrec.rounding": set(),
    "fedrec.rowwise": set(),
    "fedrec.packed_tensors": set(),
    "fedrec.settings": {"fedrec.errors", "fedrec.setting_hints"},
    "fedrec.setting_hints": {"fedrec.errors"},
    "fedrec.plugins": {"fedrec.errors"},
    "fedrec.commands": {"fedrec.errors", "fedrec.extras", "fedrec.plugins"},
    "fedrec.data": BASE | {"fedrec.commands"},
    "fedrec.privacy": BASE,
    "fedrec.model": BASE | {"fedrec.data"},
    "fedrec.donors": BASE | {"fedrec.data"},
    "fedrec.encoders": BASE | {"fedrec.data"},
    "fedrec.social": {
        *("fedrec.errors", "fedrec.privacy.discrete.stream", "fedrec.privacy.gaussian_curve", "fedrec.privacy.normals"),
    },
    "fedrec.knowledge": BASE | {"fedrec.data", "fedrec.encoders"},
    "fedrec.kernels": BASE | SUMS | {"fedrec.data", "fedrec.model"},
    "fedrec.towers": BASE | SUMS | {"fedrec.data", "fedrec.kernels"},
    "fedrec.sequences": BASE,
    "fedrec.algorithms": BASE
    | SUMS
    | {"fedrec.data", "fedrec.model", "fedrec.kernels", "fedrec.towers", "fedrec.sequences"},
    "fedrec.evaluation": BASE | {"fedrec.data", "fedrec.model", "fedrec.privacy.queries", "fedrec.algorithms.base"},
    "fedrec.audit": BASE | {"fedrec.privacy", "fedrec.commands", "fedrec.transport.node_key"},
    "fedrec.secagg": {"fedrec.errors", "fedrec.durable", "fedrec.audit.log"},
    "fedrec.federation": BASE
    | SUMS
    | {"fedrec.data", "fedrec.privacy.clipping", "fedrec.privacy.integers", "fedrec.algorithms", "fedrec.evaluation"}
    | {"fedrec.privacy.adaptive", "fedrec.privacy.row_cap", "fedrec.wire"},
    "fedrec.run": BASE
    | {
        *("fedrec.data", "fedrec.model", "fedrec.privacy", "fedrec.towers", "fedrec.algorithms"),
        *("fedrec.evaluation", "fedrec.audit", "fedrec.federation", "fedrec.wire", "fedrec.secagg"),
    },
    "fedrec.wire": BASE,
    "fedrec.ondevice": {
        *("fedrec.errors", "fedrec.durable", "fedrec.received_files", "fedrec.plain_text", "fedrec.packed_tensors"),
        *("fedrec.privacy.fixed_point", "fedrec.privacy.discrete", "fedrec.algorithms.kernel_rank_plan"),
        *("fedrec.kernels.stars_plan", "fedrec.kernels.pair_places"),
    },
    "fedrec.generate": {"fedrec.errors", "fedrec.extras", "fedrec.plain_text", "fedrec.ondevice"},
    "fedrec.releases": {"fedrec.errors", "fedrec.audit.log", "fedrec.ondevice"},
    "fedrec.testing": BASE
    | SUMS
    | {"fedrec.data", "fedrec.algorithms", "fedrec.evaluation", "fedrec.privacy.clipping", "fedrec.model"}
    | {
        "fedrec.recommend.kernel_items",
        "fedrec.ondevice",
        "fedrec.recommend.device_lists",
        "fedrec.recommend.device_form",
        "fedrec.privacy.integers",
        "fedrec.privacy.discrete",
    }
    | {"fedrec.releases.parity", "fedrec.privacy.adaptive", "fedrec.federation.adaptive_clipping"},
    "fedrec.transport": BASE,
    "fedrec.compress": BASE
    | {
        *("fedrec.data", "fedrec.model", "fedrec.algorithms", "fedrec.ondevice"),
        *("fedrec.audit.evidence", "fedrec.audit.verify.derived"),
    },
    "fedrec.exports": {"fedrec.errors", "fedrec.screen", "fedrec.ondevice"},
    "fedrec.serving": {
        *("fedrec.errors", "fedrec.private_files", "fedrec.received_files", "fedrec.record_parts", "fedrec.screen"),
        *("fedrec.__version__", "fedrec.data.spellings", "fedrec.http", "fedrec.ondevice"),
    },
    "fedrec.http": {
        *("fedrec.errors", "fedrec.plain_text", "fedrec.private_files", "fedrec.record_parts", "fedrec.screen"),
        "fedrec.__version__",
    },
    "fedrec.cli": BASE | {"fedrec.commands"},
    "fedrec.lazy_names": {"fedrec.errors", "fedrec.extras"},
    "fedrec.recommend": BASE | {"fedrec.data", "fedrec.kernels", "fedrec.model", "fedrec.ondevice"},
    "fedrec.api": {"fedrec", "fedrec_sim"},
    "fedrec_client": {"fedrec"},
    "fedrec_server": {"fedrec"},
    "fedrec_sim": {"fedrec", "fedrec_client", "fedrec_server"},
}
"""Room -> what else of this project it may import: packages, or single modules where only the contract is allowed.

An algorithm meets no noise and no accounting, so of `privacy` it may know `SUMS` alone. `fedrec.api` is what a person
imports: it sits above all rooms, runs the very simulation of the command line, and no room imports it.
"""

ONLY_IN: dict[str, set[str]] = {
    "flwr": {"fedrec.wire", "fedrec.transport", "fedrec_client", "fedrec_server", "fedrec_sim"},
    "ray": {"fedrec_sim"},
    "implicit": {"fedrec_sim"},
    "pytest": {"fedrec.testing"},
    "pandas": set(),
    "pickle": set(),
    "cloudpickle": set(),
    "dill": set(),
    "shelve": set(),
    "torch.load": set(),
    "torch.save": set(),
}
"""Libraries with a cost or a risk -> the rooms that may use them. Pickled data can run code."""

PRINTS = {
    "fedrec.screen",
    "fedrec.lazy_names",
    "fedrec.audit.statement.schema",
    "fedrec.transport.supernode",
    "fedrec_sim.benchmarks.jobs",
    "fedrec_sim.benchmarks.flower_ray",
}
"""Modules that may print directly: `screen`, which escapes; the others print text of their own to a pipe or file."""

LONGEST = {"package": 350, "tests": 400}
"""Lines a file."""


def room_of(module: str) -> str:
    """The room of a module: its package, or for the core its first folder or file below `fedrec`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "fedrec" else parts[0]


def within(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def violations(module: str, source: str) -> list[str]:
    """Return the imports of the file `module` that its room does not allow."""
    room = room_of(module)
    if room not in ALLOWED:
        return [f"{module}: room '{room}' is not in the table"]
    names = imports(source)
    inside = {name for name in names if name.split(".")[0] in SOURCES and not within(name, room)}
    wrong = {name for name in inside if not any(within(name, place) for place in ALLOWED[room])}
    for outside, where in ONLY_IN.items():
        wrong |= {name for name in names if within(name, outside) and room not in where}
    return [f"{module} imports {name}" for name in sorted(wrong)]


def files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def name_of(file: Path) -> str:
    for package, folder in SOURCES.items():
        base = ROOT if package == "fedrec" else ROOT / folder
        if file.is_relative_to(base / package):
            return ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
    raise AssertionError(f"{file} is in no package")


PACKAGED = files(*SOURCES.values())


@cache
def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def test_imports_point_one_way():
    assert [fault for file in PACKAGED for fault in violations(name_of(file), text_of(file))] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fedrec.data.splits", "from fedrec.algorithms.base import Algorithm"),
        ("fedrec.kernels.model", "from fedrec.algorithms.base import Shared"),
        ("fedrec.privacy.plan", "import fedrec.evaluation.metrics"),
        ("fedrec.privacy.plan", "from fedrec import algorithms"),
        ("fedrec.algorithms.als", "from fedrec.privacy.noise import gaussian"),
        ("fedrec.kernels.public", "from fedrec.algorithms.als import ALS"),
        ("fedrec.algorithms.als", "def late():\n    from fedrec.run.coordinator import Coordinator"),
        ("fedrec.algorithms.als", "import ray"),
        ("fedrec.evaluation.ranking", "import flwr.client"),
        ("fedrec.cli", "from fedrec_sim import scenario"),
        ("fedrec_client.edge", "from fedrec_server import keys"),
        ("fedrec.run.coordinator", "import fedrec_client"),
        ("fedrec.run.coordinator", "from fedrec_sim.engines.in_process import InProcessFederation"),
        ("fedrec.run.checkpoint", "import pickle"),
        ("fedrec.run.checkpoint", "import torch\nstate = torch.load('file')"),
        ("fedrec.run.checkpoint", "from torch import load"),
        ("fedrec_sim.report.table", "import pandas as pd"),
        ("fedrec.newroom.file", "import math"),
    ],
)
def test_the_table_catches_a_planted_violation(module, source):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fedrec.wire", "from flwr.common import RecordDict"),
        ("fedrec.audit.log.ledger", "from fedrec import __version__"),
        ("fedrec_sim.bench", "import ray, implicit\nfrom fedrec.run.coordinator import Coordinator"),
        ("fedrec.run.federation", "from fedrec.algorithms.base import Algorithm"),
    ],
)
def test_the_table_lets_pass_what_it_should(module, source):
    assert violations(module, source) == []


def printed(module: str, source: str) -> list[str]:
    """Calls that write to a terminal past `fedrec.screen`, and columns of progress that read their text as markup."""
    found = []
    for name, node in calls(source):
        plain = any(each.arg == "markup" and ast.unparse(each.value) == "False" for each in node.keywords)
        own = module in PRINTS
        past = name in ("print", "typer.echo", "typer.secho", "click.echo", "click.secho", "Console")
        if ((past or name.endswith(".Console")) and not own) or (name == "TextColumn" and not plain):
            found.append(f"{module}: {name} in line {node.lineno}")
    return found


def test_one_place_prints():
    assert [fault for file in PACKAGED for fault in printed(name_of(file), text_of(file))] == []


@pytest.mark.parametrize("source", ["print(1)", "typer.echo('a')", "rich.console.Console()", "TextColumn('{task}')"])
def test_a_print_past_that_place_is_caught(source):
    assert len(printed("fedrec.data.commands", source)) == 1


def test_a_file_is_one_idea():
    """A longer file is split by ideas."""
    most = dict.fromkeys(PACKAGED, LONGEST["package"]) | dict.fromkeys(files("tests"), LONGEST["tests"])
    assert {str(file.relative_to(ROOT)) for file, limit in most.items() if text_of(file).count("\n") > limit} == set()


@pytest.mark.parametrize("file", [f for f in PACKAGED if f.name == "__init__.py"], ids=name_of)
def test_a_folder_hands_on_names_and_defines_nothing(file):
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        dunder = isinstance(node, ast.Assign) and all(name.startswith("__") for name in names)
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert dunder or docstring or isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)


def test_the_core_runs_without_flower_ray_and_the_other_packages():
    """Every module of the core, in a fresh interpreter in which those imports fail; `wire` imports Flower when used."""
    modules = list(map(name_of, files("fedrec")))
    blocked = ["flwr", "ray", "implicit", "pandas", "fedrec_client", "fedrec_server", "fedrec_sim"]
    program = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "print('imported')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "imported"


MIRRORED = {
    "core": "fedrec",
    "client": "clients/fedrec_client",
    "server": "server/fedrec_server",
    "simulation": "simulations/fedrec_sim",
}
"""Folder of `tests` -> the package whose rooms it mirrors. Tests of several rooms are at the top of each folder."""


def misplaced(test: str) -> str | None:
    """Return what is wrong with the place of a test file, a path below `tests`, or None."""
    *folders, name = test.split("/")
    if not folders or folders[0] not in MIRRORED:
        return None
    tree, *rooms = folders
    package = ROOT / MIRRORED[tree]
    if not package.joinpath(*rooms).is_dir():
        return f"tests/{test}: no room {'/'.join([MIRRORED[tree], *rooms])}"
    if tree == "core" and not rooms and not (package / name.removeprefix("test_")).is_file():
        return f"tests/{test}: no module fedrec/{name.removeprefix('test_')}"
    return None


def test_tests_mirror_the_rooms():
    found = [file for file in files("tests") if file.name.startswith("test_")]
    assert len(found) > 100
    assert [wrong for file in found if (wrong := misplaced(str(file.relative_to(ROOT / "tests"))))] == []


@pytest.mark.parametrize(
    "test",
    ["core/test_data_splits.py", "core/newroom/test_cli.py", "server/run/test_coordinator.py", "client/flower/a.py"],
)
def test_a_test_in_no_room_is_caught(test):
    assert misplaced(test) is not None
