"""The floors of the house: files import each other in no circle, and a room imports only rooms on lower floors.

Imports inside functions and under TYPE_CHECKING count: they hide a circle and do not end it.
"""

from collections.abc import Iterable, Mapping

import pytest

from tests.syntax import imports
from tests.test_architecture import BASE, PACKAGED, name_of, text_of

ROOMS = [
    *("fedrec.data", "fedrec.donors", "fedrec.encoders", "fedrec.knowledge", "fedrec.privacy", "fedrec.social"),
    *("fedrec.model", "fedrec.kernels", "fedrec.towers", "fedrec.sequences"),
    "fedrec.algorithms",
    *(
        "fedrec.evaluation",
        "fedrec.ondevice",
        "fedrec.generate",
        "fedrec.recommend",
        "fedrec.wire",
        "fedrec.federation",
    ),
    *("fedrec.transport", "fedrec.http", "fedrec.serving"),
    *("fedrec.audit", "fedrec.secagg", "fedrec.run", "fedrec.releases"),
    *("fedrec.compress", "fedrec.exports", "fedrec_client"),
    *("fedrec_server.allowed_plugins", "fedrec_server.pki", "fedrec_server.helper", "fedrec_server.flower"),
    "fedrec_server.deployment",
    *("fedrec_server.process", "fedrec_server.releases"),
    *("fedrec_server.planned", "fedrec_server.default_trust", "fedrec_server.app", "fedrec_server.commands"),
    *("fedrec_sim.engines", "fedrec_sim.report", "fedrec_sim.simulation", "fedrec_sim.experiment"),
    *("fedrec_sim.attacks", "fedrec_sim.benchmarks", "fedrec_sim.demo", "fedrec_sim.commands", "fedrec.api"),
    "fedrec.testing",
]
"""The rooms from the ground up, each above all that it imports; below them all are the files of `BASE`."""

Graph = Mapping[str, set[str]]


def graph_of(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> the other modules of `sources` that it imports, anywhere in the file."""
    found: dict[str, set[str]] = {}
    for module, source in sources.items():
        names = imports(source)
        found[module] = {known for name in names if (known := _module(name, sources)) and known != module}
    return found


def _module(name: str, known: Mapping[str, str]) -> str:
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import each other in a loop: what is left when files without open imports are taken."""
    left = {module: set(names) for module, names in graph.items()}
    while done := {module for module, names in left.items() if not names & left.keys()}:
        left = {module: names for module, names in left.items() if module not in done}
    while used := left.keys() & {name for names in left.values() for name in names}:  # drop those above a circle
        if len(used) == len(left):
            return [sorted(left)]
        left = {module: names for module, names in left.items() if module in used}
    return []


def rising(graph: Graph, rooms: list[str]) -> list[str]:
    """Arrows from a room to one on a higher floor."""
    return sorted(
        f"{module} -> {name}"
        for module, names in graph.items()
        for name in names
        if _floor(name, rooms) > _floor(module, rooms)
    )


def _floor(module: str, rooms: Iterable[str]) -> int:
    """The floor of a module's room; 0 for the ground."""
    return next((n for n, room in enumerate(rooms, 1) if module == room or module.startswith(f"{room}.")), 0)


SOURCES = {name_of(file): text_of(file) for file in PACKAGED if file.name != "__init__.py"}


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert circles(graph_of(SOURCES)) == []


def test_every_arrow_points_to_a_lower_floor() -> None:
    assert rising(graph_of(SOURCES), ROOMS) == []


def test_every_room_has_its_floor() -> None:
    used = {room for room in ROOMS if any(_floor(module, [room]) for module in SOURCES)}
    assert used == set(ROOMS), "a room of the table that is not there"
    above = {"fedrec.cli", "fedrec.commands"}
    ground = {module for module in SOURCES if not _floor(module, ROOMS)} - BASE
    assert {".".join(module.split(".")[:2]) for module in ground} <= above, "name its floor"


LATE = "def late():\n    from fedrec.b import B\n"
HIDDEN = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fedrec.b import B\n"


@pytest.mark.parametrize("source", ["from fedrec.b import B\n", LATE, HIDDEN])
def test_a_planted_circle_is_found_wherever_it_hides(source: str) -> None:
    sources = {
        "fedrec.a": source,
        "fedrec.b": "from fedrec import c\n",
        "fedrec.c": "import fedrec.a\n",
        "fedrec.above": "import fedrec.a\n",
        "fedrec.ground": "",
    }
    assert circles(graph_of(sources)) == [["fedrec.a", "fedrec.b", "fedrec.c"]]
    assert circles(graph_of(sources | {"fedrec.c": ""})) == []


@pytest.mark.parametrize("source", ["from fedrec.b import B\n", LATE, HIDDEN])
def test_a_planted_arrow_to_a_higher_floor_is_found(source: str) -> None:
    graph = graph_of({"fedrec.a": source, "fedrec.b": "import fedrec.ground\n", "fedrec.ground": ""})
    assert rising(graph, ["fedrec.a", "fedrec.b"]) == ["fedrec.a -> fedrec.b"]
    assert rising(graph, ["fedrec.b", "fedrec.a"]) == []
