"""A run's side of a budget: it reserves before its first release, stays within that, and settles at its end.

Two files are next to the ledger. `budget.json` ties the run to its reservation. The run's process holds `budget.lock`
while it lives, so that no command settles a run that may still release.
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec.audit.budget import budget_file
from fedrec.audit.budget.budget import Budget, Entry, amount, read
from fedrec.audit.entries.events import charges, events_of
from fedrec.audit.entries.records import PopulationBudget
from fedrec.audit.log.ledger import read_ledger
from fedrec.charge import Charge
from fedrec.durable import replace, sync
from fedrec.errors import BudgetExhausted, InputError, PrivacyError, VerificationError
from fedrec.privacy.accounting import Event
from fedrec.record_parts import Record

_LARGEST = 1 << 16  # bytes of a tie


class Tie(Record):
    """The reservation of a run, as the run's folder names it. Every field is text."""

    run: str
    """What the budget's file calls the run"""
    budget: str
    """The budget's id"""
    name: str
    who: str
    epsilon: str
    delta: str
    theorem: str
    seen: str
    """SHA-256 (hex) that fixes the budget's file as the run saw it last"""


@dataclass(frozen=True)
class BudgetUse:
    """A shared budget as a run's summary shows it. Numbers are text; sums are in `unit`, rounded up."""

    name: str
    who: str
    run: str
    period: str
    epsilon: str
    delta: str
    filter: str
    theorem: str
    unit: str
    limit: str
    this_run: str
    all_runs: str
    head: str
    """SHA-256 (hex) that fixes the budget's terms and history"""


class Reservation:
    """The part of a budget that one run draws: a context around the run's rounds, with the ledger made before.

    Args:
        path: of the budget.
        ledger: of the run, whose folder keeps the tie.
        planned: all releases of the run.
        about: the run's description of itself (`Entry.about`).

    Raises:
        InputError: as `budget.read`.
        VerificationError: as `budget.read`.
        PrivacyError: for a run without privacy.
    """

    def __init__(self, path: Path, ledger: Path, planned: Sequence[Event], about: Mapping[str, Any]) -> None:
        if about.get("target_epsilon") is None:
            raise PrivacyError("privacy.budget: a run without privacy cannot draw from a budget; set privacy.epsilon")
        self.path, self.ledger, self.planned, self.about = path.resolve(), ledger, list(planned), dict(about)
        self.budget = read(self.path)
        self._run: str | None = None
        self._cap: int | None = None
        self._held: contextlib.ExitStack | None = None

    def check(self) -> None:
        """Check, before any file of the run is made, that entering would succeed. Another run may still interfere.

        Raises:
            BudgetExhausted: as entering.
            PrivacyError: as entering.
        """
        tie = read_tie(self.ledger)
        self.budget.check_open(tie.run if tie else None)
        if tie is None or tie.run not in self.budget.entries:
            self.budget.check_fits(self.planned, self.about)

    def __enter__(self) -> "Reservation":
        self._held = contextlib.ExitStack()
        try:
            self._held.enter_context(_alive(self.ledger))
            self._begin()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Settle a finished run. An interrupted one keeps its reservation, since it may continue."""
        try:
            if kind is None:
                self._settle()
        finally:
            if self._held is not None:
                self._held.close()

    def _begin(self) -> None:
        """Reserve, or take up the reservation that the run's folder names.

        Raises: BudgetExhausted when it does not fit or the period is not now; VerificationError when the ledger has
        charges that the budget file lacks.
        """
        tie = read_tie(self.ledger)
        if tie is None:
            budget, rule = self.budget, self.budget.filter
            tie = Tie(
                run=secrets.token_hex(8),
                budget=budget.identity,
                name=budget.name,
                who=budget.who,
                epsilon=repr(rule.epsilon),
                delta=repr(rule.delta),
                theorem=rule.theorem,
                seen=budget.history_hash,
            )
            _write(self.ledger, tie)
        _check_seen(self.budget, tie)
        if tie.run not in self.budget.entries and _charged(self.ledger):
            raise VerificationError(
                f"{self.path}: knows nothing of this run, whose ledger holds charges; restore the newest budget file"
            )
        entry = budget_file.reserve(self.path, tie.run, self.planned, self.about)
        self.budget = read(self.path)
        self._run, self._cap = entry.run, entry.cost
        self._see(tie)

    def allow(self, events: Sequence[Event]) -> None:
        """Check the next release of the run, for `PrivacyPlan.draw_from`.

        Raises:
            BudgetExhausted: when it exceeds the reservation, or the period is over.
        """
        if self._cap is None:
            raise PrivacyError("the run has not reserved its budget; enter the context before the first charge")
        self.budget.check_open()
        cost = self.budget.filter.cost(events)
        if cost > self._cap:
            raise BudgetExhausted(
                f"budget '{self.budget.name}': the run may spend {amount(self._cap)} {self.budget.filter.unit} and the "
                f"next release would bring it to {amount(cost)}; everything up to here is saved"
            )

    def _settle(self) -> None:
        """Return the part that the ledger never charged. Nothing more can be charged then."""
        assert self._run is not None
        entry = budget_file.settle(self.path, self._run, events_of(_charged(self.ledger)))
        self.budget, self._cap = read(self.path), entry.cost
        tie = read_tie(self.ledger)
        assert tie is not None
        self._see(tie)

    def _see(self, tie: Tie) -> None:
        """Write the tie, with the present state of the budget's file."""
        _write(self.ledger, tie.model_copy(update={"seen": self.budget.history_hash}))

    def reservation(self) -> PopulationBudget:
        """Return the ledger's record of the budget, once the run has reserved its part."""
        budget, entry = self.budget, self.budget.entries[self._run or ""]
        return PopulationBudget(
            id=budget.identity,
            name=budget.name,
            who=budget.who,
            period=budget.period(),
            epsilon=repr(budget.filter.epsilon),
            delta=repr(budget.filter.delta),
            filter=budget.filter.name,
            order=budget.filter.order,
            theorem=budget.filter.theorem,
            unit=budget.filter.unit,
            limit=amount(budget.limit),
            reserved=amount(entry.reserved_cost),
            all_runs=amount(budget.spent),
            run=entry.run,
            head=budget.history_hash,
        )

    def describe(self) -> BudgetUse:
        """Return the present state of the budget, for a run's summary."""
        budget, entry = self.budget, self.budget.entries[self._run or ""]
        return BudgetUse(
            name=budget.name,
            who=budget.who,
            run=entry.run,
            period=budget.period(),
            epsilon=repr(budget.filter.epsilon),
            delta=repr(budget.filter.delta),
            filter=budget.filter.name,
            theorem=budget.filter.theorem,
            unit=budget.filter.unit,
            limit=amount(budget.limit),
            this_run=amount(entry.cost),
            all_runs=amount(budget.spent),
            head=budget.history_hash,
        )


