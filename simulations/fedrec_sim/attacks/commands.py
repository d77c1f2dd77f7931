"""`fedrec audit attack`: the command's options, and its output at the end.

Everything heavy is imported inside the functions, so that `--help` answers at once.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrec.data.folder import DataDir
from fedrec.errors import InputError, VerificationError, nearest
from fedrec.run.setting_completion import settings_named
from fedrec.screen import plain_console

if TYPE_CHECKING:
    from rich.console import Console

    from fedrec_sim.attacks.record import Result
    from fedrec_sim.attacks.target import Progress, Target

KINDS = {
    "self-test": "does the system do what its ledger says (noise, clip, sampling, support)",
    "canary": "worst-case users in one run: a lower bound on epsilon, held against the proven one",
    "membership": "was this history in the run, with privacy and without",
    "reconstruction": "which items are in a history, from one device's message",
    "attribute": "what kind of person is this, from one device's message",
    "vectors": "which texts were the items' public vectors made from; of users they hold nothing",
    "poison": "how far colluding users push an item into everybody's list; not among the default kinds",
}
"""Kinds of attack for `--kind`, each with its question."""
NOT_BY_DEFAULT = ("poison",)
"""Kinds that attack the quality of lists, not privacy, and that take a dozen trainings."""


def attack(
    target: Annotated[
        str | None,
        typer.Argument(help="A finished run's folder, a built-in scenario or a TOML file; quickstart if left out."),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help=f"{', '.join(KINDS)}; may be repeated. [default: all but poison]"),
    ] = None,
    canaries: Annotated[
        int | None,
        typer.Option(
            min=1, help="Canary users of --kind canary. [default: at most 1000, so that most queries have room]"
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Confidence of the lower bounds; the self-test accuses at 0.999 or more.")
    ] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Seed of coins, directions and noise.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting of a scenario; may be repeated.",
            autocompletion=settings_named,
        ),
    ] = None,
    row_cap: Annotated[
        float | None,
        typer.Option(help="With --kind poison: part of the clip that each item's row of a message may have. [0 to 1]"),
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write attacks.json into this folder (a scenario only).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results on standard output, and nothing else there.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Attack the system: is the claimed epsilon plausible, and does the system do what its record says?

    TARGET is a finished run's folder, a built-in scenario (`fedrec simulate --list`) or a TOML file. The scenario is
    run again in a simulation, through the real coordinator, federation and plan, with the attack's users among its
    own. For a run's folder the results go into its ledger and into private/attacks.json.

    A bound above the proven epsilon refutes the claim. An attack that fails proves nothing: a better one may come.
    What a bound rests on, and what each kind means, is in docs/attacks.md.

    Examples:

    - `fedrec audit attack --kind self-test` - does this installation do what it says? Generated data, a minute

    - `fedrec audit attack quickstart --kind canary --seed 1` - epsilon from below, beside the proven one

    - `fedrec audit attack runs/mine` - every kind, on a finished run's scenario; kept in its ledger

    - `fedrec audit attack ml-100k-dp --kind attribute --data-dir DATA` - is gender readable from a message?

    Exit codes: 0 nothing refutes the claim, 2 input that cannot be used, 4 the system is accused.
    """
    chosen = list(dict.fromkeys(kinds or (kind for kind in KINDS if kind not in NOT_BY_DEFAULT)))
    for kind in chosen:
        if kind not in KINDS:
            raise InputError(f"--kind {kind}: unknown.{nearest(kind, KINDS)}")
    if row_cap is not None and ("poison" not in chosen or not 0 < row_cap <= 1):
        raise InputError(f"--row-cap {row_cap:g}: must be above 0 and at most 1, with --kind poison")
    if not 0.5 <= confidence < 1:
        raise InputError(f"--confidence {confidence:g}: must be at least 0.5 and below 1; 0.95 is usual")
    if out is not None and target is not None and Path(target).is_dir():
        raise InputError("--out: the results of a run go into its own folder; leave it out")
    results = _attacked(
        target, chosen, canaries, confidence, seed, changes or [], data_dir, out, row_cap, quiet=quiet or as_json
    )
    if as_json:
        json.dump(results, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        _show(results)
    accused = [result["name"] for result in results if result["accused"]]
    if accused:
        raise VerificationError(f"the system is accused by: {', '.join(accused)}; the results say what was measured")


def _attacked(
    name: str | None,
    kinds: list[str],
    canaries: int | None,
    confidence: float,
    seed: int,
    changes: list[str],
    data_dir: Path | None,
    out: Path | None,
    row_cap: float | None,
    *,
    quiet: bool,
) -> list[dict[str, Any]]:
    from fedrec_sim.attacks import record
    from fedrec_sim.attacks.self_test import small_target
    from fedrec_sim.attacks.target import load_target

    screen = plain_console(stderr=True, quiet=quiet)
    small = name is None and not changes
    loaded = None if small and kinds == ["self-test"] else load_target(name or "quickstart", changes, data_dir, seed)
    results: list[dict[str, Any]] = []
    for kind in kinds:
        subject = small_target(seed) if loaded is None or (small and kind == "self-test") else loaded
        done = [result.payload() for result in _one_kind(kind, subject, canaries, confidence, row_cap, screen)]
        results += done
        if loaded is not None and loaded.run is not None:  # kept at once: nothing is lost when a later kind dies
            record.keep_in_run(done, loaded.run)
        elif out is not None:
            record.keep(done, out / "attacks.json")
    return results


def _one_kind(
    kind: str, target: "Target", canaries: int | None, confidence: float, row_cap: float | None, screen: "Console"
) -> "list[Result]":
    import time
    from dataclasses import replace

    from fedrec_sim.attacks import attribute, canary_attack, membership, poison, reconstruction, self_test, vectors

    began = time.perf_counter()
    with _progress(kind, screen) as progress:
        if kind == "self-test":
            at = max(confidence, self_test.CONFIDENCE)
            found = [self_test.self_test(target, confidence=at, progress=progress)[0]]
        elif kind == "canary":
            found = [canary_attack.attack(target, canaries, confidence=confidence, progress=progress)]
        elif kind == "poison":
            found = poison.attack(target, row_cap=row_cap, confidence=confidence, progress=progress)
        else:
            modules: dict[str, Any] = {"membership": membership, "reconstruction": reconstruction}
            module = (modules | {"attribute": attribute, "vectors": vectors})[kind]
            found = module.attack(target, confidence=confidence, progress=progress)
    seconds = time.perf_counter() - began
    return [replace(result, seconds=seconds) for result in found]


class _progress:
    """Show the rounds of one kind: a bar in a terminal, one line elsewhere. Yields the function to call."""

    def __init__(self, kind: str, screen: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._kind, self._screen = kind, screen
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=screen, transient=True)
        self._task = self._bar.add_task(kind, total=None)

    def __enter__(self) -> "Progress":
        if self._screen.is_terminal and not self._screen.quiet:
            self._bar.start()
        else:
            self._screen.print(f"{self._kind} ...")
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


def _show(results: list[dict[str, Any]]) -> None:
    from rich.text import Text

    console = plain_console(soft_wrap=True)
    for result in results:
        verdict = Text("ACCUSED: ", "bold red") if result["accused"] else Text()
        console.print(Text(result["name"], "bold"), f"(as {result['adversary'].replace('_', ' ')})")
        console.print(Text("  ") + verdict + Text(result["about"]))
        if result["epsilon_lower"] is not None:
            proven = result["epsilon_proven"] or "no bound"
            sure = f"{float(result['confidence']):.0%} confidence"
            console.print(f"  epsilon: {result['epsilon_lower']} (attack, {sure}) <= true <= {proven} (proof)")
        for row in result["figures"].get("rows", ()):
            parts = (f"{name} {value}" for name, value in row.items() if name != "ceiling_in_noise")
            console.print(Text("  " + ", ".join(parts)))
    console.print("An attack that fails proves nothing; docs/attacks.md says what each means.")
