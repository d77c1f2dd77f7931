"""What the lines of a device ledger record, as typed entries; docs/device-ledger.md shows each.

| kind | records |
|---|---|
| `begin` | the ledger's random name |
| `users` | users whose spending has rows from here on, by keyed hashes of their ids |
| `accepted` | a run and its public terms |
| `charge` | a question that was paid for, by whom, and whose data enter the answer; written BEFORE the answer leaves |
| `outcome` | `released`, `empty`, `zero` or `void`: what became of a charge; it changes no spending |
| `refused` | a run's terms, or a question, that were refused, and why |
| `gap` | lines are missing: the period is spent in full, and so is every run accepted before |
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from fedrec.errors import VerificationError
from fedrec_client.consent.chain import Line
from fedrec_client.consent.spending import ORDERS, Cost
from fedrec_client.consent.terms import RunTerms


@dataclass(frozen=True)
class Begin:
    """The first line."""

    kind: ClassVar[str] = "begin"
    ledger: str
    version: int = 1


@dataclass(frozen=True)
class Users:
    """Users who get the next rows. Attributes: keys: base64 of int64, little endian."""

    kind: ClassVar[str] = "users"
    keys: str


@dataclass(frozen=True)
class Accepted:
    """A run's public terms, in short; `card` is the digest of all of them where there is a card."""

    kind: ClassVar[str] = "accepted"
    run: str
    carded: bool
    algorithm: str
    fingerprint: str
    rounds: int
    sampling: float
    trust: str
    minimum_cohort: float
    epsilon: float | None
    delta: float
    users: int
    expires: float | None
    ledger_key: str
    ledger_head: str
    ledger_size: int
    dataset: str
    public: bool

    @classmethod
    def of(cls, terms: RunTerms, public: bool) -> "Accepted":
        """Return the entry of a run. public: whether the users' data are a public dataset."""
        given = {each.name: getattr(terms, each.name) for each in fields(cls) if each.name not in ("rounds", "public")}
        given["epsilon"] = terms.epsilon if terms.epsilon < float("inf") else None
        return cls(**given, rounds=len(terms.rounds), public=public)


@dataclass(frozen=True)
class Charge:
    """A question that was paid for.

    Attributes:
        round: index from 0.
        question: digest of what was asked, hex.
        gaussian: squared signal-to-noise that each paid, in 1e-12.
        renyi: Renyi DP at each of `spending.ORDERS` besides, in 1e-12; empty where there is none.
        paid: who paid: "all" rows, "none", or base64 of one bit a row.
        gave: whose data enter the answer, the same way. Who paid and did not give contributed zero.
        rows: number of rows then.
        epsilon: of the run so far, of the user who spent most of those who paid; None for public data.
    """

    kind: ClassVar[str] = "charge"
    run: str
    round: int
    question: str
    gaussian: int
    renyi: tuple[int, ...]
    paid: str
    gave: str
    rows: int
    epsilon: float | None

    def __post_init__(self) -> None:
        if self.rows < 0 or self.gaussian < 0 or len(self.renyi) not in (0, len(ORDERS)):
            raise ValueError("no charge")

    @property
    def cost(self) -> Cost:
        """What each paid."""
        return Cost(self.gaussian, tuple(self.renyi))


@dataclass(frozen=True)
class Outcome:
    """What became of a charge.

    Attributes:
        run: its id.
        round: index from 0.
        question: that of the charge.
        outcome: `released`: data are in the answer; `empty`: it is that of a person without events; `zero`: a zero;
            `void`: none left.
        why: cause of `empty` or `zero`; "" for none, and in lines of versions that kept none.
        since: of `empty` in a trust period, Unix seconds of its begin; None otherwise.
        until: likewise, of its end by the policy of then.

    A line leaves out what is "" or None, so that a line without a cause is that of earlier versions.
    """

    kind: ClassVar[str] = "outcome"
    run: str
    round: int
    question: str
    outcome: str
    why: str = ""
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True)
class Refused:
    """Terms or a question that were refused."""

    kind: ClassVar[str] = "refused"
    run: str
    why: str


@dataclass(frozen=True)
class Gap:
    """Lines are missing. Attributes: until: Unix seconds of the last one that can be missing; why: how it was seen."""

    kind: ClassVar[str] = "gap"
    until: int
    why: str


Entry = Begin | Users | Accepted | Charge | Outcome | Refused | Gap
_KINDS: Mapping[str, type[Any]] = {kind.kind: kind for kind in (Begin, Users, Accepted, Charge, Outcome, Refused, Gap)}


def written(entry: Entry) -> dict[str, Any]:
    """Return the line's own fields."""
    own = asdict(entry)
    if isinstance(entry, Outcome):
        own = {name: value for name, value in own.items() if value not in ("", None)}
    return {"kind": entry.kind, **own}


def entry_of(line: Line) -> Entry:
    """Return the entry of a line. Raises: VerificationError for one that is none."""
    given = dict(line.fields)
    try:
        kind = _KINDS[given.pop("kind")]
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        found: Entry = kind(**values)
        return found
    except (KeyError, TypeError, ValueError, AttributeError):
        raise VerificationError(f"device ledger, line {line.n}: no entry that this version knows") from None


def packed(who: np.ndarray) -> str:
    """Write (rows,) bool as `Charge.paid`."""
    if who.all():
        return "all"
    return base64.b64encode(np.packbits(who, bitorder="little").tobytes()).decode() if who.any() else "none"


def unpacked(text: str, rows: int) -> np.ndarray:
    """Read (rows,) bool from `Charge.paid`. Raises: VerificationError."""
    if text in ("all", "none"):
        return np.full(rows, text == "all")
    try:
        bits = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except ValueError:
        raise VerificationError("device ledger: a charge whose users cannot be read") from None
    if len(bits) != -(-rows // 8):
        raise VerificationError("device ledger: a charge of another number of users")
    return np.unpackbits(bits, count=rows, bitorder="little").astype(bool)


def keys_text(keys: np.ndarray) -> str:
    """Write (users,) int64 as `Users.keys`."""
    return base64.b64encode(keys.astype("<i8").tobytes()).decode()


def keys_of(text: str) -> np.ndarray:
    """Read (users,) int64 from `Users.keys`. Raises: VerificationError."""
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<i8")
    except ValueError:
        raise VerificationError("device ledger: users that cannot be read") from None
