"""What an auditor was handed: a run's ledger, read with distrust, and the statement that follows from it.

RUN is a run's folder, its release/ or privacy/ folder, a file in that, or what `fedrec audit export` made of one. The
ledger is the record; the statement is made from it, never read. Where the statement's files say something else,
`faults` has it. Whether the record itself is genuine, `fedrec audit verify` checks.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec.audit.entries.account import account
from fedrec.audit.evidence.layout import Layout
from fedrec.audit.evidence.received_run import STATEMENT, received
from fedrec.audit.log import chain as chains
from fedrec.audit.log import marks
from fedrec.audit.statement.agreement import compare
from fedrec.audit.statement.schema import PrivacyStatement
from fedrec.errors import VerificationError


@dataclass(frozen=True)
class Received:
    """A run as it was handed over.

    statement: what the ledger gives. payloads: those of the ledger, oldest first. heads: the ledger's head after 0, 1,
    ... entries. faults: where the statement's files differ from the ledger, a line each. notes: what to know besides.
    stated: whether a statement came with the ledger. private: the private folder, None where it was not handed over.
    run: the run's id.
    """

    place: Path
    statement: PrivacyStatement
    payloads: tuple[dict[str, Any], ...]
    heads: tuple[str, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    stated: bool
    run: str
    private: Path | None

    @property
    def head(self) -> str:
        """What fixes the whole ledger."""
        return self.heads[-1]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of one type, oldest first."""
        return [payload for payload in self.payloads if payload.get("type") == kind]

    @property
    def report(self) -> Path:
        """Where a page made anew belongs: outside `release/`, whose files are signed."""
        if self.place.is_dir() and not Layout.of(self.place).flat:
            return self.place / "report.html"
        place = self.place.resolve()
        return place.with_name(f"{place.name}.html")

    @property
    def name(self) -> str:
        """What the run is called: its scenario's name in the ledger."""
        return self.statement.scenario.name

    def require_agreement(self) -> None:
        """Raises: VerificationError that names the first difference between the statement's files and the ledger."""
        if self.faults:
            more = f"; {len(self.faults) - 1} more" if len(self.faults) > 1 else ""
            raise VerificationError(f"{self.place}: statement and ledger do not agree: {self.faults[0]}{more}")


def receive(run: Path) -> Received:
    """Read a run.

    Raises:
        InputError: when something is missing.
        VerificationError: for a broken ledger.
    """
    place = _place(run)
    evidence = received(place)
    chain = chains.read(evidence.ledger)
    if chain.fault:
        raise VerificationError(f"{place}: {chain.fault}; the ledger was changed, ask for it again")
    payloads = tuple(record.payload for record in chain.records)
    heads = tuple(root.hex() for root in chain.roots)
    try:
        found = compare(account(payloads), heads, evidence.files)
    except VerificationError as error:
        raise VerificationError(f"{place}: {error}; the ledger gives no statement, ask for it again") from None
    return Received(
        place,
        found.statement,
        payloads,
        heads,
        faults=(*marks.contradictions(chain), *found.faults),
        notes=tuple(found.notes),
        stated=STATEMENT in evidence.files,
        run=chain.records[0].run,
        private=evidence.private,
    )


def _place(run: Path) -> Path:
    """The run's folder, or the exported file."""
    inside = run.parent if run.is_file() and run.parent.name == "privacy" else run
    return Layout.of(inside).root if inside.is_dir() else run
