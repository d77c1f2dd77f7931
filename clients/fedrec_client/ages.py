"""The ages of events that a policy lets into sums."""

import math

from fedrec_client.consent.policy import DataPolicy
from fedrec_client.store import Recorded

DAY = 86400.0


def allowed_ages(policy: DataPolicy, now: float) -> tuple[float, float]:
    """Return Unix seconds from and before which events may be used, by whole days; (-inf, inf) for all."""
    today = now // DAY * DAY
    oldest = today - policy.oldest_days * DAY if policy.oldest_days else -math.inf
    return oldest, today - policy.newest_days * DAY if policy.newest_days else math.inf


def counted(events: list[Recorded], policy: DataPolicy, now: float) -> list[Recorded]:
    """Return the events of an allowed age; those without a time only where all ages are allowed."""
    oldest, before = allowed_ages(policy, now)
    if (oldest, before) == (-math.inf, math.inf):
        return events
    return [each for each in events if each.event.time is not None and oldest <= each.event.time < before]
