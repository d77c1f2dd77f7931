"""The reasons of a score as an SVG bar chart, written by hand: a device has no library of plots.

A bar to the right of the line raises the score, one to the left lowers it. All text is escaped, and the file holds
no script, no link, and no reference to another file.
"""

from html import escape
from math import fsum

from fedrec.ondevice.explanation import Explanation, Kind, Reason, percents
from fedrec.plain_text import plain

MOST = 8
"""Bars of single reasons; the others are summed in two more, one for each sign."""
WIDTH, LABEL, VALUE, ROW, TOP = 640, 250, 56, 26, 58
LONGEST_LABEL = 36
RAISES, LOWERS, INK, FAINT, PAPER = "#2a6f97", "#b5522b", "#1c2430", "#5b6675", "#ffffff"
_SAYS: dict[Kind, str] = {
    "past": "you chose {}",
    "answers": "your answers",
    "feature": "its {}",
    "popularity": "its popularity",
    "not chosen": "items you did not choose",
    "own copy": "adapted on this device",
}


def bar_chart(why: Explanation) -> str:
    """Return the chart of an explanation as an SVG document.

    Args:
        why: the explanation; its titles may be anything.
    """
    largest = sorted(why.reasons, key=lambda reason: -abs(reason.value))
    left_out = largest[MOST:]
    bars = [(_label(reason), reason.value) for reason in sorted(largest[:MOST], key=lambda each: -each.value)]
    for sign, name in ((1, "others that raise it"), (-1, "others that lower it")):
        some = [reason.value for reason in left_out if reason.value * sign > 0]
        bars += [(f"{len(some)} {name}", fsum(some))] if some else []
    values = [value for _, value in bars]
    high, low = max([0.0, *values]), min([0.0, *values])
    span = (high - low) or 1.0
    room = WIDTH - LABEL - 2 * VALUE
    zero = LABEL + VALUE + room * -low / span
    height = TOP + ROW * max(1, len(bars)) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f"<title>{_text(f'Why {why.title}')}</title>",
        f"<desc>{_text(why.words)}</desc>",
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600">{_text(_short(f"Why {why.title}", 64))}</text>',
        f'<text x="16" y="45" fill="{FAINT}">score {why.score:.4g}, average item {why.baseline:.4g}</text>',
    ]
    for place, ((label, value), percent) in enumerate(zip(bars, percents(values), strict=True)):
        y, width = TOP + ROW * place, room * abs(value) / span
        x, end = (zero, zero + width + 5) if value > 0 else (zero - width, zero - width - 5)
        anchor = "start" if value > 0 else "end"
        parts += [
            f'<text x="{LABEL - 8}" y="{y + 17}" text-anchor="end">{_text(label)}</text>',
            f'<rect x="{x:.1f}" y="{y + 4}" width="{max(width, 0.5):.1f}" height="{ROW - 8}" rx="2" '
            f'fill="{RAISES if value > 0 else LOWERS}"/>',
            f'<text x="{end:.1f}" y="{y + 17}" text-anchor="{anchor}">{percent} %</text>',
        ]
    bottom = TOP + ROW * max(1, len(bars))
    parts += [
        f'<line x1="{zero:.1f}" x2="{zero:.1f}" y1="{TOP - 2}" y2="{bottom + 2}" stroke="{FAINT}"/>',
        f'<text x="16" y="{bottom + 20}" fill="{FAINT}">{_text(_note(why))}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _note(why: Explanation) -> str:
    if not why.attributed:
        return "Right raises the score, left lowers it. The shares are exact: they sum to the difference."
    return "Right raises the score, left lowers it. Integrated gradients split what passes hidden units."


def _label(reason: Reason) -> str:
    return _short(_SAYS[reason.kind].format(reason.name), LONGEST_LABEL)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _text(text: str) -> str:
    return escape(plain(text))
