"""The one place that writes to a terminal: whatever is printed may come from a file or a message of somebody else."""

import sys
from typing import TYPE_CHECKING, Any

from fedrec.plain_text import plain, plain_lines

if TYPE_CHECKING:
    from rich.console import Console


def say(line: object = "", *, err: bool = False) -> None:
    """Print one line; what would act on a terminal, newlines too, is escaped.

    Args:
        line: shown by its `str`.
        err: print to standard error.
    """
    print(plain(line), file=sys.stderr if err else sys.stdout, flush=err)


def write(text: str) -> None:
    """Print a text of several lines (JSON, Markdown) on standard output as it is, but for what acts on a terminal."""
    sys.stdout.write(plain_lines(text))


def plain_console(**options: Any) -> "Console":
    """Make a console of rich for tables and progress.

    Text that it gets is never markup, and never acts on the terminal; newlines stay, so escape fields by `plain`.

    Args:
        options: those of `rich.console.Console`. Highlighting is off where it is not asked for.
    """
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class Plain(Console):
        """Escapes the text of every segment; the console's own control codes pass."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(plain_lines(text), **options)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else plain_lines(text), style, control)

    return Plain(**{"highlight": False, "markup": False, "emoji": False} | options)
