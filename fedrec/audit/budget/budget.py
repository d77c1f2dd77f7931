"""A budget for a population: its terms, the runs that drew from it, the rest, and the check of its file.

The terms never change (who, when, cap, filter); the history only grows, each record fixed by the next (a hash chain).
A filter's sum counts each open run with all that it reserved and each settled run with all that it charged, so it is
never below what was released. While it stays within the limit, `fedrec.privacy.filters` makes the cap hold however runs
are planned, stopped or run side by side. `fedrec.audit.budget.budget_file` writes it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedrec.audit.entries.events import from_json
from fedrec.errors import BudgetExhausted, InputError, PrivacyError, VerificationError
from fedrec.privacy.accounting import Event
from fedrec.privacy.filters import Filter

VERSION = 1
LARGEST = 16 << 20
"""Bytes of a budget file that is read."""
MOST_KINDS = 2000
"""Kinds of sampled releases in a history; each is priced anew when the file is read."""
Text = Annotated[str, Field(max_length=4096)]
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
DRIFT = 10**10
"""Largest relative difference of a cost or limit between versions of the libraries; filters keep ten times as much."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Rule(_Part):
    name: Text
    limit: Text
    order: int | None


class _Terms(_Part):
    """The terms as they are written. Their hash fixes further keys, which are not read."""

    id: Text
    name: Text
    who: Text
    start: Text | None
    end: Text | None
    epsilon: Text
    delta: Text
    filter: _Rule


class _Release(_Part):
    sampling: Text
    noise_multiplier: Text
    count: Annotated[int, Field(ge=1, lt=2**63)]


class _Record(_Part):
    """One record of the history."""

    what: Literal["reserve", "settle"]
    run: Text
    when: Text
    events: list[_Release]
    about: dict[Text, Text | int | float | None] = {}
    previous: Text


class _Text(_Part):
    version: int
    terms: _Terms
    history: list[_Record]
    head: Text


@dataclass(frozen=True)
class Entry:
    """The part of a budget that one run draws.

    Attributes:
        run: its id in the budget.
        when: time of the reservation, UTC.
        about: the run's description of itself: "data", "users", "noise" (`noise_text`), "target_epsilon".
        reserved: all releases that it planned.
        reserved_cost: their cost, in 1/GRID of the filter's unit.
        released: the releases that it settled for; None for an open run.
        cost: counted in the filter's sum.
    """

    run: str
    when: str
    about: Mapping[str, Any]
    reserved: tuple[Event, ...]
    reserved_cost: int
    released: tuple[Event, ...] | None = None
    cost: int = 0

    @property
    def state(self) -> str:
        """ "open" while the run may still release, else "settled"."""
        return "open" if self.released is None else "settled"


@dataclass(frozen=True)
class Budget:
    """A budget file as it was read and checked.

    Attributes:
        path: of the file.
        name: of the budget.
        who: the population.
        start: first day, UTC; None for no bound.
        end: last day, UTC; None for no bound.
        filter: of the sums.
        limit: of the filter's sum, in 1/GRID of its unit.
        text: the parsed file.
        entries: by the id of the run.
        history_hashes: SHA-256 (hex) that fixes terms and history after 0, 1, ... records.
    """

    path: Path
    name: str
    who: str
    start: date | None
    end: date | None
    filter: Filter
    limit: int
    text: dict[str, Any] = field(repr=False)
    entries: dict[str, Entry] = field(repr=False)
    history_hashes: tuple[str, ...] = field(repr=False)

    @property
    def identity(self) -> str:
        """The id, which no other budget has."""
        return str(self.text["terms"]["id"])

    @property
    def history_hash(self) -> str:
        """SHA-256 (hex) that fixes the terms and the whole history."""
        return self.history_hashes[-1]

    @property
    def spent(self) -> int:
        """The sum that counts against the limit, in 1/GRID of the filter's unit."""
        return sum(entry.cost for entry in self.entries.values())

    @property
    def left(self) -> int:
        """The rest that a new run may reserve, in 1/GRID of the filter's unit."""
        return self.limit - self.spent

    def period(self) -> str:
        """Return the period in words."""
        if self.start is None and self.end is None:
            return "for all time"
        return f"{f'from {self.start} ' if self.start else ''}{f'to {self.end} ' if self.end else 'on '}(days in UTC)"

    def is_open(self) -> bool:
        """Return whether the period includes today."""
        day = today()
        return (self.start is None or self.start <= day) and (self.end is None or day <= self.end)

    def check_open(self, run: str | None = None) -> None:
        """Raise BudgetExhausted unless the period includes today; a settled `run` always passes."""
        if run is not None and run in self.entries and self.entries[run].state == "settled":
            return
        day = today()
        if self.start is not None and day < self.start:
            raise BudgetExhausted(f"budget '{self.name}': its period begins on {self.start}, and today is {day} (UTC)")
        if self.end is not None and day > self.end:
            raise BudgetExhausted(
                f"budget '{self.name}': its period ended on {self.end}, and today is {day} (UTC); make a new budget "
                f"for the next period"
            )

    def check_fits(self, events: Sequence[Event], about: Mapping[str, Any]) -> None:
        """Raise BudgetExhausted when these releases do not fit, PrivacyError when they must not be added."""
        if not events:
            return
        users = about.get("users")
        if users is not None and self.filter.delta >= 1 / users:
            raise PrivacyError(
                f"budget '{self.name}': its delta {self.filter.delta:g} must be below 1/users = {1 / users:.3g}; make "
                f"one with a lower --delta"
            )
        seed = seed_of(about)
        for entry in self.entries.values():
            if seed is not None and entry.cost and seed_of(entry.about) == seed:
                raise PrivacyError(
                    f"budget '{self.name}': run {entry.run} drew its noise from the same seed, and the same noise on "
                    f"two releases can be taken off; give this run another seed, or none"
                )
        cost = self.filter.cost(events)
        if cost > self.left:
            sampled = any(event.sampling < 1 for event in events) and self.filter.name == "gdp"
            raise BudgetExhausted(
                f"budget '{self.name}': {amount(self.left)} of {amount(self.limit)} {self.filter.unit} is left, "
                f"enough for a run at epsilon {floor(self.filter.run_epsilon(self.left))} with full participation, and "
                f"this run needs {amount(cost)}; the period ends {f'on {self.end}' if self.end else 'never'}"
                + ("; a gdp budget counts no amplification by sampling, a renyi one does" if sampled else "")
            )


