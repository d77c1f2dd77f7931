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
