"""Paths in scenarios: relative to the scenario's file, on the command line to the working directory, `~` at home."""

import codecs
from pathlib import Path

import pytest

from fedrec.data.datasets import load
from fedrec.errors import InputError, PrivacyError
from fedrec.run.scenario import load_scenario

LOG = "user_id,item_id\nann,x\nann,y\nbob,x\nbob,y\n"
TOML = '[data]\npath = "{}"\ncatalogue = "items.csv"\n[algorithm]\nname = "popularity"\n[privacy]\nepsilon = "none"\n'


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scenario and its data, which is not the working directory."""
    folder, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    (folder / "logs").mkdir(parents=True)
    elsewhere.mkdir()
    (folder / "logs" / "log.csv").write_text(LOG)
    (folder / "items.csv").write_text("item_id,title\nx,X\ny,Y\n")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def scenario(folder: Path, path: str, mark: bytes = b"") -> str:
    file = folder / "mine.toml"
    file.write_bytes(mark + TOML.format(path).encode())
    return str(file)


@pytest.mark.parametrize("path", ["logs/log.csv", "./logs/../logs/log.csv", "~/study/logs/log.csv"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_scenario_is_read_from_any_working_directory(study: Path, path: str, mark: bytes) -> None:
    loaded = load_scenario(scenario(study, path, mark))
    assert loaded.data.path == study / "logs" / "log.csv"
    assert load(loaded.data, None, 0).catalogue.titles == ("X", "Y")


def test_a_scenario_given_by_a_relative_name_begins_at_its_own_folder(study: Path) -> None:
    scenario(study, "logs/log.csv")
    assert load_scenario("../study/mine.toml").data.path == study / "logs" / "log.csv"


def test_a_path_of_the_command_line_begins_at_the_working_directory(study: Path) -> None:
    Path("own.csv").write_text(LOG)
    name = scenario(study, "logs/log.csv")
    assert load_scenario(name, ["data.path=own.csv"]).data.path == Path("own.csv").resolve()
    assert load_scenario(name, ["data.path=~/x.csv"]).data.path == study.parent / "x.csv"
    assert load_scenario(name, [], {"data.path": "own.csv"}).data.path == Path("own.csv").resolve()


def test_a_scenario_that_was_written_back_names_the_same_files_from_anywhere(study: Path) -> None:
    loaded = load_scenario(scenario(study, "logs/log.csv"), ["data.columns.separator=,"])
    copy = Path("copy.toml")
    copy.write_text(loaded.toml())
    again = load_scenario(str(copy))
    assert again.resolved() == loaded.resolved()
    assert again.data.columns.separator == ","


def test_a_file_that_is_handed_on_shows_paths_from_itself_alone(study: Path) -> None:
    loaded = load_scenario(scenario(study, "logs/log.csv"))
    release = study / "runs" / "one" / "release"
    release.mkdir(parents=True)
    (release / "scenario.toml").write_text(loaded.toml(folder=release))
    assert str(study.parent) not in (release / "scenario.toml").read_text()
    assert load_scenario(str(release / "scenario.toml")).resolved() == loaded.resolved()


def test_a_missing_file_is_named_in_full(study: Path) -> None:
    with pytest.raises(InputError, match=f"{study}/nothing.csv: no such file"):
        load(load_scenario(scenario(study, "nothing.csv")).data, None, 0)


def test_the_word_for_counts_of_the_log_is_no_path_and_still_refused(study: Path) -> None:
    loaded = load_scenario(scenario(study, "logs/log.csv"), ["data.balance.popularity=counts"])
    with pytest.raises(PrivacyError, match="counts of the log are private"):
        load(loaded.data, None, 0)
