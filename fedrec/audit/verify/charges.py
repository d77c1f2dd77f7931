"""Checks that the charges of a ledger follow from one another, from its first record, and from mathematics.

| check | a lie that it catches |
|---|---|
| terms | a round with another clip, noise, shape, delta or sampling than record 0 promised |
| noise | noise_std is not multiplier times clip; an event is not that of its queries |
| order | a round left out, so that its charge is missing; charges before the beginning |
| epsilon | a recorded epsilon below the one that the recorded events have, or far above it |
| cap | a charge past the target |
| correlation | noise over rounds whose price does not follow from its coefficients (`fedrec.audit.verify.banded`) |
| stop | a run that stopped on its own outputs and paid only for the rounds that it ran |

With full participation epsilon is recomputed exactly after every round. Renyi DP is recomputed after every round in any
case. With sampling the tight epsilon is recomputed at the end, at places 2.5 % apart, and at some places that each
verification draws anew. A recorded value between two places must be between their values, so it cannot be wrong by
more. On a large grid fewer places are recomputed, and the verdict reports their number.
"""

import bisect
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedrec.audit.accountant import recompute
from fedrec.audit.accountant.recompute import Curve, Event, TooCostly
from fedrec.audit.entries.account import Account
from fedrec.audit.entries.records import BeginRecord, EndRecord, StoppedRecord
from fedrec.audit.verify import banded, skellam
from fedrec.charge import Charge
from fedrec.rounding import ceiling

MECHANISM = "Poisson-sampled Gaussian, add or remove one user"
RELATIVE = 1e-3
"""Precision of a recomputed epsilon with sampling, in addition to half a step of its grid."""
RENYI = 5e-3
"""Largest relative difference between two Renyi accountants with different nets of orders."""
ABOVE = (2e-2, 2e-3)
"""A recorded epsilon may exceed the recomputed one by this part of it and this much: an accountant rounds up."""
_ALL_PLACES = 200
_DRAWN_PLACES = 32
_APART = 1.025


@dataclass
class Spending:
    """The result: faults by kind, notes, and facts for the verdict."""

    faults: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def check(known: Account) -> Spending:
    """Check the charges of a ledger, in order.

    Args:
        known: the ledger's records.
    """
    begin, charges = known.begin, known.charges
    noise = _noise(charges) if begin.shares is None else skellam.noise(begin, begin.shares, charges)
    found = Spending([list(_order(known)), list(_terms(begin, charges)), list(noise), list(_stopped(known))])
    found.faults.append(list(banded.faults(charges)))
    repeated = len(charges) - len({charge.round for charge in charges})
    if repeated:
        found.notes.append(f"{repeated} round(s) were charged again after an interruption; each charge counts")
    if known.stopped is not None:
        unrun = len(known.stopped.unrun)
        found.notes.append(f"the run stopped early on its private metrics; {unrun} rounds that it left out are charged")
    found.facts |= {
        "rounds_charged": len(charges),
        "guarantee": begin.guarantee,
        "target_epsilon": begin.target_epsilon,
        "delta": begin.delta,
    }
    if begin.seeded and begin.private:
        found.notes.append("the noise follows from a seed: anyone who knows the seed can take it off (a simulation)")
    if not begin.private:
        found.notes.append("the run promises nothing: there is no epsilon to recompute")
        told = [(charge.epsilon.pld, charge.epsilon.rdp) for charge in charges if charge.queries]
        if any(value is not None for pair in told for value in pair):
            found.faults.append(["a run without a guarantee states an epsilon"])
    elif charges and not any(found.faults):
        if begin.shares is None:
            _epsilon(begin, charges, found)
        else:
            skellam.epsilon(begin, charges, found.faults, found.facts)
    return found


def _order(known: Account) -> Iterator[str]:
    highest = -1
    for index, record in enumerate(known.records):
        if isinstance(record, Charge):
            if record.round > highest + 1 or record.round >= known.begin.rounds:
                yield f"record {index} charges round {record.round} after round {highest}: not a round that comes next"
            else:
                highest = max(highest, record.round)
        elif isinstance(record, EndRecord) and record.rounds > highest + 1:
            yield f"record {index} counts {record.rounds} finished rounds, {highest + 1} were charged"


def _stopped(known: Account) -> Iterator[str]:
    """Check that a run that stopped on its own outputs ended there, and paid for all rounds that it left out.

    Exceptions: repeated charges had used up the budget, or the run was interrupted before its end.
    """
    stops, ended = known.of(StoppedRecord), known.end
    if len(stops) > 1:
        yield "the run stops more than once"
    paid = {charge.round for charge in known.charges}
    for stop in stops:
        if ended is None:
            continue
        if ended.rounds != stop.round + 1:
            yield f"the run stopped after round {stop.round} and ended after {ended.rounds} finished rounds"
        if len(paid) == len(known.charges) and not paid.issuperset(stop.unrun):
            yield "the run stopped early and did not pay for the rounds that it left out"


def _terms(begin: BeginRecord, charges: Sequence[Charge]) -> Iterator[str]:
    """Check that each charge is on the terms that record 0 names for its round."""
    next_round, starts = 0, []
    for group in begin.plan:
        first, last = group.rounds
        if not next_round == first <= last:
            break
        starts.append(first)
        next_round = last + 1
    if next_round != begin.rounds or len(starts) != len(begin.plan):
        yield "record 0 does not name the terms of every round"
    for charge in charges:
        where = f"the charge of round {charge.round}"
        group_index = bisect.bisect_right(starts, charge.round) - 1
        if charge.round >= next_round or charge.queries != begin.plan[group_index].queries:
            yield f"{where}: its queries (name, shape, clip or noise) are not those of record 0"
        if charge.delta != begin.delta:
            yield f"{where}: delta {charge.delta}, record 0 says {begin.delta}"
        if charge.sampling != begin.sampling.probability:
            yield f"{where}: sampling {charge.sampling}, record 0 says {begin.sampling.probability}"


