"""The auditor's side of the Python API: the statement, the page, and the check of a record."""

from html import escape
from pathlib import Path
from typing import Any

from fedrec.audit.evidence import received_run as evidence
from fedrec.audit.log import keys
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.received import receive
from fedrec.audit.verify.verification import Verdict
from fedrec.audit.verify.verification import verify as verified
from fedrec.errors import InputError, VerificationError


class Statement:
    """What a run promises, as its ledger gives it.

    facts: `statement.json`. text: the same for people, as Markdown.
    """

    def __init__(self, facts: dict[str, Any], text: str) -> None:
        self.facts, self.text = facts, text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre style='white-space: pre-wrap'>{escape(self.text)}</pre>"


class Report:
    """The privacy page of a run. In a notebook it shows itself in a frame without scripts' access to the notebook."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def html(self) -> str:
        """The page."""
        return self.path.read_text(encoding="utf-8")

    def open(self) -> None:
        """Show the page in a browser."""
        import webbrowser

        webbrowser.open(self.path.resolve().as_uri())

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"

    def _repr_html_(self) -> str:
        page = escape(self.html, quote=True)
        return f'<iframe sandbox style="width: 100%; height: 40em; border: 0" srcdoc="{page}"></iframe>'


def verify(run: Any, key: str | Path | None = None, *, trust_run_key: bool = False) -> Verdict:
    """Check a run's record without trusting its author, as `fedrec audit verify` does.

    Args:
        run: a run's folder, an exported file, or a `Run`.
        key: the public key that began the ledger: a PEM file, or ed25519:BASE64. Get it from its owner.
        trust_run_key: take the key that is in the run's folder. That shows damage, and not who wrote the record.

    Returns: what was found; its `facts` hold epsilon, recorded and recomputed, and its `notes` what to know besides.

    Raises:
        VerificationError: with the first fault.
        InputError: when the run or the key cannot be read.

    >>> import fedrec
    >>> data = fedrec.load_dataset("quickstart", users=100, items=40)
    >>> run = fedrec.simulate("popularity", data, seed=1, progress=False)
    >>> fedrec.verify(run, trust_run_key=True).holds
    True
    """
    place = Path(getattr(run, "folder", run))
    found = evidence.received(place)
    if (key is None) != trust_run_key:
        raise InputError(
            "verify: needs a key; give key=... (from its owner, not from the run), or trust_run_key=True for your own"
        )
    public = found.own_key("verify", "key=...") if key is None else keys.public_key(str(key))
    verdict = verified(found, public)
    if trust_run_key:
        verdict.notes.insert(0, "the key was in the run's folder: this shows that nothing is damaged, not who wrote it")
    if not verdict.holds:
        more = f" (and {len(verdict.faults) - 1} more)" if len(verdict.faults) > 1 else ""
        raise VerificationError(f"{place}: does NOT verify: {verdict.faults[0]}{more}")
    return verdict


def statement_of(run: Path) -> Statement:
    """The statement that a run's ledger gives.

    Raises:
        VerificationError: where the statement's files differ from it.
    """
    found = receive(run)
    found.require_agreement()
    return Statement(found.statement.model_dump(mode="json", by_alias=True), as_text(found.statement))
