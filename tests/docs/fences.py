"""Fenced blocks of markdown pages."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^(?P<fence>```+)(?P<kind>[a-z]*)[^\n]*\n(?P<body>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return README.md, CONTRIBUTING.md and every page of the documentation."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str, kind: str) -> list[str]:
    """Return the bodies of the fenced blocks of one kind, such as "bash", in order."""
    return [found["body"] for found in _FENCE.finditer(text) if found["kind"] == kind]


def commands(text: str) -> list[str]:
    """Return the command lines of a page's `bash` and `console` blocks, without comments and continuation marks."""
    found = []
    for kind in ("bash", "console"):
        for block in blocks(text, kind):
            lines = re.sub(r"\\\n\s*", "", block).splitlines()
            if kind == "console":
                lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            found += [line for line in (re.sub(r"\s+#\s.*$", "", line).strip() for line in lines) if line]
    return found
