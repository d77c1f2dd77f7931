"""Plain technical English: no typo, and no phrase of `docs/words.txt`, in pages, docstrings, comments and messages."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.fences import ROOT, pages

WORDS = ROOT / "docs" / "words.txt"
LEDGER_TEXT = {
    "server/fedrec_server/deployment.py": (
        "whoever runs the server, who is trusted with the un-noised sums of each node",
    ),
    "simulations/fedrec_sim/simulation.py": (
        "whoever ran the simulation, who is its server and all its users",
        "this is a simulation: all users' data lie in one place, where whoever runs it can read them",
    ),
}
"""Sentences that signed ledgers contain word for word, by file: another wording would change the records of a run."""


def phrases() -> list[tuple[re.Pattern[str], str]]:
    """Return each pattern of the list with what to write instead."""
    lines = [line for line in WORDS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [(re.compile(pattern, re.IGNORECASE), better) for pattern, better in (line.split("\t") for line in lines)]


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and string literals of a Python file, docstrings among them, with their first line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def found(text: str) -> list[str]:
    """Return the unwanted phrases of a text, each with what to write instead."""
    joined = " ".join(text.split())
    return [f"'{hit[0]}': {better}" for pattern, better in phrases() for hit in pattern.finditer(joined)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_plain(page: Path) -> None:
    assert found(page.read_text(encoding="utf-8")) == []


def sources() -> list[Path]:
    """Return every Python file but this one, whose examples are wrong on purpose."""
    listed = [
        ROOT / line
        for folder in ("docs", "examples", "fedrec", "clients", "server", "simulations", "tests")
        for line in map(str, sorted((ROOT / folder).rglob("*.py")))
    ]
    return [file for file in listed if file != Path(__file__)]


def test_sources_are_plain() -> None:
    files = sources()
    assert len(files) > 100
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {hit}"
        for file in files
        for line, text in prose(file.read_text(encoding="utf-8"))
        if text not in LEDGER_TEXT.get(str(file.relative_to(ROOT)), ())
        for hit in found(text)
    ]
    assert wrong == []


def test_every_excepted_sentence_is_in_its_file() -> None:
    for place, sentences in LEDGER_TEXT.items():
        written = {text for _, text in prose((ROOT / place).read_text(encoding="utf-8"))}
        assert written >= set(sentences), place


@pytest.mark.parametrize(
    "text",
    [
        "a tracker that fails is told of",
        "The note lies\nbeside the ledger.",
        "Whoever knows the seed",
        "It goes on with it",
        "nothing stands there twice",
        "the ledger tells an epsilon",
    ],
)
def test_the_list_notices(text: str) -> None:
    assert found(text)


def test_no_typos() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout


def test_typos_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("an " + "occur" + "ence of a " + "recom" + "endation\n")
    command = [sys.executable, "-m", "codespell_lib", str(tmp_path / "page.md")]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60).returncode != 0
