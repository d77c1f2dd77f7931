"""`fedrec audit self-test`: does the installed auditor refuse what it must refuse?"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fedrec.audit.self_test.attack import Attack
    from fedrec.audit.self_test.stage import Stage


@dataclass(frozen=True)
class Played:
    """An attack that was played. `instead` describes what happened in place of a refusal; None if it was refused."""

    kind: str
    name: str
    instead: str | None


def self_test(
    seed: Annotated[int, typer.Option(min=0, help="Seed of the damaged places.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
    every: Annotated[bool, typer.Option("--all", help="List every attack, refused ones too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Attack a genuine record in every known way, and check that the installed commands refuse it.

    Makes a small genuine run in a temporary folder, and attacks copies of it: forged statements, files and records,
    lies by the owner of the key, flipped bits, cut files, zip bombs, absurd numbers, links, control characters for the
    terminal, forks and roll-backs. Nothing outside that folder is touched, and no dataset is needed. It takes one to
    two minutes. For attacks on the privacy of a model, see `fedrec audit attack`.

    - `fedrec audit self-test`

    - `fedrec audit self-test --json | jq .not_refused`

    Exit codes: 0 every attack was refused, 4 some were not (a line for each).
    """
    from fedrec.errors import VerificationError
    from fedrec.screen import say, write

    with tempfile.TemporaryDirectory(prefix="fedrec-self-test-") as folder:
        played = list(_played(Path(folder), seed, quiet or as_json))
    failed = [one for one in played if one.instead is not None]
    if as_json:
        write(json.dumps(_document(played), indent=2) + "\n")
    else:
        _show(played, every)
    if failed:
        raise VerificationError(f"self-test: {len(failed)} of {len(played)} attacks were NOT refused")
    if not as_json:
        say(f"self-test: all {len(played)} attacks were refused")


def attacks(statement: dict[str, Any], seed: int) -> "Iterator[Attack]":
    """Yield every attack.

    Args:
        statement: the statement of the genuine run.
        seed: seed of the damaged places.
    """
    from fedrec.audit.self_test import damages, forgeries, histories, links

    yield from forgeries.attacks(statement)
    yield from damages.attacks(seed)
    yield from links.attacks()
    yield from histories.attacks()


def prepared(folder: Path) -> "Stage":
    """Make two genuine runs in `folder`, and commands without access to this user's keys and marks."""
    from fedrec.audit.log.keys import load_key, new_key
    from fedrec.audit.self_test.genuine import genuine_run
    from fedrec.audit.self_test.stage import Commands, Stage

    new_key(folder / "owner.pem")
    new_key(folder / "auditor.pem")
    owner = load_key(folder / "owner.pem")
    common = {"XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    auditor = {"FEDREC_KEY": str(folder / "auditor.pem"), "FEDREC_KEY_MARKS": str(folder / "auditor.signed")}
    (folder / "copies").mkdir()
    return Stage(
        commands=Commands(common | auditor),
        folder=folder / "copies",
        plain=genuine_run(folder / "plain", owner),
        sampled=genuine_run(folder / "sampled", owner, sampling=0.4),
        key=owner,
        home={"FEDREC_KEY": str(folder / "owner.pem"), "FEDREC_KEY_MARKS": str(folder / "owner.pem.signed")},
    )


def play(stage: "Stage", chosen: "Sequence[Attack]") -> Iterator[Played]:
    """Play attacks, after a check that the genuine runs verify."""
    for run in (stage.plain, stage.sampled):
        answer = stage.verified(run)
        yield Played("genuine", f"{run.name} run verifies", None if answer.code == 0 else answer.output.strip())
    for attack in chosen:
        yield Played(attack.kind, attack.name, attack.play(stage))


def _played(folder: Path, seed: int, quiet: bool) -> Iterator[Played]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from fedrec.audit.evidence.received_run import STATEMENT
    from fedrec.screen import plain_console

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=plain_console(stderr=True), disable=quiet, transient=True) as progress:
        task = progress.add_task("Making a genuine run", total=None)
        stage = prepared(folder)
        chosen = list(attacks(json.loads((stage.plain / "release" / STATEMENT).read_text(encoding="utf-8")), seed))
        progress.update(task, total=len(chosen) + 2)
        try:
            for one in play(stage, chosen):
                progress.update(task, advance=1, description=f"Playing: {one.kind}")
                yield one
        finally:
            stage.commands.close()


def _document(played: Sequence[Played]) -> dict[str, Any]:
    return {
        "refused": not any(one.instead for one in played),
        "attacks": len(played),
        "not_refused": [vars(one) for one in played if one.instead is not None],
        "played": [{"kind": one.kind, "name": one.name, "refused": one.instead is None} for one in played],
    }


def _show(played: Sequence[Played], every: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from fedrec.plain_text import plain
    from fedrec.screen import plain_console

    console = plain_console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("attack", "played", "refused"):
        table.add_column(heading, justify="left" if heading == "attack" else "right")
    for kind in dict.fromkeys(one.kind for one in played):
        of_kind = [one for one in played if one.kind == kind]
        table.add_row(kind, str(len(of_kind)), str(sum(one.instead is None for one in of_kind)))
        if every:
            for one in of_kind:
                table.add_row(Text(f"  {plain(one.name)}"), "", "no" if one.instead else "yes")
    console.print(table)
    for one in played:
        if one.instead is not None:
            console.print(Text(plain(f"NOT REFUSED: {one.kind}: {one.name}: {one.instead}"), "bold red"))
