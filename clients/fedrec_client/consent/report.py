"""What a device ledger shows its owner: spending by run and period, what is left, and whether the file is whole."""

import math
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedrec.errors import VerificationError
from fedrec.plain_text import plain
from fedrec_client.consent.answering import WithoutEvents
from fedrec_client.consent.device_ledger import FILE, DeviceLedger, counter_of
from fedrec_client.consent.policy import Policy, load


@dataclass(frozen=True)
class Answered:
    """Answers of one kind.

    Attributes:
        outcome: `released`, `empty` (that of a person without events), `zero` or `void`.
        why: cause of `empty` or `zero`; "" where none is known.
        number: how many.
    """

    outcome: str
    why: str
    number: int

    def __str__(self) -> str:
        what = {"empty": "without events", "zero": "zero"}.get(self.outcome, plain(self.outcome))
        return f"{self.number} {what} ({plain(self.why)})" if self.why else f"{self.number} {what}"


@dataclass(frozen=True)
class RunSpending:
    """One run.

    Attributes:
        run: its id.
        algorithm: its name.
        trust: its trust model.
        since: when it was accepted, Unix seconds.
        rounds: the most rounds that one user paid for.
        epsilon: of the user who spent most; None for public data.
        used: part of the run's limit that this user has used, 0 to 1.
        exhausted: users for whom the limit is reached by the least further release.
        answers: what the answers were, by kind and cause.
    """

    run: str
    algorithm: str
    trust: str
    since: int
    rounds: int
    epsilon: float | None
    used: float
    exhausted: int
    answers: tuple[Answered, ...]


@dataclass(frozen=True)
class Spending:
    """All of a ledger.

    Attributes:
        users: that ever took part.
        epsilon: of the user who spent most in the present period.
        used: part of the period's limit that this user has used, 0 to 1.
        limit: epsilon of the period.
        delta: of all epsilons here.
        days: length of the period.
        blocked_until: Unix seconds until which the period counts as spent in full, after lines were missing; else 0.
        runs: newest first.
        without_events: the trust period in which answers are those of a person without events, as the newest answer
            shows it; None for none. `EdgeClient.budget` looks into the store, too, so it shows one before any answer.
    """

    users: int
    epsilon: float
    used: float
    limit: float
    run_limit: float
    delta: float
    days: float
    blocked_until: float
    runs: tuple[RunSpending, ...]
    without_events: WithoutEvents | None = None

    def json(self) -> dict[str, Any]:
        """Return it as one JSON-able object."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the summary, a sentence a line."""
        found = [
            f"Period of {self.days:g} days: epsilon {self.epsilon:.4f} of {self.limit:g} at delta {self.delta:g}; "
            f"{_left(self.used)} of the limit is left. Users: {self.users}."
        ]
        if self.blocked_until:
            found.append(f"Lines are missing: only zeros are contributed until {_time(self.blocked_until)}.")
        period = self.without_events
        if period is not None and period.since is not None and period.until is not None:
            found.append(
                f"Answers are those of a person without events until {_time(period.until)} "
                f"(since {_time(period.since)}: {plain(period.why)})."
            )
        return [*found, f"A run may cost {self.run_limit:g}:" if self.runs else "No run so far."]

    def table(self) -> list[str]:
        """Return the runs as lines of aligned columns, under a line with the names of the columns."""
        rows = [["run", "algorithm", "trust", "since", "rounds", "epsilon", "left", "answers"]]
        for run in self.runs:
            spent = "public data" if run.epsilon is None else f"{run.epsilon:.4f}"
            left = "" if run.epsilon is None else _left(run.used)
            names = [plain(each) for each in (run.run[:12], run.algorithm, run.trust)]
            rows.append([*names, _time(run.since), str(run.rounds), spent, left, ", ".join(map(str, run.answers))])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def spending(path: Path, policy: Path | None = None) -> Spending:
    """Read what a ledger's users spent.

    Args:
        path: the ledger. A node's folder without ledger and counter has spent nothing.
        policy: the policy's file, for the limits; the defaults if left out.
    Raises: InputError, VerificationError.
    """
    rules = Policy() if policy is None else load(policy)
    empty = DeviceLedger(path, rules)
    unused = path.name == FILE and path.parent.is_dir() and not (path.exists() or counter_of(path).exists())
    with nullcontext(empty) if unused else empty.reading() as ledger:
        accounts, delta = ledger.accounts, rules.run.delta
        runs = []
        for name, account in accounts.runs.items():
            totals = account.totals
            public = account.accepted.public
            shares = rules.run_limit.share(totals)
            runs.append(
                RunSpending(
                    run=name,
                    algorithm=account.accepted.algorithm,
                    trust=account.accepted.trust,
                    since=account.since,
                    rounds=int(account.rounds.max(initial=0)),
                    epsilon=None if public else _up(totals.epsilons(delta).max(initial=0.0)),
                    used=1.0 if account.closed else float(shares.max(initial=0.0)),
                    exhausted=int((shares >= 1).sum()),
                    answers=_answered(ledger.answers.get(name, Counter())),
                )
            )
        blocked = ledger.blocked_until or 0.0
        return Spending(
            users=accounts.rows,
            epsilon=_up(accounts.period.epsilons(delta).max(initial=0.0)),
            used=1.0 if blocked else float(rules.period_limit.share(accounts.period).max(initial=0.0)),
            limit=rules.period.epsilon,
            run_limit=rules.run.epsilon,
            delta=delta,
            days=rules.period.days,
            blocked_until=blocked,
            runs=tuple(reversed(runs)),
            without_events=_period(ledger),
        )


def verified(path: Path, policy: Path | None = None) -> list[str]:
    """Check a ledger's chain and counter.

    Returns: what was found, a sentence each.
    Raises: VerificationError where lines were changed, or are missing and no `gap` line says so; InputError.
    """
    with DeviceLedger(path, Policy() if policy is None else load(policy)).reading() as ledger:
        if (fault := ledger.missing()) is not None:
            raise VerificationError(f"{path}: {fault}; the next start notes a gap, and only zeros are contributed")
        counted = ", ".join(f"{number} {kind}" for kind, number in sorted(ledger.kinds.items()))
        found = [
            f"{path}: {ledger.kinds.total()} lines ({counted}), each with the hash of the one before.",
            "The counter fits.",
        ]
        if ledger.answers:
            answers = _answered(sum(ledger.answers.values(), Counter()))
            found.append(f"Answers: {', '.join(map(str, answers))}.")
        for number, gap in ledger.gaps:
            found.append(f"Line {number}: a gap ({plain(gap.why)}), known until {_time(gap.until)}.")
        return found


def _answered(counted: Counter[tuple[str, str]]) -> tuple[Answered, ...]:
    return tuple(Answered(outcome, why, number) for (outcome, why), number in counted.items())


def _period(ledger: DeviceLedger) -> WithoutEvents | None:
    latest = ledger.latest
    if latest is None or latest.until is None or latest.until <= ledger.now():
        return None
    return WithoutEvents(latest.why, latest.since, latest.until)


def _up(value: float) -> float:
    return math.ceil(value * 1e6) / 1e6


def _left(used: float) -> str:
    return f"{max(0.0, 1 - used):.0%}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
