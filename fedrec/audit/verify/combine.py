"""The epsilon of several runs over the same people, after the fact: each number with its assumption.

| number | holds if |
|---|---|
| composed (PLD, RDP) | every run's parameters were fixed ahead: no release of an earlier run decided on them |
| basic: the runs' targets added | always (Rogers et al. 2016: adding is an odometer), at the sum of the deltas |
| filter: gdp, renyi | a budget with at least this cap and this filter had been fixed before the first run |
| the cap of a shared budget | always: the runs drew from it, and it admitted them |

Composing all events afterwards is no bound if earlier outputs decided on a run: see `fedrec.privacy.filters`. Within a
run the parameters are fixed at its start, so a run costs at most its own target. An early stop does not make it cheaper
here.

Ledgers are checked before they are added up: signatures, chain and checkpoint. Two ledgers of one run id are one run if
one is a beginning of the other, and the longer one counts. Otherwise they are a fork, and one of them is a lie.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedrec.audit.log import chain as chains
from fedrec.audit.verify.combined_run import Run, check_cost
from fedrec.errors import InputError, PrivacyError, VerificationError
from fedrec.privacy import accounting
from fedrec.privacy.filters import least_cap
from fedrec.rounding import rounded_up

ASSUMPTIONS = {
    "fixed_ahead": "every run's parameters were fixed ahead; none was chosen by what an earlier run released",
    "basic": "none on how parameters were chosen; delta is the sum of the runs' deltas, which must be bounded ahead",
    "filters": "a budget with at least this cap, this filter and order was fixed before the first run",
    "shared_budget": "none on how parameters were chosen: the runs drew from one budget, whose filter was fixed ahead",
    "knows_the_cohort": "as fixed_ahead, against someone who sees who takes part in which round",
}
DISJOINT = (
    "no person is in two of the populations, under whatever account; their operator must guarantee it, nothing "
    "here can check it, and who belongs where must not follow from what was released"
)


@dataclass(frozen=True)
class Rounds:
    """The rounds in which one person takes part: expected, and at most."""

    expected_rounds: float
    most_rounds: int


@dataclass(frozen=True)
class RunRow:
    """One run of a combination, for display. Numbers are text; None for no bound."""

    run: str
    population: str
    target_epsilon: str | None
    delta: str | None
    participation: Rounds
    budget: str | None
    head: str


@dataclass(frozen=True)
class Accounted:
    """An epsilon by two accountants of events that were fixed ahead."""

    pld: str | None
    rdp: str | None


@dataclass(frozen=True)
class Added:
    """The sum of the runs' targets, at the sum of their deltas."""

    epsilon: str | None
    delta: str


@dataclass(frozen=True)
class Filters:
    """The least cap of a budget that would have admitted all runs, by filter."""

    gdp: str | None
    renyi: str | None


@dataclass(frozen=True)
class SharedBudget:
    """The budget that all runs drew from."""

    name: str
    who: str
    epsilon: str
    delta: str
    theorem: str


@dataclass(frozen=True)
class Combined:
    """The cost of several runs for one person. Epsilons are text, rounded UP; None for no bound.

    Attributes:
        runs: each run once.
        older_copies: paths of ledgers that are a beginning of another one here.
        populations: names of the groups that were added up apart.
        delta: of the composed numbers.
        assumptions: by the name of a number, the assumption that it needs.
        noise_follows_from_a_seed: whether the noise of any run repeats.
    """

    runs: list[RunRow]
    older_copies: list[str]
    populations: list[str]
    delta: str
    fixed_ahead: Accounted
    basic: Added
    filters: Filters
    knows_the_cohort: str | None
    shared_budget: SharedBudget | None
    participation: Rounds
    assumptions: dict[str, str]
    noise_follows_from_a_seed: bool

    def facts(self) -> dict[str, Any]:
        """Return the JSON object of `fedrec audit combine --json`."""
        return asdict(self)


@dataclass(frozen=True)
class _Cost:
    """The cost of runs over the same people. None for no bound."""

    pld: float | None
    rdp: float | None
    basic: float | None
    gdp: float | None
    renyi: float | None
    cohort: float | None
    expected_rounds: float
    most_rounds: int
    deltas: float


