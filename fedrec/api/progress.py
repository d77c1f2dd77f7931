"""Progress of a run from Python: a bar in a terminal, one line that changes in a notebook, nothing in a script."""

import importlib
import sys
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedrec_sim.report.progress import RunProgress

    from fedrec.run.coordinator import RoundReport

    OnRound = Callable[[RoundReport], None] | None


def progress_of(wanted: bool | None, on_round: "OnRound") -> "RunProgress":
    """Return the display of a run's progress.

    Args:
        wanted: True to show progress; None shows it in a terminal and in a notebook.
        on_round: also called after each round.
    """
    from fedrec_sim.report.progress import RunProgress

    from fedrec.screen import plain_console

    class Reported(RunProgress):
        """Calls `on_round`, and in a notebook shows each line in the place of the one before."""

        cell: Any = None

        def say(self, text: str) -> None:
            if self.quiet or not self.console.is_jupyter:
                super().say(text)
                return
            notebook = importlib.import_module("IPython.display")
            shown = notebook.HTML(f"<pre>{escape(text)}</pre>")
            if self.cell is None:
                self.cell = notebook.display(shown, display_id=True)
            else:
                self.cell.update(shown)

        def round(self, report: "RoundReport") -> None:
            if on_round is not None:
                on_round(report)
            super().round(report)

    console = plain_console(stderr=True)
    shown = (sys.stderr.isatty() or console.is_jupyter) if wanted is None else wanted
    return Reported(console, quiet=not shown)
