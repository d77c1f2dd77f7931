"""`fedrec export`: the command."""

from pathlib import Path
from typing import Annotated

import typer

from fedrec.screen import say


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, its release/, or the model's own folder.")],
    onnx: Annotated[Path, typer.Option(metavar="FILE", help="The ONNX file to write.")],
) -> None:
    """Write a released model's scorer for other programs: from a person's vector to the scores of all items.

    It reads the released model alone. The vector is fitted on the device, from the person's own history; the history is
    no input of the file. A device loads the file with `fedrec.ondevice.onnx_table.load_onnx` and makes the same lists.

    Example: `fedrec export runs/mine --onnx mine.onnx`

    Exit codes: 0 done, 2 input that cannot be used.
    """
    from fedrec.exports.onnx_graph import write

    say(f"Written to {onnx}, {write(run, onnx):,} bytes")
