"""Pictures are SVG that parses, says what it shows, and draws the same bytes twice."""

import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fedrec_sim.report import plots

ROWS = [
    {"round": n, "seconds": 0.1, "epsilon_pld": math.sqrt(n + 1), "epsilon_rdp": math.sqrt(n + 1) * 1.1}
    for n in range(6)
]
MEASURED = [
    row | ({"full hr@10": 0.1 * row["round"], "sampled-99 hr@10": 0.2} if row["round"] % 2 else {}) for row in ROWS
]
RESULT = {"full": {"hr@10": 0.2, "ndcg@10": 0.1}, "sampled-99": {"hr@10": 0.6, "ndcg@10": 0.4}}
FULL_ONLY = {"full": RESULT["full"]}
POINTS = [(1.0, 0.1, 0.01), (8.0, 0.2, 0.01), (None, 0.3, 0.01)]

DRAWN: dict[str, tuple[Callable[[Path], bool], list[str]]] = {
    "training": (
        lambda path: plots.training_curve(MEASURED, path),
        ["round", "HR@10, whole catalogue", "HR@10, 99 sampled items"],
    ),
    "epsilon": (lambda path: plots.epsilon_by_round(ROWS, 2.5, path), ["PLD", "RDP", "target 2.5", "user level"]),
    "budget": (lambda path: plots.budget_by_query({"popularity": 0.2, "weights": 0.8}, path), ["weights", "80.0 %"]),
    "metrics": (
        lambda path: plots.metrics_against_baselines({"mine": RESULT, "popularity": RESULT}, path),
        ["HR@10", "NDCG@10", "mine", "popularity", "0.600"],
    ),
    "metrics, more than there are colours": (
        lambda path: plots.metrics_against_baselines({f"run {n}": FULL_ONLY for n in range(9)}, path),
        ["run 0", "run 8"],
    ),
    "quality, short names": (
        lambda path: plots.quality_against_epsilon({f"run {n}": POINTS for n in range(20)}, "HR@10", path),
        ["run 0", "run 19", "no privacy"],
    ),
    "quality, long names": (
        lambda path: plots.quality_against_epsilon({f"{'a long name ' * 5}{n}": POINTS for n in range(9)}, "H", path),
        ["a long name 8"],
    ),
    "metrics, full only": (
        lambda path: plots.metrics_against_baselines({"mine": FULL_ONLY}, path),
        ["whole catalogue"],
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_parses_says_what_it_shows_and_repeats(name: str, tmp_path: Path) -> None:
    draw, words = DRAWN[name]
    assert draw(tmp_path / "a.svg")
    assert draw(tmp_path / "b.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = "\n".join("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    for word in words:
        assert word in text
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def width_of_axes(picture: Path) -> float:
    """Return the share of a picture's width that its axis spans."""
    root = ElementTree.parse(picture).getroot()
    ticks = [element for element in root.iter() if element.get("id", "").startswith("xtick_")]
    places = [float(use.get("x", "0")) for tick in ticks for use in tick.iter("{http://www.w3.org/2000/svg}use")]
    return (max(places) - min(places)) / float(root.get("width", "0").removesuffix("pt"))


def test_long_names_do_not_take_the_picture(tmp_path: Path) -> None:
    for name, path in (("quality, short names", tmp_path / "a.svg"), ("quality, long names", tmp_path / "b.svg")):
        assert DRAWN[name][0](path)
        assert width_of_axes(path) > 0.5


def test_nothing_to_show_draws_nothing(tmp_path: Path) -> None:
    assert not plots.training_curve(ROWS, tmp_path / "a.svg")
    assert not plots.epsilon_by_round([], 1.0, tmp_path / "a.svg")
    assert not plots.budget_by_query({}, tmp_path / "a.svg")
    assert not plots.metrics_against_baselines({}, tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())
