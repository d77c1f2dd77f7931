"""Draws `docs/images/architecture*.svg`: one picture in two palettes, for light and dark pages.

`python docs/hooks/draw.py` writes both files; a test compares them with what this program draws.
"""

from pathlib import Path
from typing import NamedTuple

IMAGES = Path(__file__).parents[1] / "images"


class Palette(NamedTuple):
    """Colours of one picture."""

    page: str
    ink: str
    soft: str
    line: str
    device: str
    device_edge: str
    server: str
    server_edge: str
    record: str
    record_edge: str
    inner: str


LIGHT = Palette(
    "#ffffff",
    "#1b2430",
    "#55606e",
    "#7a8594",
    "#e6f4f1",
    "#0f766e",
    "#eef2fb",
    "#3b5bbd",
    "#fdf3e1",
    "#b7791f",
    "#ffffff",
)
DARK = Palette(
    "#1e2129",
    "#e8ecf2",
    "#aab4c2",
    "#8893a3",
    "#14312f",
    "#4fd1c0",
    "#1f2a44",
    "#8aa6ff",
    "#382c17",
    "#f0b95a",
    "#272b35",
)


def picture(colours: Palette) -> str:
    """The SVG text in these colours, 760 x 800."""
    c = colours
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 812" role="img" aria-labelledby="t d">',
        '<title id="t">fedrec in one picture</title>',
        '<desc id="d">Devices hold histories and send clipped sums to a server. The server charges a signed ledger, '
        "adds noise, updates the model and sends it to all. An auditor checks the ledger with a public key.</desc>",
        f"<style>text{{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:{c.ink}}}"
        f".h{{font-size:21px;font-weight:650}}.b{{font-size:18px}}.s{{font-size:17px;fill:{c.soft}}}</style>",
        '<defs><marker id="a" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="{c.line}"/></marker></defs>',
        f'<rect width="760" height="812" rx="14" fill="{c.page}"/>',
    ]

    def text(x: int, y: int, words: str, kind: str = "b") -> None:
        parts.append(f'<text x="{x}" y="{y}" class="{kind}">{words}</text>')

    def box(x: int, y: int, width: int, height: int, fill: str, edge: str, stroke: float = 2) -> None:
        shape = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="12"'
        parts.append(f'<rect {shape} fill="{fill}" stroke="{edge}" stroke-width="{stroke}"/>')

    def arrow(path: str) -> None:
        parts.append(f'<path d="{path}" fill="none" stroke="{c.line}" stroke-width="2.5" marker-end="url(#a)"/>')

    # Devices
    box(20, 20, 720, 196, c.device, c.device_edge)
    text(44, 54, "Devices: everything personal stays here", "h")
    for place, name in enumerate(("node: one user", "node: one user", "node: many users")):
        left = 44 + 226 * place
        box(left, 72, 212, 122, c.inner, c.device_edge, 1.5)
        text(left + 16, 100, name, "s")
        text(left + 16, 126, "history, taste vector")
        text(left + 16, 152, "fits, ranks, clips")
        text(left + 16, 178, "answers in sums")

    # Between devices and server
    arrow("M 250 218 L 250 302")
    text(266, 254, "clipped sums,")
    text(266, 278, "nothing else")
    arrow("M 540 302 L 540 220")
    text(556, 254, "model,")
    text(556, 278, "the same for all")

    # Server
    box(20, 306, 720, 226, c.server, c.server_edge)
    text(44, 340, "Server: one round", "h")
    steps = (
        ("1", "plan", "price it, or", "refuse it"),
        ("2", "charge", "the ledger", "first"),
        ("3", "release", "exact sum +", "fresh noise"),
        ("4", "update", "model, from", "noisy sums"),
    )
    for place, (number, name, first, second) in enumerate(steps):
        left = 44 + 172 * place
        box(left, 358, 156, 110, c.inner, c.server_edge, 1.5)
        text(left + 14, 388, f"{number} {name}", "h")
        text(left + 14, 418, first)
        text(left + 14, 444, second)
        if place:
            arrow(f"M {left - 15} 413 L {left - 3} 413")
    text(44, 508, "Under the trust model central, the server sees the clipped sums.", "s")

    # Ledger and auditor
    arrow("M 294 534 L 294 594")
    text(310, 572, "signed records")
    box(20, 598, 430, 194, c.record, c.record_edge)
    text(44, 632, "Ledger: release/privacy", "h")
    text(44, 664, "terms, charges, releases, files")
    text(44, 692, "a Merkle tree; each record signed")
    text(44, 720, "and on disk before its release")
    text(44, 752, "the statement repeats it for people:", "s")
    text(44, 776, "epsilon against each adversary", "s")
    arrow("M 452 690 L 502 690")
    box(506, 598, 234, 194, c.inner, c.record_edge)
    text(528, 632, "Auditor", "h")
    text(528, 664, "has a public key")
    text(528, 692, "checks every record,")
    text(528, 720, "recomputes epsilon,")
    text(528, 748, "attacks the system")
    return "\n".join([*parts, "</svg>\n"])


def draw() -> dict[Path, str]:
    """The files and their text."""
    return {IMAGES / "architecture.svg": picture(LIGHT), IMAGES / "architecture-dark.svg": picture(DARK)}


if __name__ == "__main__":
    for file, content in draw().items():
        file.write_text(content, encoding="utf-8")
