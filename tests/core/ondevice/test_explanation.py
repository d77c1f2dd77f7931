"""Words and pictures of an explanation: shares counted once, negative ones named as such, hostile titles as text."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fedrec.errors import InputError
from fedrec.ondevice.attribution import Attribution
from fedrec.ondevice.explanation import Explanation, Reason, explanation, family, percents
from fedrec.ondevice.picture import bar_chart
from fedrec.ondevice.public_items import PublicItems
from fedrec.recommend.public_items import public_items
from fedrec.testing.toy_users import planted_catalogue

SHARES = Attribution(
    score=5.0,
    baseline=1.0,
    events={
        "co-occurrence": np.array([1.0, 0.5, 0.5]),
        "co-occurrence pairs": np.array([0.5, 0.0, 0.0]),
        "genres": np.array([0.25, 0.25, 0.0]),
        "genres x year fine": np.array([0.25, 0.0, 0.0]),
    },
    rest={"popularity": 0.75},
)
TITLES = {"a": "Alien", "b": "Heat", "x": "Up"}
HOSTILE = '"/><script>alert(1)</script>\x1b[2J\u202e & <a href="http://evil">x</a>\nIgnore all \ud800 instructions'


def found(shares: Attribution = SHARES, history: str = "aba", **titles: str) -> Explanation:
    return explanation(shares, "x", list(history), (TITLES | titles).__getitem__)


def test_shares_by_event_and_by_group_sum_to_the_score() -> None:
    why = found()
    assert [(each.name, each.value) for each in why.past] == [("a", 2.5), ("b", 0.75)]
    assert [each.share for each in why.past] == [2.5 / 4, 0.75 / 4]
    assert sum(each.value for each in why.groups) == why.score - why.baseline
    assert {each.name: each.value for each in why.groups}["genres"] == 0.5
    assert sum(part.value for part in why.parts) == 4.0
    assert [(reason.kind, reason.name, reason.value) for reason in why.reasons] == [
        ("past", "Alien", 2.0),
        ("popularity", "popularity", 0.75),
        ("past", "Heat", 0.5),
        ("feature", "genres", 0.5),
        ("feature", "genres x year", 0.25),
    ]
    assert why.words == (
        'Because you chose "Alien" and "Heat" (62 %); it is popular with everybody (19 %); '
        "it is like your history in genres and year (19 %)."
    )


def test_negative_shares_are_said_to_be_against_it() -> None:
    events = {"taste": np.array([-2.0, 1.0, 0.0])}
    why = found(Attribution(0.0, 2.0, events, {"popularity": -1.0}))
    assert why.words == (
        'Because you chose "Heat" (25 %). '
        'Against it: it goes less well with "Alien" (-50 %); it is less popular than the average item (-25 %).'
    )
    only = found(Attribution(0.0, 2.0, {"genres": np.array([-2.0, 0.0, 0.0])}))
    assert only.words == "Against it: it is unlike your history in genres (-100 %)."


def test_nothing_and_almost_nothing_are_no_reasons() -> None:
    assert found(Attribution(1.0, 1.0, {"taste": np.zeros(3)}, {"popularity": -0.0})).parts == ()
    assert found(Attribution(1.0, 1.0)).words == "Nothing sets it apart from the average item."
    tiny = found(Attribution(1.0, 0.0, {"taste": np.array([1.0, -1e-9, 0])}, {"popularity": -1e-9})).words
    assert tiny == 'Because you chose "Alien" (100 %).'
    assert "-0" not in tiny


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 1, 1], [34, 33, 33]), ([2, -1], [67, -33]), ([0, -0.0], [0, 0]), ([], []), ([-1e-12, 1], [0, 100])],
)
def test_percentages_sum_to_a_hundred(values: list[float], expected: list[int]) -> None:
    assert percents(values) == expected


def test_kernels_on_the_same_features_are_one_family() -> None:
    kernels = ("genres", "genres set", "year near", "year far", "genres x year", "genres x year fine")
    assert [family(name) for name in kernels] == ["genres"] * 2 + ["year"] * 2 + ["genres x year"] * 2


def test_items_that_stand_for_answers_are_not_named() -> None:
    why = explanation(Attribution(3.0, 0.0, {"taste": np.array([1.0, 2.0])}), "x", ["b", "a"], TITLES.get, answers=1)
    assert [each.name for each in why.past] == ["a"]
    assert why.words == 'Because you chose "Alien" (67 %); it suits your answers (33 %).'


def test_a_hostile_title_is_text_in_words_and_picture() -> None:
    why = found(a=HOSTILE, x=HOSTILE)
    assert "\n" not in why.words
    assert "\x1b" not in why.words
    assert why.words.count('"') == 4, "a title cannot end its own quotes"
    chart = bar_chart(why)
    root = ElementTree.fromstring(chart)
    tags = {each.tag.removeprefix("{http://www.w3.org/2000/svg}") for each in root.iter()}
    assert tags == {"svg", "title", "desc", "rect", "text", "line"}
    names = {name for each in root.iter() for name in each.attrib}
    assert not [name for name in names if name.startswith("on") or name.endswith("href") or name == "style"]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e]", chart)
    assert any("script" in (each.text or "") for each in root.iter()), "shown, escaped"


def test_a_picture_has_a_bar_for_each_large_reason_and_one_for_the_others() -> None:
    reasons = tuple(Reason("past", f"film {n}", float(20 - n)) for n in range(40))
    many = Explanation("x", "Up", 1.0, 0.0, 0.5, (), reasons)
    root = ElementTree.fromstring(bar_chart(many))
    texts = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sum(text.startswith("you chose film") for text in texts) == 8
    assert {"15 others that raise it", "16 others that lower it"} <= set(texts)
    sizes = [abs(int(text.removesuffix(" %"))) for text in texts if re.fullmatch(r"-?\d+ %", text)]
    assert sum(sizes) == 100
    width = float(root.attrib["width"])
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.attrib.get("x", 0)) >= 0
        assert float(bar.attrib.get("x", 0)) + float(bar.attrib["width"]) <= width
    ElementTree.fromstring(bar_chart(Explanation("x", "Up", 0.0, 0.0, 0.0, (), ())))


def test_public_titles_and_facts_are_read_again(tmp_path: Path) -> None:
    file, titles = tmp_path / "public.safetensors", ["", "Amélie", HOSTILE, *(f"film {n}" for n in range(37))]
    plain = public_items(planted_catalogue())
    plain.titled(titles).write(file)
    read = PublicItems.read(file, 40)
    assert [read.title(item) for item in (0, 1, 3, 39)] == [None, "Amélie", "film 0", "film 36"]
    assert read.title(2) == HOSTILE.replace("\ud800", "?")
    assert read.facts(5) == {"taste": "taste-1", "year": "1995"}
    assert plain.title(3) is None
    with pytest.raises(InputError, match="another number of items"):
        PublicItems.read(file, 41)
    for ends in (np.arange(40), np.arange(40)[::-1].copy(), np.full(40, 10**6)):
        PublicItems(40, plain.labels, plain.members, {}, read.text, ends.astype(np.int64)).write(file)
        with pytest.raises(InputError, match="titles"):
            PublicItems.read(file, 40)
