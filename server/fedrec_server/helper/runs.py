"""What a helper remembers of runs, in its own folder, on disk before it answers.

    FOLDER/runs/ID.json    the run card with its proof, and the nodes' keys for masks
    FOLDER/runs/ID.forks   two checkpoints that contradict each other, signed by the ledger's key
    FOLDER/witness/ID.note the checkpoint that was cosigned last
    FOLDER/opened/         a file for each charge that was opened: its survivor set

A copy of the folder from an earlier day has forgotten what was opened since: never start a helper from one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from fedrec.audit.card import fields
from fedrec.audit.card.card import RunCard
from fedrec.audit.card.checks import open_card, read_signer
from fedrec.audit.log.checkpoint import RUN_ID, Checkpoint
from fedrec.durable import replace, sync
from fedrec.errors import InputError, VerificationError
from fedrec.secagg import Refused, Roster

MOST_RUNS = 10_000
SECRET = 0o600


@dataclass(frozen=True)
class KnownRun:
    """A run that the helper has taken up."""

    card: RunCard
    roster: Roster


class HelperRuns:
    """The runs in `folder`, made on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, run: str) -> KnownRun | None:
        """Return a run; None for one that was not taken up. Raises: VerificationError for a damaged file."""
        place = self._place(run, "json")
        try:
            values = json.loads(place.read_text(encoding="utf-8"))
            card = fields.text(values, "card", 1 << 20)
            keys = bytes.fromhex(fields.text(values, "roster", 1 << 24))
            roster = Roster(tuple(keys[at : at + 32] for at in range(0, len(keys), 32)))
            return KnownRun(open_card(card, read_signer(card)), roster)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError, InputError, VerificationError):
            raise VerificationError(f"{place}: was damaged; this helper cannot go through with the run") from None

    def keep(self, text: str, run: KnownRun) -> None:
        """Keep a run, on disk. text: its card with the proof. Raises: Refused where there are too many."""
        place = self._place(run.card.run, "json")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if len(list(self._folder.glob("*.json"))) >= MOST_RUNS:
            raise Refused(f"this helper has {MOST_RUNS} runs already; its operator moves the folder of older ones away")
        values = {"card": text, "roster": b"".join(run.roster.keys).hex()}
        replace(place, json.dumps(values).encode(), SECRET)
        sync(self._folder)

    def contradiction(self, run: str, older: Checkpoint, newer: Checkpoint) -> None:
        """Keep the first two signed checkpoints of a ledger that cannot both be its past, on disk."""
        place = self._place(run, "forks")
        if not place.exists():
            replace(place, (json.dumps({"older": older.note, "newer": newer.note}) + "\n").encode(), SECRET)
            sync(self._folder)

    def _place(self, run: str, kind: str) -> Path:
        if not RUN_ID.fullmatch(run):
            raise Refused("not the id of a run")
        return self._folder / f"{run}.{kind}"
