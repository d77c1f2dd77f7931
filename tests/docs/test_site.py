"""The documentation as a site: it builds without a warning, and no page of it loads anything from the network."""

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.fences import ROOT, pages

HOOKS = ROOT / "docs" / "hooks"
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "link": "href", "object": "data"}
"""Elements that a browser loads by itself -> the attribute with the address. A link that a reader follows is `a`."""


class Loaded(HTMLParser):
    """Collect the addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADS.get(tag, "")) or ""
        if address.startswith(("http:", "https:", "//")) and dict(attrs).get("rel") != "canonical":
            self.found.append(address)


def loaded(page: str) -> list[str]:
    parser = Loaded()
    parser.feed(page)
    return parser.found


def test_the_check_notices_what_a_page_loads() -> None:
    assert loaded('<script src="https://unpkg.com/x"></script><a href="https://arxiv.org">a paper</a>') == [
        "https://unpkg.com/x"
    ]


@pytest.mark.slow
def test_the_site_builds_strictly_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    assert {page.name: found for page in pages if (found := loaded(page.read_text(encoding="utf-8")))} == {}
    python = (tmp_path / "site" / "reference" / "api.html").read_text(encoding="utf-8")
    assert 'class="gp">&gt;&gt;&gt;' in python, "examples of docstrings are code"
    assert "<blockquote>" not in python, "and no quotations"
    for sheet in (tmp_path / "site").rglob("*.css"):
        content = sheet.read_text(encoding="utf-8")
        assert "url(http" not in content
        assert "@import" not in content


def test_every_command_and_every_setting_is_in_the_reference() -> None:
    made = runpy.run_path(str(HOOKS / "reference.py"))
    commands, settings = made["command_line"](), made["settings"]()
    for name in ("simulate", "audit verify", "audit budget new", "server local", "keys renew", "bench round"):
        assert f"`fedrec {name}`" in commands
    assert "`--sweep KEY=VALUE,VALUE,...`" in commands
    for key in (
        "privacy.epsilon",
        "data.columns.unit",
        "algorithm.decays",
        "stopping.patience",
        "federation.min_nodes",
    ):
        assert f"`{key}`" in settings


def places(nav: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the pages of the site's navigation, in order."""
    for entry in nav:
        for below in entry.values():
            yield from [below] if isinstance(below, str) else places(below)


def test_every_page_has_one_place_in_the_site() -> None:
    made = ["reference/cli.md", "reference/settings.md"]
    written = [str(page.relative_to(ROOT / "docs")) for page in pages() if page.is_relative_to(ROOT / "docs")]
    nav = list(places(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert sorted(nav) == sorted(written + made)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_into_the_documentation_are_whole(name: str) -> None:
    links = re.findall(
        r"(?:\]\(|src(?:set)?=\")([^)\"#:]+)(?:#([^)\"]+))?[)\"]", (ROOT / name).read_text(encoding="utf-8")
    )
    assert links
    for path, anchor in links:
        assert (ROOT / path).is_file(), path
        assert not anchor or anchor in anchors(ROOT / path), anchor


def test_the_picture_is_what_its_program_draws() -> None:
    for file, content in runpy.run_path(str(HOOKS / "draw.py"))["draw"]().items():
        assert file.read_text(encoding="utf-8") == content
