"""A device takes part when the policy's conditions are met, as fake folders of the kernel show them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path

import pytest
from fedrec_client.consent.policy import DevicePolicy, Policy, parse
from fedrec_client.participation.conditions import Conditions, linux
from fedrec_client.participation.eligibility import HOUR, Condition, Obstacle, obstacles
from fedrec_client.participation.retrying import Backoff

NOON = datetime(2026, 5, 4, 12, 30)
GOOD = Conditions(on_power=True, battery=1.0, unmetered=True, load=0.0)
AC, AC_OFF = {"type": "Mains", "online": "1"}, {"type": "Mains", "online": "0"}
BATTERY = {"type": "Battery", "capacity": "80", "status": "Discharging"}
MOUSE = {"type": "Battery", "scope": "Device", "capacity": "3", "status": "Discharging"}


def supplies(folder: Path, **made: Mapping[str, str]) -> Path:
    power = folder / "power_supply"
    power.mkdir()
    for name, files in made.items():
        (power / name).mkdir()
        for file, text in files.items():
            (power / name / file).write_text(f"{text}\n")
    return power


@pytest.mark.parametrize(
    ("made", "on_power", "battery"),
    [
        ({}, True, 1.0),
        ({"AC": AC}, True, 1.0),
        ({"AC": AC_OFF}, False, 1.0),
        ({"AC": AC, "BAT0": BATTERY}, True, 0.8),
        ({"AC": AC_OFF, "BAT0": BATTERY}, False, 0.8),
        ({"BAT0": BATTERY}, False, 0.8),
        ({"BAT0": {**BATTERY, "status": "Charging"}}, True, 0.8),
        ({"BAT0": {**BATTERY, "status": "Unknown"}}, None, 0.8),
        ({"BAT0": {**BATTERY, "status": "Full"}, "BAT1": {**BATTERY, "capacity": "20"}}, False, 0.2),
        ({"AC": AC, "BAT0": {**BATTERY, "capacity": "much"}}, True, None),
        ({"AC": AC, "BAT0": {"type": "Battery"}}, True, None),
        ({"AC": AC, "mouse": MOUSE}, True, 1.0),
        ({"AC": {"type": "Mains", "online": "maybe"}}, None, 1.0),
        ({"usb": {"type": "USB", "online": "1"}, "BAT0": BATTERY}, True, 0.8),
    ],
)
def test_the_kernels_folder_shows_power_and_battery(made, on_power, battery, tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("0.00 0.10 0.20 1/100 7\n")
    found = linux(supplies(tmp_path, **made), tmp_path / "loadavg", lambda: True)
    assert found == Conditions(on_power, battery, unmetered=True, load=0.0)


def test_what_nothing_shows_is_unknown_and_stands_against_taking_part(tmp_path: Path) -> None:
    found = linux(tmp_path / "no", tmp_path / "nor this", lambda: None)
    assert found == Conditions()
    against = obstacles(DevicePolicy(), found, NOON)
    assert {each.condition for each in against} == set(Condition) - {Condition.HOURS, Condition.SEPARATION}
    assert all(each.unknown and each.text.startswith("unknown whether") for each in against)
    assert not obstacles(DevicePolicy(unknown_passes=True), found, NOON)


def test_the_load_is_that_of_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    (tmp_path / "loadavg").write_text("3.00 0.10 0.20 1/100 7\n")
    assert linux(tmp_path / "no", tmp_path / "loadavg", lambda: None).load == 0.75


@pytest.mark.parametrize(
    ("worse", "condition"),
    [
        ({"on_power": False}, Condition.POWER),
        ({"battery": 0.49}, Condition.BATTERY),
        ({"unmetered": False}, Condition.NETWORK),
        ({"load": 0.51}, Condition.LOAD),
    ],
)
def test_each_condition_that_is_known_not_to_hold_is_an_obstacle_of_its_own(worse, condition: Condition) -> None:
    assert not obstacles(DevicePolicy(), GOOD, NOON)
    for passes in (False, True):
        policy = DevicePolicy(unknown_passes=passes)
        assert obstacles(policy, replace(GOOD, **worse), NOON) == (Obstacle(condition),)
    free = DevicePolicy(on_power=False, battery=0.0, unmetered=False, load=0.0)
    assert not obstacles(free, replace(GOOD, **worse), NOON)


@pytest.mark.parametrize(
    ("start", "end", "inside"),
    [
        (0, 24, True),
        (12.5, 13, True),
        (12.6, 13, False),
        (9, 12.5, False),
        (22, 6, False),
        (22, 13, True),
        (5, 5, True),
    ],
)
def test_the_window_of_hours_may_cross_midnight(start: float, end: float, inside: bool) -> None:
    found = obstacles(DevicePolicy(from_hour=start, to_hour=end), GOOD, NOON)
    assert found == (() if inside else (Obstacle(Condition.HOURS),))


@pytest.mark.parametrize(("hours", "passes"), [(11.99, False), (12.0, True), (-1.0, False)])
def test_the_separation_is_between_charges_and_a_clock_set_back_does_not_shorten_it(hours: float, passes) -> None:
    found = obstacles(DevicePolicy(), GOOD, NOON, hours * HOUR)
    assert found == (() if passes else (Obstacle(Condition.SEPARATION),))


def test_the_policy_reads_and_writes_its_table() -> None:
    changed = replace(Policy(), device=DevicePolicy(on_power=False, battery=0.2, from_hour=22, to_hour=6))
    assert parse(changed.text(), "policy") == changed
    with pytest.raises(Exception, match=r"device.battery' = 2: must be at least 0 and at most 1"):
        parse("[device]\nbattery = 2.0", "policy")


def test_waits_are_anywhere_below_a_bound_that_doubles_up_to_a_limit() -> None:
    backoff = Backoff(first=5, most=30)
    assert list(islice(backoff.waits(lambda: 0.5), 5)) == [2.5, 5.0, 10.0, 15.0, 15.0]
    drawn = [next(backoff.waits()) for _ in range(400)]
    assert min(drawn) < 0.5
    assert 4.5 < max(drawn) < 5
