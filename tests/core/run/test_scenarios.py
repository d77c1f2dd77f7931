"""Scenario files: what they may hold, what `--set` makes of a text, and that they can be written back."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrec.errors import InputError
from fedrec.run.scenario import built_in, load_scenario
from fedrec.settings import parse_change

BUILT_IN = (
    "gowalla",
    "ml-100k-dp",
    "ml-1m",
    "ml-1m-als",
    "ml-1m-bert4rec",
    "ml-1m-dp",
    "ml-1m-gru4rec",
    "ml-1m-sasrec",
    "ml-1m-towers",
    "planted-order",
    "quickstart",
)


def test_the_built_in_scenarios_are_these() -> None:
    assert tuple(sorted(built_in())) == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_scenario_begins_with_what_to_expect_and_survives_being_written_back(
    name: str, tmp_path: Path
) -> None:
    assert built_in()[name].read_text().startswith("# Expected")
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.description
    copy = tmp_path / "copy.toml"
    copy.write_text(scenario.toml("a comment\nof two lines"))
    again = load_scenario(str(copy))
    assert again.resolved() == scenario.resolved()
    assert again.toml() == scenario.toml()


def test_defaults_are_written_out() -> None:
    resolved = load_scenario("quickstart").resolved()
    assert resolved["algorithm"]["targets"] > 0
    assert resolved["engine"]["batch_users"] > 0
    assert "seed" not in resolved


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=3", 3),
        ("a.b=0.5", 0.5),
        ("a.b=1e-6", 1e-6),
        ("a.b=true", True),
        ("a.b=[1, 2]", [1, 2]),
        ('a.b="3"', "3"),
        ("a.b=none", "none"),
        ("a.b=ml-1m", "ml-1m"),
        ("a.b=/tmp/my log.csv", "/tmp/my log.csv"),
        ("a.b=x=y", "x=y"),
        (" a.b = word ", "word"),
    ],
)
def test_set_reads_toml_and_takes_the_rest_as_text(text: str, value: object) -> None:
    key, found = parse_change(text)
    assert key == "a.b"
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["a.b", "=3", "", "a..b=3", ".a=1"])
def test_set_without_a_key_or_a_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="key=value"):
        parse_change(text)


def test_set_changes_one_thing_and_later_ones_win() -> None:
    scenario = load_scenario("quickstart", ["privacy.epsilon=3", "privacy.epsilon=2", "algorithm.negatives=7"])
    assert scenario.privacy.epsilon == 2
    assert scenario.algorithm_config.negatives == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("quickstrat", [], "unknown scenario 'quickstrat'. Did you mean 'quickstart'?"),
        ("runs/none.toml", [], "no such scenario file"),
        ("quickstart", ["privcy.epsilon=1"], "unknown key 'privcy'. Did you mean 'privacy'?"),
        ("quickstart", ["privacy.epsilno=1"], "unknown key 'privacy.epsilno'. Did you mean 'privacy.epsilon'?"),
        ("quickstart", ["algorithm.head_item=1"], "unknown key 'head_item'. Did you mean 'head_items'?"),
        ("quickstart", ["algorithm.name=kernelrank"], "unknown algorithm 'kernelrank'. Did you mean 'kernel-rank'?"),
        ("quickstart", ["algorithm.decays=[2.0]"], "decays"),
        ("quickstart", ["privacy.epsilon=0"], "privacy.epsilon"),
        ("quickstart", ["privacy.epsilon=-1"], "privacy.epsilon"),
        ("quickstart", ["privacy.epsilon=nan"], "privacy.epsilon"),
        ("quickstart", ["privacy.delta=0"], "privacy.delta"),
        ("quickstart", ["privacy.delta=1"], "privacy.delta"),
        ("quickstart", ["privacy.sampling=0"], "privacy.sampling"),
        ("quickstart", ["privacy.sampling=1.5"], "privacy.sampling"),
        ("quickstart", ["privacy.trust=distributed", "privacy.epsilon=none"], "needs an epsilon"),
        ("quickstart", ["evaluation.on=train"], "evaluation.on"),
        ("quickstart", ["engine.batch_users=0"], "engine.batch_users"),
        ("quickstart", ["seed=-1"], "seed"),
        ("quickstart", ["name.x=1"], "'name' is a value"),
    ],
)
def test_refusals_name_the_key_and_the_nearest_known_one(name: str, changes: list[str], message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_scenario(name, changes)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["not toml at all", "[data]\nname = ", "\udcff"])
def test_a_file_that_is_no_toml_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"broken\.toml"):
        load_scenario(str(file))


def test_a_file_without_an_algorithm_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[data]\nname = "quickstart"\n')
    with pytest.raises(InputError, match="algorithm"):
        load_scenario(str(file))
    file.write_text('[data]\nname = "quickstart"\n[algorithm]\nnegatives = 3\n')
    with pytest.raises(InputError, match=r"algorithm\.name"):
        load_scenario(str(file))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_survives_being_written(text: str) -> None:
    scenario = load_scenario("quickstart").model_copy(update={"description": text})
    assert tomllib.loads(scenario.toml())["description"] == text
