"""Checks that the curve of the last record and the budget of the first one follow from the charges.

| check | a lie that it catches |
|---|---|
| curve | an attacker who can do less than the recorded events allow |
| shared budget | a run that charged more than it reserved, a limit above what the cap allows, sums past the limit |
"""

import math
from collections.abc import Iterator

import numpy as np

from fedrec.audit.accountant import recompute
from fedrec.audit.accountant.recompute import Event, TooCostly
from fedrec.audit.entries.account import Account
from fedrec.audit.entries.records import PopulationBudget

NEAR = 1e-2
"""Relative precision of a recomputed delta of the curve."""
RENYI = 5e-3
"""Relative precision of a recomputed Renyi divergence."""
LAST_DIGIT = 2e-6
"""Sums of a budget are rounded up to 6 decimals."""


def check(known: Account) -> list[str]:
    """Return faults, a line each.

    Args:
        known: the ledger's records.
    """
    events: list[list[Event]] = [
        [(float(event.sampling), float(event.noise_multiplier), event.count) for event in charge.events]
        for charge in known.charges
    ]
    try:
        found = list(_curve(known, events))
    except TooCostly as error:
        found = [f"the attacker's curve cannot be recomputed within bounded time: {error}"]
    if known.begin.budget is not None:
        found += _reserved(known.begin.budget, [event for one_round in events for event in one_round])
    return found


def _curve(known: Account, rounds: list[list[Event]]) -> Iterator[str]:
    if known.end is None or known.end.curve is None:
        return
    if known.begin.delta is None or not any(q < 1 for events in rounds for q, _, _ in events):
        yield "the last record has an attacker's curve, and no sampled release has one"
        return
    delta = float(known.begin.delta)
    recorded = np.array([[float(pair.epsilon), float(pair.delta)] for pair in known.end.curve])
    # A loss is rounded by half a step of the grid; an epsilon that is one step larger is a lower bound for certain.
    _, step = recompute.deltas(rounds, [0.0], delta)
    least, _ = recompute.deltas(rounds, list(recorded[:, 0] + step), delta)
    for place in np.flatnonzero(~(recorded[:, 1] >= (1 - NEAR) * least - 1e-4 * delta)):
        yield (
            f"the attacker's curve has delta {recorded[place, 1]:.3g} at epsilon {recorded[place, 0]:g}, below the "
            f"recomputed {least[place]:.3g}"
        )


def _reserved(budget: PopulationBudget, events: list[Event]) -> Iterator[str]:
    limit, reserved, all_runs = (float(text) for text in (budget.limit, budget.reserved, budget.all_runs))
    epsilon, delta = float(budget.epsilon), float(budget.delta)
    if budget.filter == "gdp" and budget.order is None:
        spent = math.fsum(count / z**2 for _, z, count in events)
        fits = float(recompute.gaussian_epsilon(np.array(math.sqrt(max(limit - LAST_DIGIT, 0))), delta)) <= epsilon
    elif budget.filter == "renyi" and budget.order is not None and budget.order > 1:
        spent = recompute.renyi(events, budget.order) * (1 - RENYI)
        order = budget.order
        fits = limit - LAST_DIGIT <= epsilon - math.log1p(-1 / order) + math.log(delta * order) / (order - 1)
    else:
        yield f"record 0 draws from a budget with the filter '{budget.filter}', which is unknown"
        return
    if not fits:
        yield f"the shared budget's limit of {budget.limit} {budget.unit} is above what its cap allows"
    if not spent <= reserved + LAST_DIGIT:
        yield f"the charges cost {spent:.6f} {budget.unit} of the shared budget, and {budget.reserved} was reserved"
    if not reserved <= all_runs <= limit:
        yield f"the shared budget's sums do not fit: {budget.reserved} of {budget.all_runs} of {budget.limit}"
