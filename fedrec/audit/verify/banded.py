"""Checks of charges whose noise is correlated over rounds; `fedrec.privacy.banded.factor` proves the prices.

| check | a lie that it catches |
|---|---|
| factor | coefficients that rise, or more of them than rounds between two participations: the proof fails |
| step | a step that is not the last charge's next one, and so is priced below a begin |
| row | queries of one round with different correlation; correlated noise in users' shares or without a price |

A step's sensitivity is the coefficient of its age, so the price of each charge is recomputed from the coefficients.
"""

import itertools
from collections.abc import Iterator, Sequence

from fedrec.charge import Banded, Charge


def faults(charges: Sequence[Charge]) -> Iterator[str]:
    """Check the correlation of the charges' noise.

    Args:
        charges: all of a ledger, oldest first.
    """
    before: Charge | None = None
    for charge in charges:
        where = f"the charge of round {charge.round}"
        kinds = [query.banded for query in charge.queries]
        banded = kinds[0] if kinds else None
        if any(kind != banded for kind in kinds):
            yield f"{where}: its queries correlate their noise in different ways"
        if (banded is None) != (charge.step is None):
            yield f"{where}: has a step without correlated noise, or correlated noise without a step"
        if banded is not None:
            yield from (f"{where}: {fault}" for fault in _factor(banded))
            if any(query.discrete is not None or query.factors is not None for query in charge.queries):
                yield f"{where}: correlates noise that users add, or that follows a clip"
            if charge.step and not _continues(before, charge):
                yield f"{where}: is step {charge.step} of a stream, and the charge before it is not the step before"
        before = charge


def _continues(before: Charge | None, charge: Charge) -> bool:
    if before is None or before.step is None or charge.step is None:
        return False
    next_one = (before.round + 1, before.step + 1) == (charge.round, charge.step)
    return next_one and before.queries == charge.queries


def _factor(banded: Banded) -> Iterator[str]:
    values = [float(coefficient) for coefficient in banded.coefficients]
    if values[0] != 1 or any(after > before for before, after in itertools.pairwise(values)):
        yield "its noise has coefficients that do not begin with 1, or that rise"
    if len(values) > banded.separation:
        yield f"its noise is correlated over {len(values)} rounds, and users take part every {banded.separation}"
