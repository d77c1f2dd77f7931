"""The epsilon of several runs over the same people, after the fact: each number with the assumption that it needs.

| number | holds when |
|---|---|
| composed (PLD, RDP) | every run's parameters were fixed ahead: none was chosen by what an earlier run released |
| basic: the runs' targets added | always (Rogers et al. 2016: adding is an odometer), at the sum of the deltas |
| filter: gdp, renyi | a budget with at least this cap and this filter had been fixed before the first run |
| the cap of a shared budget | always: the runs drew from it, and it let them pass |

Composing all events afterwards is no bound where a run was chosen by earlier outputs: see `fedrec.privacy.filters`.
Within a run the parameters are fixed at its start, so that a run as a whole is as good as its own target; that it
stopped early does not make it cheaper here.

Ledgers are checked before they are added up: signatures, chain and checkpoint. Two ledgers of one run id are one run if
one is a beginning of the other, and the longer counts; else they are a fork, and one of them is a lie.
"""

import hashlib
import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec.audit.accountant import recompute
from fedrec.audit.accountant.recompute import TooCostly
from fedrec.audit.entries.account import account
from fedrec.audit.entries.records import BeginRecord, PopulationBudget
from fedrec.audit.evidence.received_run import PUBLIC_KEY, Evidence, received
from fedrec.audit.log import chain as chains
from fedrec.audit.log.keys import PublicKey, public_key_in
from fedrec.audit.verify.verification import integrity
from fedrec.errors import InputError, PrivacyError, VerificationError
from fedrec.privacy import accounting
from fedrec.privacy.accounting import Event
from fedrec.privacy.filters import least_cap
from fedrec.rounding import rounded_up

ASSUMPTIONS = {
    "fixed_ahead": "every run's parameters were fixed ahead; none was chosen by what an earlier run released",
    "basic": "none on how parameters were chosen; delta is the sum of the runs' deltas, which must be bounded ahead",
    "filters": "a budget with at least this cap, this filter and order was fixed before the first run",
    "shared_budget": "none on how parameters were chosen: the runs drew from one budget, whose filter was fixed ahead",
    "knows_the_cohort": "as fixed_ahead, against someone who sees who takes part in which round",
}
NOTHING_ASKED = 1e-5
"""Delta of a run that promises nothing and asked nothing of users: its epsilon is 0 at any."""
DISJOINT = (
    "no person is in two of the populations, under whatever account; their operator must guarantee it, nothing "
    "here can check it, and who belongs where must not follow from what was released"
)


@dataclass(frozen=True)
class Run:
    """One run as its ledger records it. target: epsilon that it was planned for, at delta; None for no guarantee.

    population: whose data. seed: of noise that repeats, None for secret noise. expected_rounds, most_rounds: in which
    one person takes part. run: its id. roots: the root (hex) after 0, 1, ... records.
    """

    path: Path
    population: str
    events: tuple[Event, ...]
    target: float | None
    delta: float | None
    seed: int | None
    head: str
    expected_rounds: float
    most_rounds: int
    budget: PopulationBudget | None
    run: str
    roots: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, keys: Sequence[PublicKey] | None) -> "Run":
        """The run in a folder, an export, or the folder of a ledger file.

        Args:
            path: named by the user.
            keys: one of them must have begun the ledger. None: take the key beside it, which shows damage alone.

        Raises: InputError when there is none, VerificationError when its ledger does not verify.
        """
        evidence = received(path.parent if path.name == "ledger.jsonl" else path)
        chain, _, faults = integrity(evidence, _key(evidence, keys))
        if faults:
            raise VerificationError(f"{path}: not added up: {faults[0]}")
        ledger = evidence.place
        try:
            known = account([record.payload for record in chain.records])
        except VerificationError as error:
            raise VerificationError(f"{ledger}: {error}; ask for it again") from None
        begin, asked = known.begin, [charge for charge in known.charges if charge.queries]
        if any(charge.delta != begin.delta for charge in asked):
            raise VerificationError(f"{ledger}: a charge has another delta than record 0")
        events = tuple(
            Event(float(each.sampling), float(each.noise_multiplier), each.count)
            for charge in known.charges
            for each in charge.events
        )
        _check_cost(path, events, float(begin.delta or NOTHING_ASKED))
        told = begin.delta if asked else begin.delta or repr(NOTHING_ASKED)
        delta = None if told is None else float(told)
        target: float | None = None
        if delta is not None:
            target = accounting.epsilon_pld(events, delta) if events else 0.0
            if events and begin.target_epsilon is not None:
                target = max(target, float(begin.target_epsilon))
        return cls(
            path=path,
            population=begin.dataset if begin.budget is None else begin.budget.who,
            events=events,
            target=target,
            delta=delta,
            seed=_seed(evidence, begin) if begin.private and begin.seeded else None,
            head=chain.head,
            expected_rounds=math.fsum(float(charge.sampling) for charge in asked),
            most_rounds=len(asked),
            budget=begin.budget,
            run=chain.records[0].run,
            roots=tuple(root.hex() for root in chain.roots),
        )


