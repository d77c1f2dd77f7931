"""Policy: what this node takes part in, as one TOML file of its operator; one place decides on a run's terms.

Every field has a safe default, so an empty file is a policy. An unknown key is an error that names the nearest one.
`objections` compares a run's public terms with it. Nothing here looks at the users' data.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from fedrec.errors import InputError, first_line, nearest
from fedrec_client.consent.spending import LARGEST_EPSILON, Limit

TRUST = ("central", "distributed", "local")

NOISE_BY = ("users", "aggregators")

MOST_NUMBERS = 1 << 28
"""In all sums of a round: a gigabyte in float32."""

LARGEST_CLIP = 1e6
"""Beyond, a clip bounds nothing, and the noise that it asks for leaves nothing of a float32."""

MOST_ROUNDS = 100_000

SMALLEST_MULTIPLIER = 0.03
"""Least noise in units of the clip that a policy can ask for: below, one release costs an epsilon of more than 600."""


def _setting(default: Any, about: str, least: float = -math.inf, most: float = math.inf, names: Any = None) -> Any:
    return field(default=default, metadata={"about": about, "least": least, "most": most, "names": names})


@dataclass(frozen=True)
class ServerPolicy:
    """Which servers' words count."""

    ledger_keys: tuple[str, ...] = _setting((), "Public keys of ledgers whose runs are accepted; empty: any server's.")
    witnesses: tuple[str, ...] = _setting((), "Witnesses, by name or key; one of them must have cosigned the ledger.")
    helpers: tuple[str, ...] = _setting((), "Public keys of helpers that may keep the masks of sums; empty: none.")


@dataclass(frozen=True)
class RunPolicy:
    """What one run may be and cost."""

    trust: tuple[str, ...] = _setting(
        TRUST, "Trust models that are accepted. In central the server sees sums without noise.", names=TRUST
    )
    noise_by: tuple[str, ...] = _setting(
        ("users",), "distributed: who may add the noise: users, or aggregators (server and helper).", names=NOISE_BY
    )
    algorithms: tuple[str, ...] = _setting(
        (), "Names of algorithms, or name@fingerprint (16 or more hex digits); empty: every built-in one."
    )
    plugins: tuple[str, ...] = _setting((), "Installed algorithms and towers of other packages that runs may use.")
    epsilon: float = _setting(10.0, "The most that one run may cost a user.", 1e-6, LARGEST_EPSILON)
    delta: float = _setting(1e-5, "The delta of all epsilons here, and the largest of a run.", 1e-30, 0.1)
    minimum_cohort: int = _setting(50, "Fewest users whose contributions are opened together.", 1)
    colluding: float = _setting(
        0.05, "distributed: the least part of a cohort that may collude, for which epsilon must hold.", 0, 0.99
    )
    smallest_sum: int = _setting(
        10, "central: fewest users of this node in a sum. 1 lets the server see single users.", 1
    )
    rounds: int = _setting(1000, "The most rounds.", 1, MOST_ROUNDS)
    repeats: int = _setting(2, "How often a round may be asked anew, as after a crash; each time is charged.", 0)
    days: float = _setting(30.0, "Days after which a run must have ended.", 0.01)
    clip_norm: float = _setting(1000.0, "The largest clip: beyond, a clip bounds little.", 1e-9, LARGEST_CLIP)
    numbers: int = _setting(MOST_NUMBERS, "The most numbers in all sums of a round.", 1, MOST_NUMBERS)
    noise_multiplier: float = _setting(0.1, "The least noise of a sum, in clips.", SMALLEST_MULTIPLIER)


@dataclass(frozen=True)
class PeriodPolicy:
    """What all runs together may cost."""

    days: float = _setting(90.0, "Length of the sliding period.", 1)
    epsilon: float = _setting(10.0, "The most that all runs of a period may cost a user, at run.delta.", 1e-6, 100.0)


@dataclass(frozen=True)
class DataPolicy:
    """Which data may be used."""

    oldest_days: float = _setting(0.0, "Events older than this are not used; 0: all ages.", 0)
    newest_days: float = _setting(0.0, "Events younger than this are not used; 0: all ages.", 0)
    attributes: bool = _setting(
        False, "Whether attributes of a person may enter sums, as events do; never as they are."
    )
    datasets: tuple[str, ...] = _setting((), "Built-in datasets that runs may name at a shard; empty: as started.")
    opted_out: bool = _setting(False, "Whether this node only contributes zeros, which a server cannot see.")


