"""The page without a browser: structure, escaping, nothing from outside, contrast, every kind of run."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from fedrec.audit.report.html import SECTIONS, page
from fedrec.audit.statement.received import receive
from tests.core.audit.audited_run import BUDGET, HOSTILE, audited_run, edit

VOID = {"meta", "br", "input", "link", "img", "hr"}
LOADING = {"img", "iframe", "link", "object", "embed", "audio", "video", "source", "base", "form", "image", "feimage"}
ATTACK = {"type": "attack", "name": "canaries", "epsilon_lower": "0.31", "confidence": "0.95"}


class Outline(HTMLParser):
    """Tags in order with their attributes, ids, links, headings, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.stack == [], f"left open: {self.stack}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.stack):
            self.text.append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in tags]


KINDS = {
    "private": {"epsilon": 2.0},
    "sampled": {"epsilon": 2.0, "sampling": 0.3},
    "seeded": {"epsilon": 4.0, "seed": 3},
    "attacked": {"epsilon": 2.0, "records": [ATTACK, {"type": "attack", "name": "silent"}]},
    "weak": {"epsilon": 50.0},
    "stopped": {"epsilon": 2.0, "stop_after": 2},
    "none": {"epsilon": "none"},
    "public": {"epsilon": 1.0, "rounds": []},
    "deployed": {"epsilon": 1.0, "simulation": False},
    "tuned": {"epsilon": 1.0, "begin": {"tuned_on": "ml-1m"}},
    "shared": {"epsilon": 1.0, "begin": {"budget": BUDGET}},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    return {
        kind: page(receive(audited_run(tmp_path_factory.mktemp(kind), **settings))) for kind, settings in KINDS.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_has_a_whole_page(kind, pages) -> None:
    outline = Outline(pages[kind])
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for attributes in outline.all("a", "use")]
    assert {f"#{name}" for name, _ in SECTIONS} <= set(targets)
    assert all(target.startswith("#") and target[1:] in ids for target in targets)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(outline.all("main")) == len(outline.all("nav")) == len(outline.all("header")) == 1
    assert outline.all("html")[0]["lang"] == "en"
    assert all("scope" in attributes for attributes in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table"))
    for picture in outline.all("svg"):
        named = [name for name in (picture.get("aria-labelledby") or "").split() if name in ids]
        assert named or picture.get("aria-hidden") == "true"
    labelled = {attributes["for"] for attributes in outline.all("label")}
    assert all(attributes["id"] in labelled for attributes in outline.all("input"))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_comes_from_outside(kind, pages) -> None:
    html = pages[kind]
    outline = Outline(html)
    assert not LOADING & {tag for tag, _ in outline.tags}
    for tag, attributes in outline.tags:
        assert not {"src", "srcset", "style", "background"} & attributes.keys(), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp|WebSocket|sendBeacon", html)
    policy = next(a["content"] for a in outline.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_what_a_run_is_called_stays_text(tmp_path: Path) -> None:
    attack = {"type": "attack", "name": HOSTILE, "about": HOSTILE, "epsilon_lower": HOSTILE}
    settings = {"begin": {"dataset": HOSTILE, "notes": [HOSTILE], "tuned_on": HOSTILE}, "records": [attack]}
    html = page(receive(audited_run(tmp_path, name=HOSTILE, epsilon=1.0, **settings)))
    outline = Outline(html)
    assert not {"img"} & {tag for tag, _ in outline.tags}
    assert len(outline.all("script")) == 2
    assert "".join(outline.text).count(HOSTILE) >= 4
    assert "<img" not in html


def test_what_it_says_of_a_private_run(pages) -> None:
    text = " ".join("".join(Outline(pages["private"]).text).split())
    for part in ("no bound", "The best attack there is, exactly", "popularity", "fedrec audit verify", "A simulation."):
        assert part in text
    assert "No privacy." not in text
    assert "agrees with the statement" in text
    assert "No attack lies above it" in " ".join("".join(Outline(pages["sampled"]).text).split())


def test_what_it_says_of_the_others(pages) -> None:
    said = {kind: " ".join("".join(Outline(html).text).split()) for kind, html in pages.items()}
    assert "No privacy." in said["none"]
    assert "Nothing bounds an attacker here" in said["none"]
    assert "The noise is no secret." in said["seeded"]
    assert "weak" in said["weak"]
    assert "2 of 4 rounds were released" in said["stopped"]
    assert "every guess stays a guess" in said["public"]
    assert "A simulation." not in said["deployed"]
    assert "Tuned on private data." in said["tuned"]
    assert "0.3100 ≤ ε ≤" in said["attacked"]
    assert "agrees with the bound" in said["attacked"]
    assert "not recorded" in said["attacked"]
    assert "drew-it" in said["shared"]
    assert all("Recorded by the run itself" in text and "Which nodes answered." in text for text in said.values())


def test_an_attack_above_the_bound_is_told(tmp_path: Path) -> None:
    run = audited_run(tmp_path, epsilon=1.0, records=[ATTACK | {"epsilon_lower": 3.5}])
    assert "contradicts the bound" in page(receive(run))


def test_a_statement_that_lies_is_told_first(tmp_path: Path) -> None:
    run = audited_run(tmp_path, epsilon=2.0)
    edit(run, accountants={"pld": "0.5000", "rdp": "0.6000"}, promise=["Trust us.", "Nothing is learned."])
    text = " ".join("".join(Outline(page(receive(run))).text).split())
    assert "Statement and ledger contradict each other." in text
    assert "'accountants.pld' is 0.5000, the ledger gives 2.0000" in text
    assert text.count("Trust us") == 1, "in the notice alone: everything else is made from the ledger"
    assert text.index("contradict each other") < text.index("Against whom it holds")


def test_text_can_be_told_from_its_ground() -> None:
    css = (Path(__file__).parents[4] / "fedrec/audit/report/page/report.css").read_text(encoding="utf-8")
    light, dark = css.split("prefers-color-scheme: dark", 1)
    for part in (light, dark.split("* { box-sizing")[0]):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part))
        for ground in ("paper", "card", "wash", "warn-wash", "bad-wash"):
            for text in ("ink", "soft", "accent", "good", "warn", "bad"):
                if ground.endswith("-wash") and text not in ("ink", "soft"):
                    continue
                assert contrast(colours[text], colours[ground]) >= 4.5, f"{text} on {ground}"
    assert contrast("#777777", "#ffffff") < 4.5, "the check can fail"


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_sliders_know_what_the_table_says(pages) -> None:
    html = pages["private"]
    data = json.loads(re.search(r'id="attacker-data">(.*?)</script>', html).group(1))
    assert [point["fpr"] for point in data["points"]] == sorted(point["fpr"] for point in data["points"])
    assert all(point["tpr"] > point["fpr"] for point in data["points"])
