"""In how many rounds of a run one person takes part, from its records alone."""

import bisect
import math
from collections import Counter
from collections.abc import Sequence

from fedrec.audit.entries.records import BeginRecord
from fedrec.charge import Charge


def separation(begin: BeginRecord) -> int | None:
    """Return the rounds between two participations of a user; None where a round asks everybody or a sample."""
    found = (query.banded.separation for group in begin.plan for query in group.queries if query.banded is not None)
    return next(found, None)


def participation(begin: BeginRecord, charges: Sequence[Charge]) -> tuple[float, int]:
    """Return the number of rounds in which one person takes part: expected, and at most.

    Where noise is correlated, a step of a stream asks one of `separation` blocks of users, always in the same order.

    Args:
        begin: the first record.
        charges: the charged rounds.
    """
    asked = [charge for charge in charges if charge.queries]
    alone = [float(charge.sampling) for charge in asked if charge.queries[0].banded is None]
    starts = [group.rounds[0] for group in begin.plan]
    blocks: Counter[tuple[int, int]] = Counter()
    expected = 0.0
    for charge in asked:
        if (banded := charge.queries[0].banded) is not None:
            first = starts[bisect.bisect_right(starts, charge.round) - 1]
            blocks[first, (charge.round - first) % banded.separation] += 1
            expected += 1 / banded.separation
    most: Counter[int] = Counter()
    for (first, _), times in blocks.items():
        most[first] = max(most[first], times)
    return math.fsum(alone) + expected, len(alone) + sum(most.values())