@dataclass(frozen=True)
class DevicePolicy:
    """When the device of one person takes part. `fedrec client start` does not look at it."""

    on_power: bool = _setting(True, "Whether it must be on mains power.")
    battery: float = _setting(0.5, "The least charge of a battery, 0 to 1; 0: any.", 0, 1)
    unmetered: bool = _setting(True, "Whether its network must be unmetered.")
    load: float = _setting(0.5, "The most runnable tasks for each core in the last minute; 0: any number.", 0)
    from_hour: float = _setting(0.0, "Local hour from which it takes part.", 0, 24)
    to_hour: float = _setting(24.0, "Local hour before which it takes part; below from_hour: past midnight.", 0, 24)
    separation_hours: float = _setting(12.0, "Hours between its last charge and the next time it takes part.", 0)
    trust_days: float = _setting(1.0, "Days of answers without events, after forgetting or an older store.", 0)
    unknown_passes: bool = _setting(False, "Whether a condition that nothing shows counts as met.")


@dataclass(frozen=True)
class Policy:
    """The policy of a node. Raises: InputError where a value cannot be."""

    server: ServerPolicy = field(default_factory=ServerPolicy)
    run: RunPolicy = field(default_factory=RunPolicy)
    period: PeriodPolicy = field(default_factory=PeriodPolicy)
    data: DataPolicy = field(default_factory=DataPolicy)
    device: DevicePolicy = field(default_factory=DevicePolicy)

    @property
    def needs_card(self) -> bool:
        """Whether a run without a verified card is refused: only a card shows a key and cosignatures."""
        return bool(self.server.ledger_keys or self.server.witnesses)

    @property
    def run_limit(self) -> Limit:
        """What one run may cost a user."""
        return Limit(self.run.epsilon, self.run.delta)

    @property
    def period_limit(self) -> Limit:
        """What all runs of a period may cost a user."""
        return Limit(self.period.epsilon, self.run.delta)

    def text(self) -> str:
        """Return the policy as TOML, each setting under a comment; `parse` reads it."""
        lines = ["# What this node takes part in. `fedrec client policy check FILE` reads it as the node will."]
        for table in fields(self):
            values = getattr(self, table.name)
            lines += ["", f"# {type(values).__doc__}", f"[{table.name}]"]
            for setting in fields(values):
                lines += [f"# {setting.metadata['about']}", f"{setting.name} = {_toml(getattr(values, setting.name))}"]
        return "\n".join(lines) + "\n"


BOUNDS = Policy(run=RunPolicy(rounds=MOST_ROUNDS, clip_norm=LARGEST_CLIP, noise_multiplier=SMALLEST_MULTIPLIER))
"""What bounds the computation of a simulation's own nodes, whose run and data are one person's; see `objections`."""


def load(path: Path) -> Policy:
    """Read a policy. Raises: InputError in one line for a file, key or value that cannot be used."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise InputError(f"{path}: the policy cannot be read ({reason}); `fedrec client policy init FILE`") from None
    return parse(text, str(path))


def parse(text: str, where: str) -> Policy:
    """Parse a policy. Args: where: the source, for errors. Raises: InputError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: no TOML: {first_line(error)}") from None
    tables = {table.name: table for table in fields(Policy)}
    everywhere = [f"{name}.{each.name}" for name, table in tables.items() for each in fields(_kind(table))]
    found: dict[str, Any] = {}
    for name, given in values.items():
        if name not in tables:
            same = [known for known in everywhere if known.endswith(f".{name}")]
            raise InputError(f"{where}: unknown key '{name}'.{nearest(name, same or [*tables, *everywhere])}")
        if not isinstance(given, dict):
            raise InputError(f"{where}: '{name}' must be a table: write [{name}]")
        found[name] = _table(_kind(tables[name]), name, given, where, everywhere)
    return Policy(**found)


def _kind(table: "Field[Any]") -> Any:
    return table.default_factory


def _table(kind: Any, table: str, given: Mapping[str, Any], where: str, everywhere: list[str]) -> Any:
    known = {setting.name: setting for setting in fields(kind)}
    for name in given:
        if name not in known:
            same = [other for other in everywhere if other.endswith(f".{name}")]
            names = same or [f"{table}.{other}" for other in known]
            raise InputError(f"{where}: unknown key '{table}.{name}'.{nearest(f'{table}.{name}', names)}")
    return kind(**{name: _value(value, known[name], f"{where}: '{table}.{name}'") for name, value in given.items()})


def _value(value: Any, setting: "Field[Any]", where: str) -> Any:
    default, bounds = setting.default, setting.metadata
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise InputError(f'{where} must be a list of texts, e.g. ["name"]')
        for each in value:
            if bounds["names"] is not None and each not in bounds["names"]:
                raise InputError(f"{where}: unknown '{each}'.{nearest(each, bounds['names'])}")
        return tuple(dict.fromkeys(value))
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{where} must be true or false")
        return value
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise InputError(f"{where} must be a {'whole ' if whole else ''}number")
    if not bounds["least"] <= value <= bounds["most"] or not math.isfinite(value):
        most = "" if bounds["most"] == math.inf else f" and at most {bounds['most']:g}"
        raise InputError(f"{where} = {value:g}: must be at least {bounds['least']:g}{most}")
    return value if whole else float(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        quoted = ('"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in value)
        return f"[{', '.join(quoted)}]"
    return repr(value)