def settle_left(path: Path, ledger: Path) -> Entry:
    """Settle a run that will not continue, by its ledger.

    Raises:
        InputError: when the run is still active, or never drew from the budget.
        VerificationError: when the files of run and budget do not belong together.
    """
    tie = read_tie(ledger)
    if tie is None:
        raise InputError(f"{ledger.parent}: no run that draws from a budget; name a run's folder")
    with _alive(ledger):
        _check_seen(read(path), tie)
        return budget_file.settle(path.resolve(), tie.run, events_of(_charged(ledger)))


def _charged(ledger: Path) -> list[Charge]:
    return charges(entry.payload for entry in read_ledger(ledger)[0])


def read_tie(ledger: Path) -> Tie | None:
    """Read the reservation of a run; None for a run that draws from no budget.

    Args:
        ledger: of the run, whose folder keeps the tie.

    Raises:
        VerificationError: for a damaged file.
    """
    try:
        with _tie(ledger).open("rb") as file:
            return Tie.model_validate(json.loads(file.read(_LARGEST)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        raise VerificationError(f"{_tie(ledger)}: was damaged; restore it from a copy of the run") from None


def _tie(ledger: Path) -> Path:
    return ledger.with_name("budget.json")


def _check_seen(budget: Budget, tie: Tie) -> None:
    if tie.seen not in budget.history_hashes:
        raise VerificationError(
            f"{budget.path}: does not follow from what this run saw of its budget (head {tie.seen[:16]}); it is an "
            f"older copy or another file, restore the newest"
        )


@contextlib.contextmanager
def _alive(ledger: Path) -> Iterator[None]:
    """Hold the run's lock. Raises: InputError when its process lives."""
    try:
        handle = os.open(ledger.with_name("budget.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise InputError(f"{ledger.parent}: cannot be written ({error.strerror}); check folder and rights") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(f"{ledger.parent}: the run is active in another process; wait for it or stop it") from None
    finally:
        os.close(handle)


def _write(ledger: Path, tie: Tie) -> None:
    replace(_tie(ledger), (json.dumps(tie.payload(), indent=2) + "\n").encode())
    sync(ledger.parent)
