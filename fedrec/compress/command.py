"""`fedrec compress`: the command."""

from pathlib import Path
from typing import Annotated

import typer

from fedrec.errors import InputError
from fedrec.screen import say


def compress(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, its release/, or the model's own folder.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="The new folder to write.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Tables and networks as 8-bit levels, a scale a row.")] = False,
    int4: Annotated[bool, typer.Option("--int4", help="As 4-bit levels, a scale for 32 numbers.")] = False,
    prune: Annotated[
        float | None, typer.Option(metavar="PART", help="Make this part of each table zero, the smallest entries.")
    ] = None,
    distil: Annotated[
        int | None, typer.Option(metavar="DIM", help="Fit a model with vectors of this length on public histories.")
    ] = None,
    histories: Annotated[int, typer.Option(min=10, help="Public histories of --distil, generated.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of these histories.")] = 0,
    check: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Make the compressed release at DIR anew from RUN and compare.")
    ] = None,
) -> None:
    """Make a smaller model of a released one, which devices and `fedrec serve` read as any other.

    It is post-processing: it reads the released model alone, and costs no budget. The source's statement holds for the
    result. derivation.json names the source by digest, the steps, and the result; `fedrec audit verify` checks them.
    The steps are taken in the order distil, prune, levels.

    Examples:

    - `fedrec compress runs/mine --int8 -o runs/small`

    - `fedrec compress runs/mine --distil 32 --int8 -o runs/smaller`

    - `fedrec compress runs/mine --check runs/small` - the same steps give the same bytes

    Exit codes: 0 done, 2 input that cannot be used, 4 the check does not hold.
    """
    from fedrec.compress import compressed
    from fedrec.compress.settings import Steps
    from fedrec.settings import parse

    if check is not None:
        compressed.check(check, run)
        say(f"{check}: the same steps give the same bytes")
        return
    if out is None:
        raise InputError("compress: needs --out DIR for the compressed release, or --check DIR")
    if int8 and int4:
        raise InputError("compress: give one of --int8 and --int4")
    given = {"distil": distil, "histories": histories, "seed": seed, "prune": prune}
    steps = parse(Steps, given | {"bits": 8 if int8 else 4 if int4 else None}, "compress")
    compressed.compress(run, steps, out)
    size, whole = compressed.sizes(out / "release" / "model")
    before = compressed.sizes(compressed.model_folder(run))[0]
    say(f"Written to {out}: {size:,} bytes of tensors, {size / before:.0%} of {before:,}; {whole:,} as float32")
