"""Accounts: what each user spent, by run and in the sliding period, rebuilt from the entries of a device ledger."""

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from fedrec_client.consent.entries import Accepted, Charge, Gap, unpacked
from fedrec_client.consent.policy import Policy
from fedrec_client.consent.spending import Cost, Totals
from fedrec_client.consent.terms import Stream

DAY = 86400.0


@dataclass(frozen=True)
class Dated:
    """A charge that leaves its totals again, with who paid as the ledger has it, which is a bit a user."""

    when: int
    cost: Cost
    paid: str
    rows: int

    def take_back(self, totals: Totals) -> None:
        """Take the charge out of the totals."""
        totals.add(self.cost, padded(unpacked(self.paid, self.rows), len(totals.gaussian)), -1)


@dataclass
class RunAccount:
    """One run.

    Attributes:
        accepted: its terms.
        since: when it was accepted, Unix seconds.
        totals: what each user spent in it.
        rounds: (rows,) int64: rounds that each user paid for.
        gave: (rows,) int64: the last round to which each user's data were given; -1 for none.
        last: the last question that was charged.
        times: round -> how often it was charged.
        closed: whether it counts as spent in full.
        recent: charges that can be dropped again, see `drop_before`.
    """

    accepted: Accepted
    since: int
    totals: Totals = field(default_factory=Totals)
    rounds: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    gave: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    last: Charge | None = None
    times: Counter[int] = field(default_factory=Counter)
    closed: bool = False
    recent: "deque[Dated]" = field(default_factory=deque)

    def drop_before(self, when: float) -> None:
        """Forget charges of before `when`: a run without a card is known by its description alone, which recurs."""
        while self.recent and self.recent[0].when < when:
            self.recent.popleft().take_back(self.totals)


class Accounts:
    """The spending of all users of a ledger. limits: the policy's periods."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.rows = 0
        self.runs: dict[str, RunAccount] = {}
        self.period = Totals()
        self.last_charge: int | None = None
        """Unix seconds of the last charge; None for none."""
        self.blocked_until = 0.0
        """Unix seconds before which the period counts as spent in full."""
        self._recent: deque[Dated] = deque()
        self._costs: dict[Cost, Cost] = {}

    def widen(self, rows: int) -> None:
        """Make room for more users."""
        self.rows = rows
        self.period.widen(rows)

    def accept(self, entry: Accepted, when: int) -> None:
        """Take note of a run; the first time counts."""
        self.runs.setdefault(entry.run, RunAccount(entry, when))

    def charge(self, entry: Charge, when: int) -> None:
        """Count a charge."""
        account, cost = self.runs[entry.run], self._costs.setdefault(entry.cost, entry.cost)
        who = padded(unpacked(entry.paid, entry.rows), self.rows)
        self.last_charge = when
        account.totals.widen(self.rows)
        account.rounds = padded(account.rounds, self.rows)
        account.rounds[who] += 1
        account.gave = padded(account.gave, self.rows, -1)
        given = padded(unpacked(entry.gave, entry.rows), self.rows)
        account.gave[given] = np.maximum(account.gave[given], entry.round)
        account.times[entry.round] += 1
        account.last = entry
        if cost != Cost() and who.any():
            dated = Dated(when, cost, entry.paid, entry.rows)
            account.totals.add(cost, who)
            self.period.add(cost, who)
            self._recent.append(dated)
            if not account.accepted.carded:
                account.recent.append(dated)

    def gap(self, entry: Gap) -> None:
        """Count the period, and every run so far, as spent in full."""
        self.blocked_until = max(self.blocked_until, entry.until + self.policy.period.days * DAY)
        for account in self.runs.values():
            account.closed = True

    def advance(self, now: float) -> None:
        """Leave the charges behind that are older than the period."""
        oldest = now - self.policy.period.days * DAY
        while self._recent and self._recent[0].when < oldest:
            self._recent.popleft().take_back(self.period)

    def too_early(self, run: str, round_index: int, stream: Stream | None) -> np.ndarray:
        """Return (rows,) bool: who took part too few rounds ago in a stream of correlated noise.

        The same round may be asked again: its noise then begins anew, and so does what it is charged.
        """
        gave = padded(self.runs[run].gave, self.rows, -1)
        if stream is None:
            return np.zeros(self.rows, dtype=bool)
        before = gave >= stream.first
        return before & (gave != round_index) & (gave + stream.separation > round_index)

    def covered(self, run: str, cost: Cost, now: float) -> np.ndarray:
        """Return (rows,) bool: whose limits cover one more release of the run."""
        account = self.runs[run]
        account.totals.widen(self.rows)
        self.advance(now)
        account.drop_before(now - self.policy.run.days * DAY)
        if account.closed or now < self.blocked_until:
            return np.zeros(self.rows, dtype=bool)
        return self.policy.run_limit.allows(account.totals, cost) & self.policy.period_limit.allows(self.period, cost)


def padded(array: np.ndarray, rows: int, value: int = 0) -> np.ndarray:
    """Return the array with `value` (0: False) for later rows."""
    return np.pad(array, (0, rows - len(array)), constant_values=value) if len(array) < rows else array
