"""Checks of charges to which users add Skellam noise: trust models `distributed` and `local`.

| check | a lie that it catches |
|---|---|
| events | an event that is not its query's; more shares counted than honest users have, or than are asked |
| bounds | integers shorter than the clip; an L1 bound below what the L2 bound allows |
| epsilon | a recorded epsilon below the recomputed one, or far above it; one past the target |
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedrec.audit.accountant import skellam
from fedrec.audit.accountant.skellam import Release
from fedrec.audit.entries.records import AGGREGATORS, HIDDEN, BeginRecord, Shares
from fedrec.charge import Charge, ChargedEvent, QueryTerms
from fedrec.rounding import ceiling

MECHANISM = "Skellam, known cohort, add or remove one user"
RELATIVE = 1e-6
"""Precision of a recomputed epsilon: the formula is in closed form."""
ABOVE = 1e-2
"""A recorded epsilon may exceed the recomputed one by this part: training tries fewer orders."""


def noise(begin: BeginRecord, shares: Shares, charges: Sequence[Charge]) -> Iterator[str]:
    """Check that each priced event is the one that its query's integers and shares make."""
    counted = shares.counted
    if begin.trust == "local" and (shares.least, shares.colluding) != (1, 0):
        yield "record 0 counts the noise of several users, and in trust model local each hides alone"
    if shares.by_aggregators and (begin.trust != "distributed" or begin.hidden):
        yield "record 0 counts the noise of server and helper, where users add it"
    if begin.trust == "distributed" and shares.colluding < 1 and not shares.by_aggregators:
        yield "record 0 counts every user's noise, and anyone who gets the model may be a user who knows its own"
    probability, mechanism = float(begin.sampling.probability), begin.mechanism.name
    known = (AGGREGATORS,) if shares.by_aggregators else (MECHANISM, HIDDEN)
    if mechanism not in known:
        yield f"record 0 names the mechanism {mechanism}, and only {' and '.join(known)} can be checked"
    if begin.hidden and probability == 1:
        yield "record 0 hides who contributes, and everybody does in every round"
    expected = max(1, math.floor(begin.population.users * (1.0 if begin.hidden else probability)))
    if shares.expected > expected:
        yield f"record 0 counts the noise of {shares.expected} users in a round, and {expected} are expected"
    for charge in charges:
        where = f"the charge of round {charge.round}"
        if charge.epsilon.pld is not None:
            yield f"{where}: has an epsilon by PLD, and none is known for Skellam noise"
        if charge.queries and charge.epsilon.rdp is None:
            yield f"{where}: has no epsilon, and the run promises one"
        events = charge.events
        if len(events) != len(charge.queries):
            yield f"{where}: prices {len(events)} events for {len(charge.queries)} queries"
            continue
        for query, event in zip(charge.queries, events, strict=True):
            faults = _query(query, event, charge, counted, mechanism)
            yield from (f"{where}: query '{query.name}' {fault}" for fault in faults)


def _query(query: QueryTerms, event: ChargedEvent, charge: Charge, counted: int, mechanism: str) -> Iterator[str]:
    made, clip = query.discrete, query.clip_norm
    if made is None or clip is None:
        yield "has no integers or no clip"
        return
    squared, absolute, dimension = made.squared, made.absolute, made.dimension
    variance = float(made.share_variance) * counted
    z = float(query.noise_multiplier)
    if event.mechanism != mechanism or event.count != 1:
        yield f"is not priced as one {mechanism}"
    if event.sampling != charge.sampling:
        yield f"is priced with sampling {event.sampling}, the charge says {charge.sampling}"
    if (event.squared, event.absolute) != (squared, absolute):
        yield "is priced with other bounds than its integers have"
    if event.variance is None or not math.isclose(float(event.variance), variance, rel_tol=1e-9):
        yield f"is priced with another variance than {counted} shares have"
    if any(not math.isclose(each**2 * squared, variance, rel_tol=1e-9) for each in (z, float(event.noise_multiplier))):
        yield "has another noise multiplier than its shares make"
    if float(query.noise_std) != z * float(clip):
        yield f"has noise {query.noise_std}, not multiplier times clip"
    if squared < math.floor(float(made.length) ** 2 * (1 - 1e-12)):
        yield "bounds its integers below the clip"
    if absolute < min(squared, math.isqrt(squared * dimension)):
        yield "bounds the L1 norm of its integers below what their L2 norm allows"
    size = math.prod(query.shape)
    if dimension < size or (made.encoding == "plain" and dimension != size):
        yield f"sends {dimension} numbers for {size}"


def epsilon(begin: BeginRecord, charges: Sequence[Charge], faults: list[list[str]], facts: dict[str, Any]) -> None:
    """Recompute epsilon after every charge; add faults and facts.

    Args:
        begin: the first record.
        charges: the charges, whose events were checked.
        faults: lists of faults, appended to.
        facts: facts for the verdict, added to.
    """
    assert begin.delta is not None  # a guarantee has both
    assert begin.target_epsilon is not None
    delta, cap = float(begin.delta), float(begin.target_epsilon)
    rounds: list[list[Release]] = [
        [(float(event.variance or 0), event.squared or 0, event.absolute or 0, event.count) for event in charge.events]
        for charge in charges
    ]
    coins = float(begin.sampling.probability) if begin.hidden else None
    computed = skellam.curve(rounds, delta, coins).epsilon
    recorded = np.array([float(charge.epsilon.rdp or "nan") for charge in charges])
    wrong = ~((recorded >= computed * (1 - RELATIVE)) & (recorded <= computed * (1 + ABOVE) + 1e-5))
    faults.append(
        [
            f"charge {place}: recorded epsilon {recorded[place]:.6f} (Renyi) is "
            f"{'below' if recorded[place] < computed[place] else 'far above'} the recomputed {computed[place]:.6f}"
            for place in map(int, np.flatnonzero(wrong))
        ]
    )
    faults.append(
        [
            f"the charge of round {charges[place].round}: epsilon {charges[place].epsilon.rdp} is past the "
            f"cap of {cap:g}"
            for place in map(int, np.flatnonzero(recorded > ceiling(cap, 6)))
        ]
    )
    facts["epsilon"] = {
        "recorded": {"pld": None, "rdp": charges[-1].epsilon.rdp},
        "recomputed": {"tight": f"{computed[-1]:.6f}", "renyi": f"{computed[-1]:.6f}"},
        "method": "Skellam, Renyi DP at whole orders" + ("" if coins is None else ", secret coins"),
    }
