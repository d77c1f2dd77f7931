"""Conditions of a device that decide when it takes part, and where Linux shows them.

| condition | read from | unknown where |
|---|---|---|
| `on_power` | `/sys/class/power_supply`: a charger that is online, else a battery's status | there is no such folder |
| `battery` | the same: the lowest `capacity` of the machine's batteries; 1 without one | it cannot be read |
| `unmetered` | NetworkManager's property `Metered`, its guesses too | no NetworkManager, or it has no opinion |
| `load` | `/proc/loadavg`: runnable tasks of the last minute, for each core | it cannot be read |

Batteries of a mouse or a headset (`scope` `Device`) are not the machine's. An app with a better source, such as the
battery service of a phone, gives its own function that returns `Conditions`.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS = 2.0
"""Longest wait for NetworkManager."""

_METERED = {"u 1": False, "u 2": True, "u 3": False, "u 4": True}
_CHARGED = {"Charging": True, "Full": True, "Not charging": True, "Discharging": False}


@dataclass(frozen=True)
class Conditions:
    """The state of a device at one moment; None: unknown.

    Attributes:
        on_power: whether it is on mains power.
        battery: charge of the battery, 0 to 1; 1 without a battery.
        unmetered: whether bytes on its network cost nothing.
        load: runnable tasks for each core; 0 for an idle device.
    """

    on_power: bool | None = None
    battery: float | None = None
    unmetered: bool | None = None
    load: float | None = None


Source = Callable[[], Conditions]
"""Return the conditions of now. It is called often, so it must be quick, and it must not raise."""


def linux(
    power: Path = Path("/sys/class/power_supply"),
    load: Path = Path("/proc/loadavg"),
    metered: Callable[[], bool | None] | None = None,
) -> Conditions:
    """Return the conditions of this machine.

    Args:
        power: the kernel's folder of power supplies.
        load: the kernel's file of load averages.
        metered: returns whether the network is unmetered; None to ask NetworkManager.
    """
    on_power, battery = _power(power)
    return Conditions(on_power, battery, (unmetered if metered is None else metered)(), _load(load))


def unmetered() -> bool | None:
    """Return whether NetworkManager holds the network for unmetered; None where it is silent or not there."""
    command = shutil.which("busctl")
    if command is None:
        return None
    name = "org.freedesktop.NetworkManager"
    ask = [command, "--system", "get-property", name, f"/{name.replace('.', '/')}", name, "Metered"]
    try:
        found = subprocess.run(ask, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return _METERED.get(found.stdout.strip()) if found.returncode == 0 else None


def _power(folder: Path) -> tuple[bool | None, float | None]:
    """Return whether the machine is on power, and the charge of its weakest battery."""
    try:
        supplies = [each for each in sorted(folder.iterdir()) if _word(each / "scope") != "Device"]
    except OSError:
        return None, None
    batteries = [each for each in supplies if _word(each / "type") == "Battery"]
    online = [_word(each / "online") for each in supplies if each not in batteries]
    chargers = [each == "1" for each in online if each in ("0", "1")]
    if any(chargers) or not supplies:
        on_power: bool | None = True
    elif chargers or not batteries:
        on_power = False if chargers else None
    else:
        states = [_CHARGED.get(_word(each / "status")) for each in batteries]
        on_power = None if None in states else all(states)
    if not batteries:
        return on_power, 1.0
    charges = [_word(each / "capacity") for each in batteries]
    known = [int(each) / 100 for each in charges if each.isascii() and each.isdigit()]
    return on_power, min(known) if len(known) == len(charges) else None


def _load(file: Path) -> float | None:
    try:
        return float(_word(file).split()[0]) / (os.cpu_count() or 1)
    except (ValueError, IndexError):
        return None


def _word(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
