"""Eligibility: which conditions of the policy's table `[device]` a device does not meet now.

All of it depends on the machine and the clock, never on what the person did. A device that is not eligible is away, as
one without a network is. What depends on the person (opted out, budget spent, data forgotten) is answered with zeros,
or as a person without events: see `fedrec_client.consent.answering` and `fedrec_client.participation.store_mark`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from fedrec_client.consent.policy import DevicePolicy
from fedrec_client.participation.conditions import Conditions

HOUR = 3600.0


class Condition(Enum):
    """What the policy asks of a device; the value is the phrase for its log."""

    POWER = "not on mains power"
    BATTERY = "battery too low"
    NETWORK = "metered network"
    LOAD = "busy"
    HOURS = "outside the hours of the policy"
    SEPARATION = "too soon after it last took part"


@dataclass(frozen=True)
class Obstacle:
    """A condition that is not met. unknown: nothing says whether it is, and the policy does not pass over that."""

    condition: Condition
    unknown: bool = False

    @property
    def text(self) -> str:
        """A phrase for people."""
        return f"unknown whether {self.condition.value}" if self.unknown else self.condition.value


def obstacles(
    policy: DevicePolicy, conditions: Conditions, now: datetime, since_last: float | None = None
) -> tuple[Obstacle, ...]:
    """Return all that stands against taking part now; empty where the device is eligible.

    Args:
        policy: the table `[device]`.
        conditions: of now.
        now: local time.
        since_last: seconds since the device ledger's last charge, negative where the clock went back; None for none.
    """
    found = []

    def need(condition: Condition, known: bool, met: bool) -> None:
        if not (met if known else policy.unknown_passes):
            found.append(Obstacle(condition, not known))

    if policy.on_power:
        need(Condition.POWER, conditions.on_power is not None, bool(conditions.on_power))
    if policy.battery > 0:
        charge = conditions.battery
        need(Condition.BATTERY, charge is not None, charge is not None and charge >= policy.battery)
    if policy.unmetered:
        need(Condition.NETWORK, conditions.unmetered is not None, bool(conditions.unmetered))
    if policy.load > 0:
        load = conditions.load
        need(Condition.LOAD, load is not None, load is not None and load <= policy.load)
    need(Condition.HOURS, True, _within(now.hour + now.minute / 60, policy.from_hour, policy.to_hour))
    if since_last is not None:
        need(Condition.SEPARATION, True, since_last >= policy.separation_hours * HOUR)
    return tuple(found)


def _within(hour: float, start: float, end: float) -> bool:
    """Whether an hour is in a window, which may cross midnight; equal ends are the whole day."""
    if start == end:
        return True
    return start <= hour < end if start < end else hour >= start or hour < end
