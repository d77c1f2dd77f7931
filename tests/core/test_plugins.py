import logging
import shutil
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from fedrec import cli, plugins
from fedrec.algorithms import discover
from fedrec.algorithms.popularity import Popularity
from fedrec.errors import InputError
from fedrec.towers import base as towers
from tests.foreign import ALGORITHM, install


def test_an_algorithm_of_another_package_is_found_by_its_name(tmp_path, monkeypatch):
    source = ALGORITHM.format(name="Mine", called="mine")
    install(monkeypatch, tmp_path, "stranger", "stranger_a", source, {"fedrec.algorithms:mine": "Mine"})
    assert discover.algorithm("popularity") is Popularity
    assert "stranger_a" not in sys.modules, "imported before a run named it"
    found = discover.algorithm("mine")
    assert found.__module__ == "stranger_a"
    assert discover.algorithms()["mine"] is found
    origin = plugins.origin(found)
    assert origin is not None
    assert (origin.package, origin.file) == ("stranger 1.5", "stranger_a.py")
    assert plugins.origin(Popularity) is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("Mine = 3", "is no subclass of fedrec.algorithms.base.Algorithm"),
        ("from fedrec.algorithms.base import Algorithm as Mine", "lacks contribute, initial, queries"),
        (ALGORITHM.format(name="Mine", called="other"), "is named 'other'"),
    ],
)
def test_a_package_that_cannot_be_used_is_one_line_and_breaks_nothing_else(
    tmp_path, monkeypatch, capsys, source, reason
):
    module = f"broken_{abs(hash(source))}"
    entries = {"fedrec.algorithms:mine": "Mine", "fedrec.commands:theirs": "Mine"}
    install(monkeypatch, tmp_path, "stranger", module, source, entries)
    with pytest.raises(InputError, match=r"algorithm 'mine' of package stranger 1.5: ") as refused:
        discover.algorithm("mine")
    assert reason in str(refused.value)
    assert "mine" not in discover.algorithms()
    assert cli.run(["--help"]) == 0
    assert "simulate" in capsys.readouterr().out
    assert cli.run(["data", "list"]) == 0
    capsys.readouterr()
    if "no_such_module" in source:
        assert cli.run(["theirs", "--option", "3"]) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: command 'theirs' of package stranger 1.5: cannot be imported")
        assert line.count("\n") == 1


def test_packages_are_scanned_once_until_one_comes_or_goes(tmp_path, monkeypatch):
    """A scan reads the files of every installed package, and a run asks for some forty names."""
    scans: list[str] = []
    scan = plugins.entry_points
    monkeypatch.setattr(plugins, "entry_points", lambda group: (scans.append(group), scan(group=group))[1])
    monkeypatch.syspath_prepend(str(tmp_path / "empty"))
    for _ in range(3):
        discover.algorithm("popularity")
        towers.tower("id")
    assert sorted(scans) == ["fedrec.algorithms", "fedrec.towers"]
    with monkeypatch.context() as patch:  # nor is a package's description read again, for its name
        patch.setattr(Distribution, "metadata", property(lambda _: pytest.fail("read again")))
        assert discover.algorithm("popularity") is Popularity
    source = ALGORITHM.format(name="Mine", called="late")
    install(monkeypatch, tmp_path, "late", "stranger_late", source, {"fedrec.algorithms:late": "Mine"})
    assert discover.algorithm("late").name == "late"
    shutil.rmtree(next((tmp_path / "late").glob("*.dist-info")))  # uninstalled from a folder that stays on the path
    with pytest.raises(InputError, match="unknown algorithm 'late'"):
        discover.algorithm("late")


def test_a_built_in_name_means_the_built_in_code(tmp_path, monkeypatch, caplog, capsys):
    source = ALGORITHM.format(name="Mine", called="als") + "raise SystemError('imported')\n"
    entries = {"fedrec.algorithms:als": "Mine", "fedrec.towers:id": "Mine", "fedrec.commands:data": "Mine"}
    install(monkeypatch, tmp_path, "thief", "thief_a", source, entries)
    with caplog.at_level(logging.WARNING):
        assert discover.algorithm("als").__module__ == "fedrec.algorithms.als"
        assert towers.tower("id").__module__ == "fedrec.towers.id"
        assert cli.run(["data", "list"]) == 0
    assert "thief_a" not in sys.modules
    for what in ("algorithm 'als'", "tower 'id'", "command 'data'"):
        assert f"{what} of package thief 1.5 is not used: the name is built in" in caplog.text


def test_two_packages_with_one_name_are_both_refused(tmp_path, monkeypatch):
    for package in ("first", "second"):
        source = ALGORITHM.format(name="Mine", called="twice")
        install(monkeypatch, tmp_path, package, f"{package}_mod", source, {"fedrec.algorithms:twice": "Mine"})
    with pytest.raises(InputError, match=r"package (first|second) 1.5: package (first|second) 1.5 has one"):
        discover.algorithm("twice")
    assert not {"first_mod", "second_mod"} & sys.modules.keys()


def test_an_unknown_name_is_answered_with_the_nearest_also_of_others(tmp_path, monkeypatch):
    source = ALGORITHM.format(name="Mine", called="mine")
    install(monkeypatch, tmp_path, "stranger", "stranger_b", source, {"fedrec.algorithms:my-method": "Mine"})
    with pytest.raises(InputError, match=r"unknown algorithm 'my-metod'. Did you mean 'my-method'"):
        discover.algorithm("my-metod")


def test_a_process_that_allows_no_plug_ins_imports_none(tmp_path, monkeypatch):
    source = ALGORITHM.format(name="Mine", called="mine")
    entries = {"fedrec.algorithms:mine": "Mine", "fedrec.towers:theirs": "Mine"}
    install(monkeypatch, tmp_path, "stranger", "stranger_c", source, entries)
    own = Path(tmp_path / "own.py")
    own.write_text("raise SystemError('imported')")
    with plugins.only([]):
        for refused in (
            lambda: discover.algorithm("mine"),
            lambda: discover.algorithm("not-installed-at-all"),
            lambda: discover.algorithm("stranger_c:Mine"),
            lambda: discover.own_algorithm("stranger_c:Mine"),
            lambda: discover.own_algorithm(f"{own}:Mine"),
            lambda: towers.tower("theirs"),
        ):
            with pytest.raises(plugins.PluginRefused):
                refused()
        assert "mine" not in discover.algorithms()
        assert discover.algorithm("popularity") is Popularity
    assert "stranger_c" not in sys.modules
    with plugins.only(["mine"]):
        assert discover.algorithm("mine").name == "mine"


def test_code_of_ones_own_is_found_by_its_place(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(ALGORITHM.format(name="Mine", called="my-own"))
    found = discover.own_algorithm(f"{own}:Mine")
    assert found.name == "my-own"
    assert discover.own_algorithm(f"{own}:Mine") is found
    origin = plugins.origin(found)
    assert origin is not None
    assert (origin.package, origin.file) == ("no package", "mine.py")
    thief = tmp_path / "thief.py"
    thief.write_text(ALGORITHM.format(name="Mine", called="als"))
    for reference, reason in [
        (f"{own}:Nothing", "has no 'Nothing'"),
        (f"{tmp_path}/absent.py:Mine", "cannot be imported"),
        ("no.such.module:Mine", "cannot be imported"),
        ("fedrec.settings:Settings", "is no subclass"),
        (f"{thief}:Mine", "the name 'als' is built in"),
    ]:
        with pytest.raises(InputError, match=reason):
            discover.own_algorithm(reference)
