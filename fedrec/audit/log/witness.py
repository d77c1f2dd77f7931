"""A witness: it reads a ledger from time to time, and cosigns only states that extend the earlier ones.

Source: C2SP tlog-witness, without its network. The witness stores the last cosigned checkpoint of each run on disk
before it returns the cosignature. So even a witness that is killed never signs two histories.
"""

import os
from pathlib import Path

from fedrec.audit.log import checkpoint
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.merkle import EMPTY
from fedrec.durable import replace, sync
from fedrec.errors import InputError, VerificationError


def default_memory() -> Path:
    """Return the folder in which a witness of this user keeps the checkpoints that it saw."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "fedrec" / "witness"


class Witness:
    """One witness.

    Args:
        key: signs.
        name: name in its cosignatures, without a space or plus.
        memory: folder of the last cosigned checkpoint of each run.
    """

    def __init__(self, key: SigningKey, name: str, memory: Path) -> None:
        if not name or set(name) & set(" +\n\t\r\u2014"):
            raise InputError(f"--name '{name}': must be one word without a plus, e.g. witness.example.org/1")
        self.key, self.name, self.memory = key, name, memory

    def seen(self, run: str) -> tuple[int, bytes]:
        """Return size and root of the last cosigned checkpoint of a run; no records for a new run.

        Raises:
            VerificationError: when the memory was damaged.
        """
        place = self._place(run)
        try:
            note = checkpoint.parsed(place.read_bytes().decode())
        except FileNotFoundError:
            return 0, EMPTY
        except ValueError:
            raise VerificationError(f"{place}: was damaged; this witness cannot vouch for the run any more") from None
        if note.run != run or note.cosigned_at(self.key.public) is None:
            raise VerificationError(f"{place}: is no checkpoint that this witness cosigned")
        return note.size, note.root

    def cosign(self, sealed: Checkpoint, before: tuple[int, bytes], time: int) -> Checkpoint:
        """Cosign a checkpoint, after it is stored.

        Args:
            sealed: a checkpoint with a checked signature of the ledger.
            before: size and root of a state that it provably extends, which must be the last cosigned ones.
            time: seconds since 1970.

        Raises:
            VerificationError: when `before` is not the last cosigned state, or is longer.
        """
        size, root = self.seen(sealed.run)
        if sealed.size < size:
            raise VerificationError(
                f"run {sealed.run}: {size} records were cosigned before and {sealed.size} are here: rolled back"
            )
        if before != (size, root):
            raise VerificationError(
                f"run {sealed.run}: not shown to extend the {size} records that were cosigned before"
            )
        cosigned = sealed.cosigned(self.name, self.key, time)
        self.memory.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace(self._place(sealed.run), cosigned.note.encode())
        sync(self.memory)
        return cosigned

    def _place(self, run: str) -> Path:
        if not checkpoint.RUN_ID.fullmatch(run):
            raise VerificationError(f"run '{run}': not the id of a run")
        return self.memory / f"{run}.note"
