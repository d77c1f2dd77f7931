"""The Coordinator: one loop over any Federation.

charge -> ledger entry on disk -> sample -> clipped sums -> noise -> update -> checkpoint -> report. The coordinator
alone samples and adds noise, through the plan. The order is the guarantee: a release that may have happened is always
in the ledger, so a crash can cost budget and can never hide spending.
An algorithm may stop a run early, from the private sums alone. The run then pays for the rounds that it leaves out.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.audit.entries.account import placed
from fedrec.audit.entries.events import charges
from fedrec.audit.entries.records import BeginRecord, StoppedRecord
from fedrec.audit.log.envelope import Entry
from fedrec.charge import Charge
from fedrec.errors import BudgetExhausted, PrivacyError, VerificationError
from fedrec.federation.hosted import Stopwatch
from fedrec.privacy.fixed_point import MOST_BITS
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import SumQuery
from fedrec.run.checkpoint import TrainingCheckpoint, digest, load_checkpoint
from fedrec.run.federation import Federation, RoundVoid

log = logging.getLogger("fedrec.run")

BYTES_PER_NUMBER = 4
MOST_VOIDS = 3
"""Times that a round may be void before the run stops."""
OTHER_STOP = "the ledger records another stop than this run's; restore the ledger that belongs to it"


class RunLedger(Protocol):
    """The ledger of a run, append-only. `append` returns when the entry is on disk."""

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries, oldest first."""
        ...

    @property
    def head(self) -> str:
        """Hash that fixes all entries."""
        ...

    def append(self, payload: Mapping[str, Any], about: tuple[str, str] | None = None) -> Any:
        """Write one entry and sync it.

        Args:
            payload: the JSON-able content of the entry.
            about: name and SHA-256 (hex) of the object that the entry describes.
        """
        ...

    def seal(self) -> None:
        """Sign all entries written so far."""
        ...


@dataclass(frozen=True)
class RoundReport:
    """The report of one finished round.

    The guarantee does not cover the times, which grow with the realised cohort, nor the metrics of `observe`.

    Attributes:
        round: position of the round, from 0.
        rounds: number of rounds of the run.
        seconds: wall time of the whole round.
        users: expected size of the cohort, never the realised one.
        epsilon: epsilon spent so far, by accountant; None without privacy.
        bytes_up: bytes that one user who is asked sends: 4 a number, fewer where the query has few bits; the modulus'
            bits where users add the noise.
        bytes_down: bytes that a device with a cached model downloads for the next round.
        phases: seconds of each part of the round.
        metrics: the result of `observe`; empty in rounds without one.
    """

    round: int
    rounds: int
    seconds: float
    users: float
    epsilon: dict[str, float | None]
    bytes_up: int
    bytes_down: int
    phases: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the round as one flat row, for `history.csv` and the checkpoint."""
        row: dict[str, Any] = {"round": self.round, "seconds": self.seconds, "users": self.users}
        row |= {f"epsilon_{name}": value for name, value in self.epsilon.items()}
        return row | {"bytes_up": self.bytes_up, "bytes_down": self.bytes_down} | self.metrics


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Attributes:
        shared: the final public state.
        rounds: number of finished rounds.
        history: one row for each finished round.
        exhausted: the message of the exhausted budget; None where the budget sufficed.
        stopped: the algorithm's reason to end the run early; None where it did not.
    """

    shared: Shared
    rounds: int
    history: list[dict[str, Any]]
    exhausted: str | None = None
    stopped: str | None = None


