"""The ages of events that a policy lets into sums."""

import math

from fedrec_client.consent.policy import DataPolicy

DAY = 86400.0


def allowed_ages(policy: DataPolicy, now: float) -> tuple[float, float]:
    """Return Unix seconds from and before which events may be used, by whole days; (-inf, inf) for all."""
    today = now // DAY * DAY
    oldest = today - policy.oldest_days * DAY if policy.oldest_days else -math.inf
    return oldest, today - policy.newest_days * DAY if policy.newest_days else math.inf
