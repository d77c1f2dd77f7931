"""Text from a file or a message of somebody else, made safe for a terminal and a log.

A terminal acts on control characters: it clears the screen, sets the window's title, or moves the cursor over a
verdict. Characters of direction (bidi) show letters in another order than they have; a newline makes a second line of
one. `plain` writes each of them as an escape, e.g. `\\x1b`, so that all of the text is visible and nothing acts.
"""

import unicodedata

LONGEST = 4000
"""Characters of one field that are shown; the middle of a longer one is left out."""


def plain(text: object, longest: int = LONGEST) -> str:
    """Return `text` as one line in which nothing acts on a terminal.

    Args:
        text: shown by its `str`.
        longest: characters of the text that are kept.

    Returns:
        The text with control, format, bidi, private, unassigned and surrogate characters and line ends as escapes.
    """
    found = str(text)
    if len(found) > longest:
        half = longest // 2
        found = f"{found[:half]} ... ({len(found) - 2 * half:,} characters left out) ... {found[-half:]}"
    if found.isascii() and found.isprintable():
        return found
    return "".join(map(_visible, found))


def plain_lines(text: str) -> str:
    """The same for a text of several lines: newlines stay, all else that acts is escaped."""
    return "\n".join(plain(line, max(LONGEST, len(line))) for line in text.split("\n"))


def _visible(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")