def _noise(charges: Sequence[Charge]) -> Iterator[str]:
    """Check that the priced event is the one that the queries' noise makes."""
    for charge in charges:
        where, private = f"the charge of round {charge.round}", charge.delta is not None
        precision = 0.0
        for query in charge.queries:
            clip, z, std = query.clip_norm, float(query.noise_multiplier), float(query.noise_std)
            if not private:
                if clip is not None or z != 0 or std != 0:
                    yield f"{where}: query '{query.name}' has noise, and the run promises none"
                continue
            if clip is None or z == 0:
                yield f"{where}: query '{query.name}' has no bound or no noise"
                continue
            if std != z * float(clip):
                yield f"{where}: query '{query.name}' has noise {query.noise_std}, not multiplier times clip"
            precision += (query.sensitivity(charge.step) / z) ** 2
        if private and charge.queries and None in (charge.epsilon.pld, charge.epsilon.rdp):
            yield f"{where}: has no epsilon, and the run promises one"
        events = charge.events
        if not private or not precision:
            if events:
                yield f"{where}: prices an event, and nothing private is released"
            continue
        if len(events) != 1 or events[0].count != 1 or events[0].mechanism != MECHANISM:
            yield f"{where}: its event is not one {MECHANISM}"
        elif events[0].sampling != charge.sampling:
            yield f"{where}: its event has sampling {events[0].sampling}, the charge {charge.sampling}"
        elif not math.isclose(float(events[0].noise_multiplier) ** -2, precision, rel_tol=1e-9):
            yield f"{where}: its event's noise {events[0].noise_multiplier} does not follow from its queries"


def _epsilon(begin: BeginRecord, charges: Sequence[Charge], found: Spending) -> None:
    assert begin.delta is not None  # a guarantee has both
    assert begin.target_epsilon is not None
    delta, cap = float(begin.delta), float(begin.target_epsilon)
    rounds: list[list[Event]] = [
        [(float(event.sampling), float(event.noise_multiplier), event.count) for event in charge.events]
        for charge in charges
    ]
    recorded = {
        "pld": np.array([_number(charge.epsilon.pld) for charge in charges]),
        "rdp": np.array([_number(charge.epsilon.rdp) for charge in charges]),
    }
    try:
        tight = recompute.curve(rounds, delta, _places(len(charges)))
        renyi = recompute.renyi_curve(rounds, delta)
    except TooCostly as error:
        found.faults.append([f"epsilon cannot be recomputed within bounded time: {error}"])
        return
    exact = tight.step == 0
    slack = 1e-9 if exact else RELATIVE * tight.epsilon + tight.step / 2
    found.faults.append(list(_compared("PLD", recorded["pld"], tight, slack)))
    found.faults.append(list(_compared("Renyi", recorded["rdp"], renyi, RENYI * renyi.epsilon)))
    for name, values in recorded.items():
        found.faults.append(
            [
                f"the charge of round {charges[place + 1].round}: epsilon by {name} falls, which no release does"
                for place in map(int, np.flatnonzero(np.diff(values) < 0))
            ]
        )
    found.faults.append(
        [
            f"the charge of round {charges[place].round}: epsilon {charges[place].epsilon.pld} is past the cap of "
            f"{cap:g}"
            for place in map(int, np.flatnonzero(recorded["pld"] > ceiling(cap, 6)))
        ]
    )
    last = float(tight.epsilon[-1])
    if last - (slack if exact else float(np.asarray(slack)[-1])) > cap:
        found.faults.append([f"all events together have epsilon {last:.6f}, past the cap of {cap:g}"])
    spent = charges[-1].epsilon
    found.facts["epsilon"] = {
        "recorded": {"pld": spent.pld, "rdp": spent.rdp},
        "recomputed": {"tight": f"{last:.6f}", "renyi": f"{renyi.epsilon[-1]:.6f}"},
        "method": "exact Gaussian" if exact else f"Fourier, grid {tight.step:.2g}, at {len(tight.places)} places",
    }


def _compared(name: str, recorded: np.ndarray, computed: Curve, slack: Any) -> Iterator[str]:
    here = recorded[computed.places - 1]
    low = computed.epsilon - slack
    high = computed.epsilon * (1 + ABOVE[0]) + ABOVE[1] + computed.step
    for number in np.flatnonzero(~((here >= low) & (here <= high))):  # NaN is wrong, too
        side = "below" if here[number] < low[number] else "far above"
        yield (
            f"charge {computed.places[number] - 1}: recorded epsilon {here[number]:.6f} ({name}) is {side} the "
            f"recomputed {computed.epsilon[number]:.6f}"
        )


def _number(text: str | None) -> float:
    """The number of a text; NaN for none, which agrees with nothing."""
    return math.nan if text is None else float(text)


def _places(count: int) -> list[int]:
    """Return after how many rounds to recompute: everywhere in a short run, at some places in a long one."""
    if count <= _ALL_PLACES:
        return list(range(1, count + 1))
    fixed = {max(1, round(_APART**power)) for power in range(int(math.log(count) / math.log(_APART)) + 1)} | {count}
    drawn = random.SystemRandom().sample(range(1, count + 1), _DRAWN_PLACES)
    return sorted(place for place in fixed | set(drawn) if place <= count)
