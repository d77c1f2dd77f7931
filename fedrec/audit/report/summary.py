"""A run's promise on one screen of a terminal. Text from the run is printed literally, never as markup."""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedrec.audit.report.findings import attack_rows
from fedrec.audit.statement.checklists import IN_WORDS, strength
from fedrec.audit.statement.promise import percent
from fedrec.audit.statement.received import Received
from fedrec.audit.statement.schema import DpFyRow, PyramidRow
from fedrec.audit.statement.statement import VERIFY
from fedrec.plain_text import plain
from fedrec.screen import plain_console


def print_summary(received: Received, console: Console | None = None) -> None:
    """Print contradictions first; then promise, epsilon by adversary, budget, assumptions, record and next steps."""
    out = console or plain_console()
    if received.faults:
        for fault in received.faults:
            out.print(Text(plain(f"CONTRADICTION: {fault}"), "bold red"))
        out.print(Text("What follows is what the ledger gives.\n", "bold red"))
    stated = received.statement
    data = stated.dataset
    counts = (("users", data.users), ("items", data.items))
    about = [received.name, *(f"{count:,} {what}" for what, count in counts if count is not None)]
    if stated.simulation:
        about.append("simulation")
    out.print(Text(plain(", ".join(about)), "bold"))
    for sentence in stated.promise:
        out.print(Padding(Text(plain(sentence)), (0, 0, 0, 2)))
    out.print()
    out.print(_adversaries(received))
    out.print()
    for label, value in _facts(received):
        out.print(_row(label, value))
    for note in received.notes:
        out.print(_row("note", note))


def _adversaries(received: Received) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2), header_style="bold", show_edge=False)
    table.add_column("against")
    table.add_column("epsilon", justify="right")
    table.add_column("")
    for row in received.statement.adversaries:
        words = strength(None if row.epsilon is None else float(row.epsilon))
        style = {"none": "red", "weak": "red", "reasonable": "yellow"}.get(words, "green")
        table.add_row(Text(plain(row.who)), Text(row.epsilon or "no bound"), Text(IN_WORDS.get(words, words), style))
    return table


def _facts(received: Received) -> list[tuple[str, str]]:
    stated = received.statement
    shares = [f"{row.query} {100 * float(row.share):.1f} %" for row in stated.budget if row.share]
    unenforced = [row for row in stated.assumptions if row.enforced != "yes"]
    rows: list[DpFyRow | PyramidRow] = [*stated.checklists.how_to_dp_fy_ml, *stated.checklists.nist_sp_800_226]
    open_rows = [row for row in rows if row.status in ("no", "unknown")]
    facts = [
        (
            "budget",
            f"{stated.epsilon or 'no bound'} of {stated.target_epsilon or 'no cap'}, delta "
            f"{stated.delta or 'none'}, {stated.rounds} of {stated.rounds_planned} rounds",
        ),
        ("spent on", ", ".join(shares) or "nothing"),
        ("a guess", f"whether you took part is right in at most {percent(stated.best_guess)} of cases"),
        ("noise", stated.noise_source),
        ("assumptions", f"{len(stated.assumptions)}, of which {len(unenforced)} rest on somebody's word"),
        ("not protected", f"{len(stated.not_protected) + len(stated.unprotected)} points"),
        ("checklists", f"{len(open_rows)} points not fulfilled or unknown"),
    ]
    facts += [
        ("attack", f"{row.name}: epsilon at least {row.lower_text or row.verdict}; {row.verdict}")
        for row in attack_rows(received, private=True)
    ]
    return [
        *facts,
        ("ledger", f"{len(received.known.records)} entries, head {received.head}"),
        ("check it", VERIFY.replace("RUN", str(received.place), 1)),
        ("read it", f"fedrec audit report {received.place}"),
    ]


def _row(label: str, value: str) -> Table:
    table = Table.grid(padding=(0, 2, 0, 2))
    table.add_column(width=13, style="dim")
    table.add_column(overflow="fold")
    table.add_row(Text(label), Text(plain(value)))
    return table
