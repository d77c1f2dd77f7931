"""A received run: its ledger, read with distrust, and the statement that follows from it.

RUN is a run's folder, its release/ or privacy/ folder, a file in that, or a file of `fedrec audit export`. The ledger
is the record. The statement is made from it, never read; `faults` lists differences of the statement's files.
`fedrec audit verify` checks whether the record itself is genuine.
"""

from dataclasses import dataclass
from pathlib import Path

from fedrec.audit.entries.account import Account, account
from fedrec.audit.evidence.layout import Layout
from fedrec.audit.evidence.received_run import STATEMENT, received
from fedrec.audit.log import chain as chains
from fedrec.audit.log import marks
from fedrec.audit.statement.agreement import compare
from fedrec.audit.statement.schema import PrivacyStatement
from fedrec.errors import VerificationError
from fedrec.json_types import Json


@dataclass(frozen=True)
class Received:
    """A run as an auditor receives it.

    Attributes:
        place: the run's folder or exported file.
        statement: the statement that the ledger gives.
        known: the ledger's records.
        attacks: payloads of the `attack` records, oldest first; older versions put whole results there.
        heads: the ledger's head after 0, 1, ... entries.
        faults: differences between the statement's files and the ledger, a line each.
        notes: further information.
        stated: whether a statement came with the ledger.
        private: the private folder; None where it was not handed over.
        run: the run's id.
    """

    place: Path
    statement: PrivacyStatement
    known: Account
    attacks: tuple[Json, ...]
    heads: tuple[str, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    stated: bool
    run: str
    private: Path | None

    @property
    def head(self) -> str:
        """The root (hex) that fixes the whole ledger."""
        return self.heads[-1]

    @property
    def report(self) -> Path:
        """The path of a new page: outside `release/`, whose files are signed."""
        if self.place.is_dir() and not Layout.of(self.place).flat:
            return self.place / "report.html"
        place = self.place.resolve()
        return place.with_name(f"{place.name}.html")

    @property
    def name(self) -> str:
        """The name of the run: its scenario's name in the ledger."""
        return self.statement.scenario.name

    def require_agreement(self) -> None:
        """Raise VerificationError with the first difference between the statement's files and the ledger, if any."""
        if self.faults:
            more = f"; {len(self.faults) - 1} more" if len(self.faults) > 1 else ""
            raise VerificationError(f"{self.place}: statement and ledger do not agree: {self.faults[0]}{more}")


def receive(run: Path) -> Received:
    """Read a run.

    Raises:
        InputError: when a file is missing.
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
        known = account(payloads)
        found = compare(known, heads, evidence.files)
    except VerificationError as error:
        raise VerificationError(f"{place}: {error}; the ledger gives no statement, ask for it again") from None
    return Received(
        place,
        found.statement,
        known,
        tuple(payload for payload in payloads if payload.get("type") == "attack"),
        heads,
        faults=(*marks.contradictions(chain), *found.faults),
        notes=tuple(found.notes),
        stated=STATEMENT in evidence.files,
        run=chain.records[0].run,
        private=evidence.private,
    )


def _place(run: Path) -> Path:
    """Return the run's folder, or the exported file."""
    inside = run.parent if run.is_file() and run.parent.name == "privacy" else run
    return Layout.of(inside).root if inside.is_dir() else run
