"""DeviceLedger: what this device was asked, what it paid and gave; one filter over all runs, charged before a release.

A charge is on disk, and counted outside the file, before `charge` returns. Nothing may leave the device for a question
that has no charge. A hub pays for all its users by one line. Spending outlives the data: `forget` never touches it.
Source of the design: one filter a device over all runs (Big Bird, arXiv 2506.05290), with a limit for each run.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fedrec.errors import PrivacyError, VerificationError
from fedrec_client.consent.accounts import Accounts, padded
from fedrec_client.consent.answering import RULES, Answer, Asked, Reason, Verdict, WithoutEvents
from fedrec_client.consent.chain import Chain, Fields
from fedrec_client.consent.entries import (
    Accepted,
    Begin,
    Charge,
    Entry,
    Gap,
    Outcome,
    Refused,
    Users,
    entry_of,
    keys_of,
    keys_text,
    packed,
    unpacked,
    written,
)
from fedrec_client.consent.policy import Policy
from fedrec_client.consent.spending import Cost, epsilon
from fedrec_client.consent.terms import RunTerms

FILE = "device-ledger.jsonl"
OUTCOMES = ("released", "empty", "zero", "void")
MOST_REFUSALS = 1000
"""Refusals that are written down by one process, so that a server cannot fill the disk."""


def counter_of(path: Path) -> Path:
    """Return where the counter of a ledger is by default: next to its folder, not in it."""
    return path.absolute().parent.parent / f"{path.absolute().parent.name}.counter"


class DeviceLedger:
    """The ledger at `path`.

    Args:
        path: of the file.
        policy: limits.
        counter: the counter's file; `counter_of(path)` if left out.
    """

    def __init__(self, path: Path, policy: Policy, counter: Path | None = None) -> None:
        self.path, self.policy = path, policy
        self._chain = Chain(path, counter_of(path) if counter is None else counter)
        self._start()
        self._refusals: set[tuple[str, str]] = set()

    def _start(self) -> None:
        self.accounts = Accounts(self.policy)
        self.name = ""
        self.gaps: list[tuple[int, Gap]] = []
        self.answers: dict[str, Counter[tuple[str, str]]] = {}
        self.latest: Outcome | None = None
        self._rows: dict[int, int] = {}
        self.kinds: Counter[str] = Counter()
        self._restarts = self._chain.restarts
        self._cached: tuple[bytes, np.ndarray] | None = None

    def open(self) -> None:
        """Read the ledger, begin it where there is none, and note a gap where lines are missing.

        Raises: VerificationError for a damaged ledger; InputError for a file that cannot be used.
        """
        with self._open():
            pass

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._chain.locked():
            self._catch_up()
            lost, why = self._chain.lost, self.missing() or ""
            if self._chain.n < 0:
                self._append([Begin(secrets.token_hex(16))], acknowledged=lost is None)
            if lost is not None:
                self._append([Gap(self._chain.now() if lost.n < 0 else lost.time, why)])
            yield

    @contextmanager
    def reading(self) -> Iterator["DeviceLedger"]:
        """Read the ledger and write nothing. Raises: VerificationError, InputError."""
        with self._chain.locked(write=False):
            self._catch_up()
            self.accounts.advance(self._chain.now())
            yield self

    def now(self) -> int:
        """Return Unix seconds as the ledger counts them, never falling."""
        return self._chain.now()

    @property
    def blocked_until(self) -> float | None:
        """Unix seconds before which only zeros are contributed, since lines are missing; None where none are."""
        until = self.accounts.blocked_until
        return until if until > self.now() else None

    def missing(self) -> str | None:
        """Return how it shows that lines are missing; None for a ledger that fits its counter."""
        if self._chain.lost is None:
            return None
        return "the counter is missing" if self._chain.lost.n < 0 else "the ledger does not fit its counter"

    def charge(self, terms: RunTerms, asked: Asked) -> Verdict:
        """Pay for a question, or say why not. When this returns, the charge is on disk.

        Args:
            terms: of the run; `objections` has let it in.
            asked: the question. For public data the charge is written down, and no limit holds.
        """
        with self._open():
            if refusal := self._refusal(terms, asked):
                return self._refuse(terms.run, *refusal, len(asked.cohort))
            new = [] if terms.run in self.accounts.runs else [Accepted.of(terms, asked.public)]
            all_rows, users = self._rows_of(asked.identities)
            self._append([*users, *new], acknowledged=False)
            rows = all_rows[asked.cohort]
            if repeated := self._repeated(terms, asked):
                return Verdict(Answer.REPEAT, padded(unpacked(*repeated), self.accounts.rows)[rows], {})
            there = np.zeros(self.accounts.rows, dtype=bool)
            there[rows] = True
            cost = Cost() if asked.public else terms.cost(asked.round_index)
            covered = there if asked.public else there & self.accounts.covered(terms.run, cost, self.now())
            withheld = None if asked.public else self._withheld(terms, asked)
            early = covered & self.accounts.too_early(terms.run, asked.round_index, terms.stream(asked.round_index))
            gave = covered & ~early if withheld is None else np.zeros_like(covered)
            self._append([self._entry(terms.run, asked, cost, covered, gave)])
            return Verdict(Answer.GIVE, gave[rows], self._reasons(there, covered, withheld, early))

    def outcome(
        self, run: str, round_index: int, question: str, what: str, because: WithoutEvents | None = None
    ) -> None:
        """Write down what became of a charge. It gives nothing back.

        Args:
            run: its id.
            round_index: from 0.
            question: that of the charge.
            what: released, empty, zero or void (`entries.Outcome`).
            because: why it is `empty` or `zero`.
        """
        if what not in OUTCOMES:
            raise ValueError(f"outcome {what!r}: {', '.join(OUTCOMES[:-1])} or {OUTCOMES[-1]}")
        why = WithoutEvents("") if because is None else because
        with self._open():
            made = Outcome(run, round_index, question, what, why.why, why.since, why.until)
            self._append([made], acknowledged=False)

    def refused(self, run: str, why: str) -> None:
        """Write down that a run's terms, or a question, were refused; the same refusal once."""
        with self._open():
            self._note(run, why)

    def _refusal(self, terms: RunTerms, asked: Asked) -> tuple[Reason, str] | None:
        number = asked.round_index
        if not 0 <= number < len(terms.rounds):
            return Reason.TERMS, f"round {number} of a run of {len(terms.rounds)} rounds"
        if terms.expires is not None and self.now() >= terms.expires:
            return Reason.EXPIRED, "the run has expired"
        if asked.public:
            return None
        account = self.accounts.runs.get(terms.run)
        times = 0 if account is None else account.times.get(number, 0)
        if terms.carded and times > self.policy.run.repeats and not self._repeated(terms, asked):
            return Reason.ASKED_TOO_OFTEN, f"round {number}: asked {times} times; run.repeats allows no more"
        try:
            terms.cost(number)
        except PrivacyError as error:
            return Reason.TERMS, str(error)
        return None

    def _refuse(self, run: str, reason: Reason, why: str, users: int) -> Verdict:
        self._note(run, why)
        return Verdict(RULES[reason].answer, np.zeros(users, dtype=bool), {reason: users}, why)

    def _note(self, run: str, why: str) -> None:
        if (run, why) not in self._refusals and len(self._refusals) < MOST_REFUSALS:
            self._refusals.add((run, why))
            self._append([Refused(run[:128], why[:512])], acknowledged=False)

    def _repeated(self, terms: RunTerms, asked: Asked) -> tuple[str, int] | None:
        """Return who gave when the same question was answered, if that answer is still held.

        A run without a card has no identity but its description, which recurs: nothing shows that it releases once.
        """
        account = self.accounts.runs.get(terms.run)
        last = None if account is None else account.last
        if last is None or not (terms.carded and asked.held):
            return None
        same = (last.round, last.question) == (asked.round_index, asked.question)
        return (last.gave, last.rows) if same else None

    def _withheld(self, terms: RunTerms, asked: Asked) -> Reason | None:
        """Return why all contribute zero, whether they pay or not."""
        if self.policy.data.opted_out:
            return Reason.OPTED_OUT
        together = len(asked.cohort) if asked.summed is None else asked.summed
        return Reason.SMALL_SUM if terms.trust == "central" and together < self.policy.run.smallest_sum else None

    def _reasons(
        self, asked: np.ndarray, covered: np.ndarray, withheld: Reason | None, early: np.ndarray
    ) -> dict[Reason, int]:
        blocked = self._chain.now() < self.accounts.blocked_until
        uncovered = Reason.RESTORED if blocked else Reason.EXHAUSTED
        found = {uncovered: int((asked & ~covered).sum()), Reason.TOO_EARLY: int(early.sum())}
        if withheld is not None:
            found[withheld] = int(covered.sum())
        return {reason: users for reason, users in found.items() if users}

    def _entry(self, run: str, asked: Asked, cost: Cost, paid: np.ndarray, gave: np.ndarray) -> Charge:
        spent = None
        if not asked.public and paid.any():
            totals = self.accounts.runs[run].totals
            place = int(np.argmax(np.where(paid, self.policy.run_limit.share(totals), -1.0)))
            before = () if totals.renyi is None else tuple(map(int, totals.renyi[:, place]))
            whole = Cost(int(totals.gaussian[place]), before) + cost
            spent = round(epsilon(whole, self.policy.run.delta) + 5e-7, 6)
        return Charge(
            run=run,
            round=asked.round_index,
            question=asked.question,
            gaussian=cost.gaussian,
            renyi=cost.renyi,
            paid=packed(paid),
            gave=packed(gave),
            rows=len(paid),
            epsilon=spent,
        )

    def _rows_of(self, identities: np.ndarray) -> tuple[np.ndarray, list[Users]]:
        """Return (users,) rows of the hosted users, and the entry of those who have none yet."""
        content = np.ascontiguousarray(identities, dtype="<i8").tobytes()
        if self._cached is not None and self._cached[0] == content:
            return self._cached[1], []
        keys = [self._key(content[at : at + 8]) for at in range(0, len(content), 8)]
        new = [key for key in dict.fromkeys(keys) if key not in self._rows]
        rows = {**self._rows, **{key: self.accounts.rows + n for n, key in enumerate(new)}}
        found = np.array([rows[key] for key in keys], dtype=np.int64)
        self._cached = content, found
        return found, [Users(keys_text(np.array(new, dtype=np.int64)))] if new else []

    def _key(self, identity: bytes) -> int:
        """A user's number in this ledger, which no other ledger has."""
        return (
            int.from_bytes(hashlib.blake2b(identity, digest_size=8, key=self.name.encode()).digest(), "little") - 2**63
        )

    def _append(self, entries: list[Entry], *, acknowledged: bool = True) -> None:
        if entries:
            fields: list[Fields] = [written(entry) for entry in entries]
            self._chain.append(fields, acknowledged=acknowledged)
            self._catch_up()

    def _catch_up(self) -> None:
        """Count the lines that are new to the accounts."""
        if self._restarts != self._chain.restarts:
            self._start()
        for line in self._chain.taken():
            self._count(entry_of(line), line.n, line.time)
            self.kinds[line.kind] += 1

    def _count(self, entry: Entry, n: int, when: int) -> None:
        if isinstance(entry, Begin):
            self.name = self.name or entry.ledger
        elif isinstance(entry, Users):
            for key in map(int, keys_of(entry.keys)):
                self._rows.setdefault(key, len(self._rows))
            self.accounts.widen(len(self._rows))
        elif isinstance(entry, Accepted):
            self.accounts.accept(entry, when)
        elif isinstance(entry, Charge):
            if entry.run not in self.accounts.runs or entry.rows > self.accounts.rows:
                raise VerificationError(f"{self.path}: line {n}: a charge for an unknown run or unknown users")
            self.accounts.charge(entry, when)
        elif isinstance(entry, Gap):
            self.accounts.gap(entry)
            self.gaps.append((n, entry))
        elif isinstance(entry, Outcome):
            self.answers.setdefault(entry.run, Counter())[entry.outcome, entry.why] += 1
            self.latest = entry