class Coordinator:
    """Runs an algorithm over a federation under a plan.

    Args:
        algorithm: the algorithm to run.
        federation: the users, who clip by the same plan.
        plan: the privacy plan, which samples, charges and adds noise.
        ledger: the run's ledger; None only for a simulated counterfactual, which releases nothing.
        checkpoint: file for the state; None to keep none.
        run: facts that identify the run, for the checkpoint.
        begin: the ledger's record before the first charge.
        on_round: called when a round is on disk. It may raise to stop the run there.
        observe: `observe(round_index, shared)` returns figures of a round for the history.
    Raises: PrivacyError when the federation has another plan.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        federation: Federation,
        plan: PrivacyPlan,
        ledger: RunLedger | None = None,
        checkpoint: Path | None = None,
        *,
        run: Mapping[str, Any] | None = None,
        begin: BeginRecord | None = None,
        on_round: Callable[[RoundReport], None] | None = None,
        observe: Callable[[int, Shared], dict[str, float]] | None = None,
    ) -> None:
        if federation.plan is not plan:
            raise PrivacyError("the federation clips by another plan; make both with the same one")
        self.algorithm, self.federation, self.plan = algorithm, federation, plan
        self.ledger, self.checkpoint = ledger, checkpoint
        self.identity, self.begin = dict(run or {}), begin
        self.on_round, self.observe = on_round, observe

    def run(self, *, resume: bool = False) -> Outcome:
        """Run to the last round, to the end of the budget, or to where the algorithm stops.

        A run that stops is charged for the rounds that it leaves out. Its epsilon is then the planned one, whatever
        the outputs were. The ledger's `stopped` entry precedes those charges.

        Args:
            resume: continue from the checkpoint. A seeded plan gives the same bits as an uninterrupted run: a round
                that was charged and not saved is released identically, so it is not charged again. Without a seed the
                noise is fresh. The repeated round is then a second release with a charge of its own, and the budget
                may end before the last round.
        """
        start = self._resumed() if resume else self._fresh()
        if self.ledger is not None and self.begin is not None and not self.ledger.entries:
            self.ledger.append(self.begin.payload())
        try:
            if not resume:  # a state saved again with a longer ledger would claim charges that it lacks
                self._save(0, start.shared, [])
            return self._rounds(start)
        finally:
            if self.ledger is not None:
                self.ledger.seal()

    def prepare(self) -> None:
        """Save the state before the first round, so that a run whose first record is public can be resumed."""
        self._save(0, self._fresh().shared, [])

    def _fresh(self) -> TrainingCheckpoint:
        return TrainingCheckpoint(0, self.algorithm.initial(), run=self.identity)

    def _rounds(self, start: TrainingCheckpoint) -> Outcome:
        shared, history = start.shared, list(start.history)
        for round_index in range(start.round, self.algorithm.rounds):
            stopped = self.algorithm.stop(shared)
            if stopped is not None:
                self._stop(round_index, stopped, shared)
                return Outcome(shared, round_index, history, stopped=stopped)
            noted = self._noted_stop()
            if noted is not None and noted.round < round_index:
                raise VerificationError(OTHER_STOP)
            began = time.perf_counter()
            try:
                shared, report = self._charged(round_index, shared, began)
            except BudgetExhausted as error:
                return Outcome(shared, round_index, history, exhausted=str(error))
            history.append(report.row())
            self._save(round_index + 1, shared, history)
            if self.on_round is not None:
                self.on_round(report)
        return Outcome(shared, self.algorithm.rounds, history)

    def _charged(self, round_index: int, shared: Shared, began: float) -> tuple[Shared, RoundReport]:
        """Charge a round and run it. A void round has its charge, and is tried again for another one.

        Raises: BudgetExhausted when the plan allows no further charge; RoundVoid after `MOST_VOIDS` void rounds.
        """
        for tried in range(1, MOST_VOIDS + 1):
            self._record(self.plan.charge(round_index), shared)
            try:
                return self._round(round_index, shared, began)
            except RoundVoid as error:
                if tried == MOST_VOIDS:
                    raise
                log.warning("%s; it was charged, and is tried again for another charge", error)
        raise AssertionError("the last try returned or raised")

    def _round(self, round_index: int, shared: Shared, began: float) -> tuple[Shared, RoundReport]:
        cohort = self.plan.sample(round_index)
        totals = self.federation.clipped_sums(self.algorithm, shared, round_index, cohort)
        watch = Stopwatch(self.algorithm.facts.device)
        sums = {
            # The noise, here and nowhere else.
            query.name: self.plan.privatise(round_index, query, totals.pop(query.name))
            for query in self.algorithm.queries(round_index)
        }
        watch.lap("noise")
        before, shared = shared, self.algorithm.update(shared, sums, round_index)
        watch.lap("update")
        ended = time.perf_counter()
        return shared, RoundReport(
            round=round_index,
            rounds=self.algorithm.rounds,
            seconds=ended - began,
            users=self.plan.expected_cohort,
            epsilon={name: value if math.isfinite(value) else None for name, value in self.plan.epsilon().items()},
            bytes_up=sum(self._bytes_up(round_index, query) for query in self.algorithm.queries(round_index)),
            bytes_down=self._changed_bytes(before, shared, round_index),
            phases={**self.federation.timings, **watch.seconds},
            metrics=self.observe(round_index, shared) if self.observe is not None else {},
        )

    def _bytes_up(self, round_index: int, query: SumQuery) -> int:
        if self.plan.discrete is None:
            fewer = query.bits < MOST_BITS and self.plan.private
            return query.size * (self.plan.lattice(query).octets(query.clip_norm, 1) if fewer else BYTES_PER_NUMBER)
        made = self.plan.discrete.encoding(round_index, query.name)
        return -(-made.dimension * made.bits // 8)

    def _changed_bytes(self, before: Shared, after: Shared, round_index: int) -> int:
        if round_index + 1 == self.algorithm.rounds:
            return 0  # from here on devices fetch the model
        needed = self.algorithm.for_devices(after, round_index + 1)
        held = self.algorithm.for_devices(before, round_index)
        known = {id(tensor) for tensor in held.values()}  # under another name, too
        return sum(
            tensor.numel() * tensor.element_size()
            for name, tensor in needed.items()
            if id(tensor) not in known and not (name in before and torch.equal(before[name], tensor))
        )

    def _stop(self, round_index: int, why: str, shared: Shared) -> None:
        """Record why the run ends before `round_index`, and pay for the remaining rounds as if they had run."""
        unrun = list(range(round_index, self.algorithm.rounds))
        noted = StoppedRecord(type="stopped", round=round_index - 1, why=why, unrun=unrun)
        if self.ledger is not None and self._noted_stop() is None:
            self.ledger.append(noted.payload())
        if self.ledger is not None and self._noted_stop() != noted:
            raise VerificationError(OTHER_STOP)
        for left in [left for left in unrun if left not in self.plan.charged]:
            try:
                self._record(self.plan.forfeit(left), shared)
            except BudgetExhausted:  # a round that was paid for twice took its place
                return

    def _noted_stop(self) -> StoppedRecord | None:
        entries = self.ledger.entries if self.ledger is not None else ()
        return next((stop for _, stop in placed((entry.payload for entry in entries), StoppedRecord)), None)

    def _record(self, charge: Charge, shared: Shared) -> None:
        """Write the charge to disk, about the state that the round starts from."""
        if self.ledger is None:
            return
        state = digest(shared)
        place, made = len(self.plan.charged) - 1, _charges(self.ledger.entries)
        if place < len(made):  # a seeded run repeats a release that its ledger holds already
            if made[place].payload != charge.payload() or made[place].about.sha256 != state:
                raise VerificationError(
                    f"the ledger's charge {place} differs from the one that this run repeats; restore the ledger"
                )
            return
        self.ledger.append(charge.payload(), ("state", state))

    def _save(self, round_index: int, shared: Shared, history: list[dict[str, Any]]) -> None:
        if self.checkpoint is None:
            return
        entries, head = (len(self.ledger.entries), self.ledger.head) if self.ledger is not None else (0, "")
        TrainingCheckpoint(round_index, shared, entries, head, history, self.identity).save(self.checkpoint)

    def _resumed(self) -> TrainingCheckpoint:
        if self.checkpoint is None:
            raise ValueError("resume needs a checkpoint file")
        start = load_checkpoint(self.checkpoint, str(self.algorithm.facts.device))
        entries = self.ledger.entries if self.ledger is not None else ()
        if len(entries) < start.ledger_entries:
            raise VerificationError(
                f"{self.checkpoint}: the state was written after {start.ledger_entries} records and the ledger holds "
                f"{len(entries)}; restore the ledger that belongs to it"
            )
        if self.ledger is not None and len(entries) == start.ledger_entries and self.ledger.head != start.ledger_head:
            raise VerificationError(
                f"{self.checkpoint}: the ledger is another run's; restore the one that belongs to it"
            )
        kept = start.ledger_entries if self.plan.seeded else len(entries)
        kept_charges = charges(entry.payload for entry in entries[:kept])
        self.plan.restore([charge.round for charge in kept_charges], [charge.step for charge in kept_charges])
        return start


def _charges(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.payload.get("type") == "charge"]