def read(path: Path) -> Budget:
    """Read the budget in a file, and check every hash, cost and sum. The file is not touched.

    Raises:
        InputError: when it cannot be read.
        VerificationError: when it was changed by anything but this module.
    """
    path = path.resolve()
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(
            f"{path}: the budget cannot be read ({error.strerror}); make one with: fedrec audit budget new"
        ) from None
    return parse(path, content)


def parse(path: Path, content: bytes) -> Budget:
    """Parse the budget in the `content` of the file `path`.

    Raises:
        VerificationError: as `read`.
    """
    try:
        if len(content) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MB")
        text = json.loads(content)
        if content != render(text):
            raise ValueError("the text is not as it was written")
        if text["version"] != VERSION:
            raise ValueError(f"version {text['version']} is not {VERSION}")
        return checked(path, text)
    except (*_DAMAGE, PrivacyError, VerificationError) as error:
        raise VerificationError(
            f"{path}: the budget was damaged or edited ({error}); restore the newest copy"
        ) from None


def checked(path: Path, text: dict[str, Any]) -> Budget:
    """Check the budget that `text` describes.

    Raises:
        ValueError: when the text is no valid budget (also KeyError, TypeError or FedrecError).
    """
    try:
        _Text.model_validate(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"'{'.'.join(map(str, first['loc']))}': {first['msg']}") from None
    terms, history = text["terms"], text["history"]
    recorded = terms["filter"]
    if set(text) != {"version", "terms", "history", "head"}:
        raise ValueError("it has more keys than a budget")
    rule = Filter(recorded["name"], float(terms["epsilon"]), float(terms["delta"]), recorded["order"])
    limit = int(recorded["limit"].replace(".", ""))
    if abs(limit - rule.limit) > rule.limit // DRIFT + 1:
        raise ValueError("the limit is not what the cap gives")
    hashes = [digest(terms)]
    entries: dict[str, Entry] = {}
    spent = 0
    kinds: set[tuple[str, str]] = set()
    for record in history:
        if record["previous"] != hashes[-1]:
            raise ValueError("the history does not follow from itself")
        hashes.append(digest(record))
        kinds |= {(event["sampling"], event["noise_multiplier"]) for event in record["events"]}
        if len(kinds) > MOST_KINDS:
            raise ValueError(f"it has more than {MOST_KINDS} kinds of releases")
        entry, before = _entry(record, entries, rule), entries.get(record["run"])
        entries[entry.run] = entry
        spent += entry.cost - (before.cost if before is not None else 0)
        if spent > limit + limit // DRIFT:
            raise ValueError(f"run {entry.run} passes the limit")
    if text["head"] != hashes[-1]:
        raise ValueError("the head is not that of the history")
    start, end = (None if terms[key] is None else date.fromisoformat(terms[key]) for key in ("start", "end"))
    return Budget(path, terms["name"], terms["who"], start, end, rule, limit, text, entries, tuple(hashes))


def _entry(record: Mapping[str, Any], entries: Mapping[str, Entry], rule: Filter) -> Entry:
    run, events = record["run"], tuple(from_json(record["events"], "the history"))
    cost = rule.cost(events)
    if record["what"] == "reserve":
        if run in entries:
            raise ValueError(f"run {run} reserved twice")
        return Entry(run, record["when"], record["about"], events, cost, cost=cost)
    before = entries[run]
    if record["what"] != "settle" or before.released is not None:
        raise ValueError(f"run {run} was settled twice")
    if cost > before.reserved_cost:
        raise ValueError(f"run {run} charged more than it reserved")
    return Entry(run, before.when, before.about, before.reserved, before.reserved_cost, events, cost)


def noise_text(seed: int | None) -> str:
    """Return the text of a budget file for the noise of a run: its seed, or "secret" for None."""
    return "secret" if seed is None else f"seed {seed}"


def seed_of(about: Mapping[str, Any]) -> int | None:
    """Return the seed that the noise of a run follows from, by its `about`; None for secret noise."""
    seeded = re.fullmatch("seed (-?[0-9]+)", str(about.get("noise", "")))
    return None if seeded is None else int(seeded[1])


def today() -> date:
    """Return the day in UTC."""
    return datetime.now(UTC).date()


def amount(units: int, digits: int = 6) -> str:
    """Return units of a filter's sum as a decimal, rounded up."""
    whole = -(-units // 10 ** (15 - digits))
    return f"{whole // 10**digits}.{whole % 10**digits:0{digits}d}"


def floor(epsilon: float) -> str:
    """Return an epsilon that still fits, as text, rounded DOWN to 4 decimals."""
    return f"{int(epsilon * 1e4) / 1e4:.4f}"


def render(text: Mapping[str, Any]) -> bytes:
    """Return the one form in which a budget is written."""
    return (json.dumps(text, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def digest(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of the terms or of a record."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
