"""`fedrec audit forget`: what a released model's bound says with and without one user, and what removal costs."""

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from fedrec.screen import plain_console

Run = Annotated[Path, typer.Argument(help="A run's folder, or a file of `fedrec audit export`.", show_default=False)]


def forget(
    run: Run, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False
) -> None:
    """Show what the run's bound promises to a user who asks to be forgotten, and what removal would take.

    The command reads the statement of RUN and changes nothing. The bound holds for every user, before any request.
    It is no removal. Exact removal is a new run on a log without the user; for everyone else both budgets add up.

    - `fedrec audit forget runs/quickstart`
    """
    from fedrec.audit.statement.received import receive
    from fedrec.audit.statement.removal import two_gaussians

    received = receive(run)
    received.require_agreement()
    statement = received.statement
    bound = None if statement.epsilon is None or statement.delta is None else (statement.epsilon, statement.delta)
    mu = None if statement.curve is None or statement.curve.mu is None else float(statement.curve.mu)
    facts: dict[str, str | None] = {
        "epsilon": None if bound is None else str(bound[0]),
        "delta": None if bound is None else str(bound[1]),
        "best_guess": statement.best_guess,
        "two_releases_epsilon": None if bound is None else str(2 * Decimal(bound[0])),
        "two_releases_delta": None if bound is None else str(2 * Decimal(bound[1])),
        "two_releases_gaussian_epsilon": None if bound is None or mu is None else two_gaussians(mu, float(bound[1])),
    }
    if as_json:
        json.dump(facts, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    console = plain_console(soft_wrap=True)
    for line in _lines(facts):
        console.print(line)


def _lines(facts: dict[str, str | None]) -> list[str]:
    if facts["epsilon"] is None:
        return [
            "No bound holds: the released model may depend on one user without limit.",
            "Removal: train anew on a log without the user, withdraw this model. Its recipients keep their copies.",
        ]
    lines = [
        f"With or without one user, each outcome is at most exp({facts['epsilon']}) times as likely, plus "
        f"{facts['delta']}.",
        f"Somebody who guesses whether the user took part is right at most {float(facts['best_guess'] or 1):.2%} "
        "of the time; a coin, 50 %.",
        "This holds for every user, without a request. It is no removal: the user's part stays, hidden by noise.",
        "Removal: train anew on a log without the user. A checkpoint helps only if it is older than the user's first "
        "round.",
        "The second model does not depend on the user at all, who pays for the first release alone.",
        f"For everyone in both runs, a second run with the same plan makes epsilon {facts['two_releases_epsilon']} at "
        f"delta {facts['two_releases_delta']} (added).",
    ]
    if facts["two_releases_gaussian_epsilon"] is not None:
        lines.append(
            f"  As Gaussian releases: epsilon {facts['two_releases_gaussian_epsilon']} at delta {facts['delta']}, if "
            "the second plan was fixed before the first release."
        )
    return lines
