"""Pictures are SVG that parses, says what it shows, and draws the same bytes twice."""

import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fedrec_sim import plots

ROWS = [
    {"round": n, "seconds": 0.1, "epsilon_pld": math.sqrt(n + 1), "epsilon_rdp": math.sqrt(n + 1) * 1.1}
    for n in range(6)
]
MEASURED = [
    row | ({"full hr@10": 0.1 * row["round"], "sampled-99 hr@10": 0.2} if row["round"] % 2 else {}) for row in ROWS
]
RESULT = {"full": {"hr@10": 0.2, "ndcg@10": 0.1}, "sampled-99": {"hr@10": 0.6, "ndcg@10": 0.4}}
FULL_ONLY = {"full": RESULT["full"]}

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


def test_nothing_to_show_draws_nothing(tmp_path: Path) -> None:
    assert not plots.training_curve(ROWS, tmp_path / "a.svg")
    assert not plots.epsilon_by_round([], 1.0, tmp_path / "a.svg")
    assert not plots.budget_by_query({}, tmp_path / "a.svg")
    assert not plots.metrics_against_baselines({}, tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())