def combine(
    runs: Sequence[Run], delta: float | None = None, *, disjoint: bool = False, same_people: bool = False
) -> dict[str, Any]:
    """What the runs cost one person together. JSON-able; epsilons are strings rounded UP, None for no bound.

    delta: of the composed numbers; the largest of the runs' where none is given. disjoint: runs of different
    populations concern different people (parallel composition). same_people: take all runs for one population.
    Raises: InputError for runs that are unknown or given twice, PrivacyError where nothing can be proven.
    """
    runs, older = _once(runs)
    groups = _groups(runs, disjoint, same_people)
    _check_apart(runs)
    own = [run.delta for run in runs if run.delta is not None]
    at = delta if delta is not None else max(own, default=1e-5)
    if not 0 < at < 1:
        raise InputError(f"--delta {at}: must lie between 0 and 1")
    costs = [_group(members, at) for members in groups.values()]
    worst = {
        key: None if any(cost[key] is None for cost in costs) else max(cost[key] for cost in costs) for key in costs[0]
    }
    return {
        "runs": [_about(run) for run in runs],
        "older_copies": [str(run.path) for run in older],
        "populations": [name or "unnamed" for name in groups],
        "delta": repr(at),
        "fixed_ahead": {"pld": up(worst["pld"]), "rdp": up(worst["rdp"])},
        "basic": {"epsilon": up(worst["basic"]), "delta": repr(worst["deltas"])},
        "filters": {"gdp": up(worst["gdp"]), "renyi": up(worst["renyi"])},
        "knows_the_cohort": up(worst["cohort"]),
        "shared_budget": _shared(runs),
        "participation": {"expected_rounds": worst["expected_rounds"], "most_rounds": worst["most_rounds"]},
        "assumptions": ASSUMPTIONS | ({"disjoint": DISJOINT} if len(groups) > 1 else {}),
        "noise_follows_from_a_seed": any(run.seed is not None for run in runs),
    }


def up(value: float | None, digits: int = 4) -> str | None:
    """Rounded up, as text; None stands for no bound."""
    return None if value is None else rounded_up(value, digits)


def _once(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Each run once, at its longest, and the older copies. Raises: VerificationError for a fork."""
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


def _group(runs: Sequence[Run], delta: float) -> dict[str, Any]:
    """What runs over the same people cost together, None for no bound."""
    rounds = {
        "expected_rounds": math.fsum(run.expected_rounds for run in runs),
        "most_rounds": sum(run.most_rounds for run in runs),
        "deltas": math.fsum(run.delta or 0.0 for run in runs),
    }
    if any(run.target is None for run in runs):
        return dict.fromkeys(("pld", "rdp", "basic", "gdp", "renyi", "cohort")) | rounds
    events = [event for run in runs for event in run.events]
    _check_cost(runs[0].path, events, delta)
    gdp = least_cap("gdp", events, delta)
    return rounds | {
        "pld": accounting.epsilon_pld(events, delta),
        "rdp": accounting.epsilon_rdp(events, delta),
        "basic": math.fsum(run.target or 0.0 for run in runs),
        "gdp": gdp,
        "renyi": least_cap("renyi", events, delta),
        "cohort": gdp,
    }


def _about(run: Run) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "population": run.population,
        "target_epsilon": up(run.target),
        "delta": None if run.delta is None else repr(run.delta),
        "participation": {"expected_rounds": run.expected_rounds, "most_rounds": run.most_rounds},
        "budget": None if run.budget is None else run.budget.name,
        "head": run.head,
    }


def _shared(runs: Iterable[Run]) -> dict[str, str] | None:
    budgets = [run.budget for run in runs]
    first = budgets[0]
    if first is None or any(each is None or each.id != first.id for each in budgets):
        return None
    return {key: str(getattr(first, key)) for key in ("name", "who", "epsilon", "delta", "theorem")}


def _key(evidence: Evidence, keys: Sequence[PublicKey] | None) -> PublicKey:
    """The key that must have begun the ledger: that of `keys` which record 0 names, the first where it names none.

    Naming proves nothing; the signatures are checked under it.
    """
    if keys is None:
        if PUBLIC_KEY not in evidence.files:
            raise InputError(f"--trust-run-key: {evidence.place} holds no {PUBLIC_KEY}; give --key PUB")
        return public_key_in(evidence.files[PUBLIC_KEY], PUBLIC_KEY)
    first = evidence.ledger.partition(b"\n")[0]
    return next((key for key in keys if f'"keyid":"{key.id}"'.encode() in first), keys[0])


def _check_cost(path: Path, events: Sequence[Event], delta: float) -> None:
    try:
        recompute.require_bounded([(event.sampling, event.noise_multiplier, event.count) for event in events], delta)
    except TooCostly as error:
        raise VerificationError(f"{path}: cannot be added up within bounded time: {error}") from None


def _seed(evidence: Evidence, begin: BeginRecord) -> int:
    """The seed that the noise follows from: in the scenario whose digest the ledger holds."""
    where = f"{evidence.place}: scenario.toml"
    content = evidence.files.get("scenario.toml")
    if content is None:
        raise InputError(f"{where}: is missing, and the noise follows from its seed; give the run's whole folder")
    if hashlib.sha256(content).hexdigest() != begin.scenario.sha256:
        raise VerificationError(f"{where}: is not the scenario that the ledger began with; ask for the run again")
    try:
        seed = tomllib.loads(content.decode()).get("seed")
    except (ValueError, RecursionError):
        seed = None
    if type(seed) is not int:
        raise VerificationError(f"{where}: names no seed, and the ledger says that the noise follows from one")
    return seed
