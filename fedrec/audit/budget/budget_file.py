"""Drawing from a budget file: reserve before a run's first release, settle at its end.

A run RESERVES its whole plan and later SETTLES for the charges of its ledger. The returned part was certainly never
released. A charge counts even if a crash may have prevented its release.

| what happens | state of the file afterwards |
|---|---|
| two processes at once | one waits for the other, then sees what it wrote |
| a crash while the file is written | the old file: it is replaced whole, by renaming |
| a crash before a run has settled | all that the run reserved counts, until it continues or is settled |
| a byte was edited, cut off or added | VerificationError: text, hash chain, costs and sums are all checked |
| an older copy was put back | VerificationError for a run that has seen a newer one; a kept head shows it to others |
"""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from fedrec.audit.budget.budget import VERSION, Budget, Entry, amount, checked, digest, read, render
from fedrec.audit.entries.events import to_json
from fedrec.durable import replace, sync
from fedrec.errors import InputError, VerificationError
from fedrec.privacy.accounting import Event
from fedrec.privacy.filters import Filter

PATIENCE = 10.0
"""Seconds to wait for another process that is writing."""


def create(path: Path, name: str, who: str, rule: Filter, start: date | None = None, end: date | None = None) -> Budget:
    """Make a budget file.

    Raises:
        InputError: when the file exists, or when the period ends before it begins.
    """
    if start is not None and end is not None and end < start:
        raise InputError(f"the period ends on {end}, before it begins on {start}; swap --start and --end")
    path = path.resolve()
    terms = {
        "id": secrets.token_hex(8),
        "name": name,
        "who": who,
        "unit": "user",
        "adjacency": "add or remove one user",
        "start": start.isoformat() if start else None,
        "end": end.isoformat() if end else None,
        "epsilon": repr(rule.epsilon),
        "delta": repr(rule.delta),
        "filter": {
            "name": rule.name,
            "order": rule.order,
            "unit": rule.unit,
            "limit": amount(rule.limit, 15),
            "theorem": rule.theorem,
        },
        "made": _now(),
    }
    text = {"version": VERSION, "terms": terms, "history": [], "head": digest(terms)}
    with locked(path):
        if path.exists():
            raise InputError(f"{path}: is there already; a budget is never made anew, choose another name")
        _write(path, text)
    return read(path)


def reserve(path: Path, run: str, events: Sequence[Event], about: Mapping[str, Any]) -> Entry:
    """Reserve the whole plan of a run, on disk before this returns; a second call returns the same reservation.

    Raises:
        BudgetExhausted: when the plan does not fit, or today is outside the period.
        PrivacyError: when it must not be added.
        VerificationError: when the run has reserved another plan.
    """
    with locked(path):
        budget = read(path)
        budget.check_open(run)
        found = budget.entries.get(run)
        if found is not None:
            if to_json(found.reserved) != to_json(events):
                raise VerificationError(f"{path}: run {run} reserved another plan; continue the run as it began")
            return found
        budget.check_fits(events, about)
        record = {"what": "reserve", "run": run, "when": _now(), "about": dict(about), "events": to_json(events)}
        return _append(budget, record).entries[run]


def settle(path: Path, run: str, released: Sequence[Event]) -> Entry:
    """Count a run for the charges of its ledger from now on, and return the rest. It must release nothing more.

    To settle a run again for the same charges changes nothing.

    Raises:
        VerificationError: for a run that is unknown, was settled for something else, or charged more than it reserved.
    """
    with locked(path):
        budget = read(path)
        found = budget.entries.get(run)
        if found is None:
            raise VerificationError(f"{path}: knows no run {run}; the file is older than the run, restore the newest")
        if found.released is not None:
            if to_json(found.released) != to_json(released):
                raise VerificationError(f"{path}: run {run} was settled for something else")
            return found
        return _append(budget, {"what": "settle", "run": run, "when": _now(), "events": to_json(released)}).entries[run]


def _append(budget: Budget, record: dict[str, Any]) -> Budget:
    record = {**record, "previous": budget.history_hash}
    text = {**budget.text, "history": [*budget.text["history"], record], "head": digest(record)}
    try:
        after = checked(budget.path, text)
    except ValueError as error:
        raise VerificationError(f"{budget.path}: {error}; nothing was changed") from None
    _write(budget.path, text)
    return after


def _write(path: Path, text: dict[str, Any]) -> None:
    try:
        replace(path, render(text))
        sync(path.parent)
    except OSError as error:
        raise InputError(f"{path}: the budget cannot be written ({error.strerror}), so nothing is drawn") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file next to a budget; the system releases it when the process dies."""
    path = path.resolve()
    try:
        handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"{path}: the budget cannot be locked ({error.strerror}); check folder and rights") from None
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InputError(f"{path}: another process holds the budget; try again when it is done") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
