"""Names that settings had in older versions: still read, never written, and one setting never has two values."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedrec.algorithms.discover import algorithm, algorithms
from fedrec.algorithms.kernel_rank_settings import SHARE_NAMES, KernelRankConfig
from fedrec.errors import InputError
from fedrec.federation.spec import RunSpec
from fedrec.run.scenario import load_scenario
from fedrec.settings import Settings, parse
from tests.golden.runs import FILES

LOCAL = {"optimiser": "sgd", "rate": 0.25, "clip": 2.0, "private_rate": 0.75, "local_rate": 0.125}
OLDER = {
    "als": {"gram_clip": 0.5, "items_clip": 2.0},
    "fcf": {"optimiser": "sgd", "rate": 0.25, "clip": 2.0},
    "cofedrec": LOCAL,
    "fedncf": LOCAL,
    "fedrap": LOCAL,
    "fedrecon": LOCAL,
    "fedvlr": LOCAL,
    "gpfedrec": LOCAL,
    "kernel-rank": {"weight_rounds": 3, "head": 11},
    "pfedrec": LOCAL,
    "popularity": {"clip": 2.0},
    "spectral": {"iterations": 5},
    "tower-sgd": {"optimiser": "sgd", "clip": 2.0, "local_rate": 0.25},
}
EVERY = [(name, older) for name, own in OLDER.items() for older in own]


def written(folder: Path, name: str, **own: Any) -> str:
    """A scenario file of the algorithm `name` with settings of its own."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in own.items()]
    file = folder / "old.toml"
    file.write_text("\n".join(["[data]", 'name = "generated"', "[algorithm]", f'name = "{name}"', *lines, ""]))
    return str(file)


def refused(call: Any) -> str:
    """The one line of the error of `call`."""
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_older_name_is_tried_here_and_names_a_setting_of_today() -> None:
    for name, kind in algorithms().items():
        assert set(kind.Config.older_names) == set(OLDER.get(name, {})), name
        assert set(kind.Config.older_names.values()) <= set(kind.Config.model_fields), name
        assert not set(kind.Config.older_names) & set(kind.Config.model_fields), name


def test_the_shared_nouns_are_those_of_the_vocabulary() -> None:
    """No algorithm has a second word for one of the nouns, alone or after a prefix."""
    strangers = ("rate", "clip", "optimiser", "iterations", "shares")
    for name, kind in algorithms().items():
        for field in kind.Config.model_fields:
            last = field.rpartition("_")[2]
            assert last not in strangers or field.endswith("learning_rate"), (name, field)


@pytest.mark.parametrize("name", OLDER)
def test_a_scenario_with_older_names_is_the_same_scenario(name: str, tmp_path: Path) -> None:
    today = algorithm(name).Config.older_names
    old = load_scenario(written(tmp_path, name, **OLDER[name])).resolved()
    by_set = load_scenario(
        "quickstart",
        [f"algorithm.name={name}", *(f"algorithm.{older}={value}" for older, value in OLDER[name].items())],
    ).resolved()
    renamed = {today[older]: value for older, value in OLDER[name].items()}
    new = load_scenario(written(tmp_path, name, **renamed)).resolved()
    assert old == new
    assert by_set["algorithm"] == new["algorithm"]
    assert renamed.items() <= new["algorithm"].items()
    assert not set(today) & set(new["algorithm"])


@pytest.mark.parametrize(("name", "older"), EVERY)
def test_one_setting_under_both_names_is_one_line(name: str, older: str, tmp_path: Path) -> None:
    value, today = OLDER[name][older], algorithm(name).Config.older_names[older]
    both = {older: value, today: value}
    file = written(tmp_path, name, **both)
    sets = [f"algorithm.name={name}", *(f"algorithm.{key}={value}" for key in both)]
    for call in (
        lambda: load_scenario(file),
        lambda: load_scenario("quickstart", sets),
        lambda: parse(algorithm(name).Config, both, "here"),
        lambda: algorithm(name).Config(**both),
    ):
        said = refused(call)
        assert f"'{older}'" in said or f"'algorithm.{older}'" in said
        assert today in said


@pytest.mark.parametrize(("name", "older"), EVERY)
def test_a_change_wins_whichever_name_it_uses(name: str, older: str, tmp_path: Path) -> None:
    kind, given = algorithm(name).Config, OLDER[name][older]
    today = kind.older_names[older]
    other = "adam" if isinstance(given, str) else given * 2
    for in_file, in_change in ((older, today), (today, older)):
        scenario = load_scenario(written(tmp_path, name, **{in_file: given}), [f"algorithm.{in_change}={other}"])
        assert getattr(scenario.algorithm_config, today) == other


def test_a_name_is_older_in_its_own_algorithm_alone() -> None:
    """`clip` is no setting of `kernel-rank`, and a class of somebody else keeps `rate` for itself."""
    assert "unknown key 'clip'" in refused(lambda: load_scenario("quickstart", ["algorithm.clip=1"]))

    class Own(Settings):
        rate: float = 1.0

    assert Own(rate=2.0).model_dump() == {"rate": 2.0}


def test_the_description_of_an_older_run_builds_the_same_algorithm() -> None:
    spec = {"algorithm": "als", "catalogue": "", "users": 3, "expected_cohort": 3.0, "seed": 1}
    configs = [
        parse(algorithm("als").Config, RunSpec(settings=own, **spec).settings, "here")
        for own in ({"gram_clip": 0.5}, {"gram_clip_norm": 0.5})
    ]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("name", ["als", "fcf", "kernel-rank", "pfedrec", "popularity", "spectral", "tower-sgd"])
def test_the_text_that_older_versions_wrote_is_read_as_the_golden_scenario(name: str, tmp_path: Path) -> None:
    """The whole scenario.toml of a golden run, put back into the older names."""
    lines = json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))["scenario"]
    table = lines.index("[algorithm]")
    before = {today: older for older, today in algorithm(name).Config.older_names.items()}
    old = [*lines[:table]]
    for line in lines[table:]:
        key, equals, value = line.partition(" = ")
        old.append(f"{before.get(key, key)}{equals}{value}")
        if line.startswith("[") and not line.startswith("[algorithm"):
            before = {}
    assert old != lines
    files = [tmp_path / "older.toml", tmp_path / "today.toml"]
    for file, text in zip(files, (old, lines), strict=True):
        file.write_text("\n".join(text) + "\n")
    older, today = (load_scenario(str(file)) for file in files)
    assert older.resolved() == today.resolved()
    assert older.toml() == today.toml()


# ---- the shares of kernel-rank were one setting


def test_the_older_list_of_shares_is_three_settings() -> None:
    old = parse(KernelRankConfig, {"shares": [0.5, 0.2, 0.3]}, "here")
    new = KernelRankConfig(popularity_share=0.5, weights_share=0.2, cooccurrence_share=0.3)
    assert old == new
    assert "shares" not in old.model_dump()


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"shares": [0.5, 0.5]}, "three numbers"),
        ({"shares": [0.5, 0.2, 0.3], "weights_share": 0.2}, "older form of weights_share"),
        ({"popularity_share": 0.8, "weights_share": 0.4}, "sum to 1 at most"),
        ({"popularity_share": 0.5, "weights_share": 0.5}, "leave a part of the budget"),
    ],
)
def test_shares_that_cannot_be(own: dict[str, Any], says: str) -> None:
    assert says in refused(lambda: parse(KernelRankConfig, own, "here"))
    assert all(name.endswith("_share") for name in SHARE_NAMES)