def combine(
    runs: Sequence[Run], delta: float | None = None, *, disjoint: bool = False, same_people: bool = False
) -> Combined:
    """Add up what the runs cost one person.

    Args:
        runs: at least one.
        delta: of the composed numbers; None for the largest of the runs'.
        disjoint: True if runs of different populations concern different people (parallel composition).
        same_people: True if all runs count as one population.

    Raises:
        InputError: for runs that are unknown or given twice.
        PrivacyError: when nothing can be proven.
    """
    runs, older = _once(runs)
    groups = _groups(runs, disjoint, same_people)
    _check_apart(runs)
    own = [run.delta for run in runs if run.delta is not None]
    at = delta if delta is not None else max(own, default=1e-5)
    if not 0 < at < 1:
        raise InputError(f"--delta {at}: must lie between 0 and 1")
    costs = [_group(members, at) for members in groups.values()]

    def worst(bounds: Sequence[float | None]) -> str | None:
        known = [bound for bound in bounds if bound is not None]
        return rounded_up(max(known), 4) if len(known) == len(bounds) else None

    return Combined(
        runs=[_row(run) for run in runs],
        older_copies=[str(run.path) for run in older],
        populations=[name or "unnamed" for name in groups],
        delta=repr(at),
        fixed_ahead=Accounted(pld=worst([cost.pld for cost in costs]), rdp=worst([cost.rdp for cost in costs])),
        basic=Added(epsilon=worst([cost.basic for cost in costs]), delta=repr(max(cost.deltas for cost in costs))),
        filters=Filters(gdp=worst([cost.gdp for cost in costs]), renyi=worst([cost.renyi for cost in costs])),
        knows_the_cohort=worst([cost.cohort for cost in costs]),
        shared_budget=_shared(runs),
        participation=Rounds(max(cost.expected_rounds for cost in costs), max(cost.most_rounds for cost in costs)),
        assumptions=ASSUMPTIONS | ({"disjoint": DISJOINT} if len(groups) > 1 else {}),
        noise_follows_from_a_seed=any(run.seed is not None for run in runs),
    )


def _once(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Return each run once, at its longest, and the older copies. Raises: VerificationError for a fork."""
    kept: dict[str, Run] = {}
    older = []
    for run in runs:
        before = kept.setdefault(run.run, run)
        place = chains.parted(before.roots, run.roots)
        if place is not None:
            raise VerificationError(
                f"{run.path}: record {place} of run {run.run} is another one than in {before.path}: the run was forked "
                f"or rolled back, and one of the two ledgers hides what the other records"
            )
        if len(before.roots) != len(run.roots):
            kept[run.run] = max(before, run, key=lambda each: len(each.roots))
            older.append(min(before, run, key=lambda each: len(each.roots)))
        elif before is not run:
            raise InputError(f"{run.path}: holds the same ledger as {before.path}; give each run once")
    return list(kept.values()), older


def _groups(runs: Sequence[Run], disjoint: bool, same_people: bool) -> dict[str | None, list[Run]]:
    if not runs:
        raise InputError("no runs to combine; name their folders")
    if disjoint and same_people:
        raise InputError("--disjoint and --same-people exclude each other")
    if same_people:
        return {None: list(runs)}
    groups: dict[str | None, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.population, []).append(run)
    if len(groups) > 1 and not disjoint:
        raise InputError(
            f"the runs name different populations ({', '.join(sorted(map(str, groups)))}); say --same-people to add "
            f"them up, or --disjoint if nobody is in two of them"
        )
    return groups


def _check_apart(runs: Sequence[Run]) -> None:
    seeds: dict[int, Path] = {}
    for run in runs:
        if not run.events:
            continue
        if run.seed is not None and run.seed in seeds:
            raise PrivacyError(
                f"{run.path}: drew its noise from the same seed as {seeds[run.seed]}, and the same noise on two "
                f"releases can be taken off; nothing can be proven of them together"
            )
        if run.seed is not None:
            seeds[run.seed] = run.path


def _group(runs: Sequence[Run], delta: float) -> _Cost:
    """Add up the cost of runs over the same people."""
    expected = math.fsum(run.expected_rounds for run in runs)
    most = sum(run.most_rounds for run in runs)
    deltas = math.fsum(run.delta or 0.0 for run in runs)
    if any(run.target is None for run in runs):
        return _Cost(None, None, None, None, None, None, expected, most, deltas)
    events = [event for run in runs for event in run.events]
    check_cost(runs[0].path, events, delta)
    gdp = least_cap("gdp", events, delta)
    return _Cost(
        pld=accounting.epsilon_pld(events, delta),
        rdp=accounting.epsilon_rdp(events, delta),
        basic=math.fsum(run.target or 0.0 for run in runs),
        gdp=gdp,
        renyi=least_cap("renyi", events, delta),
        cohort=gdp,
        expected_rounds=expected,
        most_rounds=most,
        deltas=deltas,
    )


def _row(run: Run) -> RunRow:
    return RunRow(
        run=str(run.path),
        population=run.population,
        target_epsilon=None if run.target is None else rounded_up(run.target, 4),
        delta=None if run.delta is None else repr(run.delta),
        participation=Rounds(run.expected_rounds, run.most_rounds),
        budget=None if run.budget is None else run.budget.name,
        head=run.head,
    )


def _shared(runs: Iterable[Run]) -> SharedBudget | None:
    budgets = [run.budget for run in runs]
    first = budgets[0]
    if first is None or any(each is None or each.id != first.id for each in budgets):
        return None
    return SharedBudget(first.name, first.who, first.epsilon, first.delta, first.theorem)
