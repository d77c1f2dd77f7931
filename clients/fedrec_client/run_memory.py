"""What a node remembers of the runs that asked it, in its own folder: cards, ledger heads, receipts, contradictions.

    RUNS/lock               one process at a time
    RUNS/keys.json          each ledger key that showed a card: its largest serial
    RUNS/ID.card            the run card, with its proof
    RUNS/ID.json            the last checkpoint, and the last question that a charge paid for
    RUNS/ID.receipts        what the node signed, one JSON object a line; `fedrec audit verify RUN --receipts` reads it
    RUNS/ID.forks           two checkpoints for each contradiction of the server

Everything is on disk before the answer leaves, so a server that cuts its ledger back meets a node that knows more.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fedrec.audit.log import checkpoint
from fedrec.audit.log.checkpoint import RUN_ID, Checkpoint
from fedrec.durable import replace, sync
from fedrec.errors import InputError, VerificationError

SECRET = 0o600
MOST_FORKS = 1 << 16
"""Bytes of contradictions that are kept for a run."""


@dataclass(frozen=True)
class LastQuestion:
    """The last question of a run that was accepted.

    Attributes:
        head: signed note of the checkpoint that it showed.
        charge: number of the record that paid for it; -1 for none.
        question: digest of all that decides its answer; "" for none.
    """

    head: str
    charge: int = -1
    question: str = ""

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of `head`."""
        return checkpoint.parsed(self.head)


class RunMemory:
    """The folder `path`, made on first use. Use it inside `held`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes of the node out. Raises: InputError when the folder cannot be used."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, SECRET)
        except OSError as error:
            raise InputError(f"{self.path}: the node's folder cannot be used ({error.strerror})") from None
        with os.fdopen(handle) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def card(self, run: str) -> str | None:
        """Return the text of a run's card; None for a new run."""
        return self._read(run, "card")

    def last(self, run: str) -> LastQuestion | None:
        """Return the last question of a run; None for a new run. Raises: VerificationError for a damaged file."""
        text = self._read(run, "json")
        if text is None:
            return None
        try:
            found = LastQuestion(**json.loads(text))
            _ = found.checkpoint
        except (ValueError, TypeError):
            raise VerificationError(f"{self._place(run, 'json')}: was damaged; restore it, or refuse the run") from None
        return found

    def serial(self, key: str) -> int:
        """Return the largest serial of a card of this ledger key; -1 for a new key."""
        return self._serials().get(key, -1)

    @property
    def keys(self) -> tuple[str, ...]:
        """The ledger keys that ever showed an accepted card, the first one first."""
        return tuple(self._serials())

    def new(self, run: str, key: str, serial: int) -> bool:
        """Return whether a card that is not kept may be a new run's: no card of this key has a larger serial.

        One of the same serial may be this card: its serial was written, and then the node was killed. It is that one
        where nothing of its run was answered.
        """
        known = self.serial(key)
        started = any(self._place(run, kind).exists() for kind in ("json", "receipts"))
        return serial > known or (serial == known and not started)

    def accept(self, run: str, card: str, key: str, serial: int) -> None:
        """Keep a new run's card, and its serial, on disk."""
        self._write("keys.json", json.dumps(self._serials() | {key: serial}))
        self._write(self._place(run, "card").name, card)

    def asked(self, run: str, last: LastQuestion) -> None:
        """Keep the last question of a run, on disk."""
        self._write(self._place(run, "json").name, json.dumps(asdict(last)))

    def signed(self, run: str, receipt: str, nonce: str) -> None:
        """Append a receipt and the nonce that opens its commitment, on disk."""
        self._append(run, "receipts", json.dumps({"receipt": receipt, "nonce": nonce}) + "\n")

    def contradiction(self, run: str, older: Checkpoint, newer: Checkpoint) -> None:
        """Append two signed checkpoints of one ledger that cannot both be its past, on disk."""
        place = self._place(run, "forks")
        if not place.exists() or place.stat().st_size < MOST_FORKS:
            self._append(run, "forks", json.dumps({"older": older.note, "newer": newer.note}) + "\n")

    def _serials(self) -> dict[str, int]:
        try:
            found = json.loads((self.path / "keys.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or any(type(serial) is not int for serial in found.values()):
            raise VerificationError(f"{self.path / 'keys.json'}: was damaged; restore it from a copy")
        return found

    def _place(self, run: str, kind: str) -> Path:
        if not RUN_ID.fullmatch(run):
            raise VerificationError("not the id of a run")
        return self.path / f"{run}.{kind}"

    def _read(self, run: str, kind: str) -> str | None:
        try:
            return self._place(run, kind).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _write(self, name: str, text: str) -> None:
        replace(self.path / name, text.encode(), SECRET)
        sync(self.path)

    def _append(self, run: str, kind: str, line: str) -> None:
        place = self._place(run, kind)
        fresh = not place.exists()
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, SECRET)
        with os.fdopen(handle, "wb") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            sync(self.path)
