"""A whole run of a scenario, from the first record to the last: one skeleton for simulations and deployments.

The two differ in the place of their users (`federation`) and in the results that they can measure (`results`).
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fedrec.algorithms.base import Shared
from fedrec.audit.budget.reservation import Reservation
from fedrec.audit.entries.card_terms import CardTerms
from fedrec.audit.entries.records import BeginRecord
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.report.html import page
from fedrec.audit.statement.received import receive
from fedrec.durable import replace
from fedrec.model import ReleasedModel
from fedrec.run.coordinator import Coordinator, Outcome, RoundReport
from fedrec.run.directory import RunDirectory
from fedrec.run.federation import Federation
from fedrec.run.records import Circumstances, Data, close, finished, fix_files, opening, write_statement
from fedrec.run.scenario import Scenario
from fedrec.run.setup import RunSetup
from fedrec.run.summary import run_summary


class ScenarioRun(ABC):
    """One run in one folder. A subclass sets the attributes below, and overrides the two hooks.

    Attributes:
        folder: the run's folder.
        scenario: the resolved scenario.
        public_seed: seed of everything but secret noise.
        resume: whether the folder contains the run already.
        setup: the priced run: algorithm and plan.
        reservation: the run's part of a shared budget; None without one.
        data: facts of the data, for the ledger.
        under: circumstances of the run, for the ledger.
        identity: facts in the checkpoint, by which another run is refused.
        comment: first lines of the scenario file.
        card: the run card's own fields; None for a simulation, whose users are asked by nobody else.
        movable: write the scenario's paths in full, since the folder may be moved.
    """

    folder: RunDirectory
    scenario: Scenario
    public_seed: int
    resume: bool
    setup: RunSetup
    reservation: Reservation | None
    data: Data
    under: Circumstances
    identity: dict[str, Any]
    comment: str = ""
    movable: bool = False
    card: CardTerms | None = None

    @abstractmethod
    def federation(self) -> AbstractContextManager[Federation]:
        """Hook: return the users, reachable within the context."""

    @abstractmethod
    def results(self, outcome: Outcome, model: ReleasedModel) -> dict[str, Any]:
        """Hook: return the parts of `summary.json` in which a simulation and a deployment differ."""

    def publish(self, ledger: Ledger, begin: BeginRecord) -> None:
        """Append the first record of a new run, whose `card` nodes demand, before anything is charged."""
        if not ledger.entries:
            ledger.append(begin.payload())

    def draw_plots(self, summary: dict[str, Any], outcome: Outcome) -> None:  # noqa: B027  (a deployment has none)
        """Draw the plots of the run; none unless overridden."""

    @abstractmethod
    def on_round(self, report: RoundReport) -> None:
        """Report a finished round that is on disk. It may raise to stop the run there."""

    @abstractmethod
    def observe(self, round_index: int, shared: Shared) -> dict[str, float]:
        """Return figures of a round for `history.csv`."""

    def run(self) -> tuple[dict[str, Any], str | None]:
        """Train, release, and write the run's files.

        A KeyboardInterrupt passes through. The last finished round is then on disk.

        Returns: the summary, and the message of an exhausted budget, or None.
        """
        if not self.resume:
            self.folder.begin()
        with self.folder.alone():
            return self.write()

    def write(self) -> tuple[dict[str, Any], str | None]:
        """Train, release, and write the run's files, in a folder that this process has locked."""
        folder, plan = self.folder, self.setup.plan
        if not self.resume:
            place = folder.scenario
            text = self.scenario.toml(self.comment, None if self.movable else place.parent)
            replace(place, text.encode())
        ledger = Ledger(folder.ledger)
        folder.public_key.write_bytes(ledger.key.public.pem())
        outcome = self._train(ledger)
        folder.write_history(outcome.history)
        write_statement(folder, ledger, plan)
        summary = finished(ledger, folder) or self._release(ledger, outcome)
        write_statement(folder, ledger, plan)
        self.draw_plots(summary, outcome)
        folder.report.write_text(page(receive(folder.path)), encoding="utf-8")
        fix_files(ledger, folder)
        return summary, outcome.exhausted

    def _train(self, ledger: Ledger) -> Outcome:
        setup, folder = self.setup, self.folder
        with self.federation() as federation, self.reservation or nullcontext():
            begin = opening(ledger, folder, self.scenario, setup.plan, self.data, self.under, self.reservation)
            if self.card is not None:
                begin = begin.model_copy(update={"card": self.card})
            coordinator = Coordinator(
                setup.algorithm,
                federation,
                setup.plan,
                ledger,
                folder.checkpoint,
                run=self.identity,
                begin=begin,
                on_round=self.on_round,
                observe=self.observe,
            )
            resumed = self.resume and folder.checkpoint.is_file()
            if self.card is not None:
                if not resumed:
                    coordinator.prepare()
                self.publish(ledger, begin)
            return coordinator.run(resume=resumed)

    def _release(self, ledger: Ledger, outcome: Outcome) -> dict[str, Any]:
        algorithm, plan = self.setup.algorithm, self.setup.plan
        model = algorithm.release(outcome.shared)
        size = self.folder.write_model(model, algorithm.facts.catalogue.ids)
        results = self.results(outcome, model)
        common = run_summary(self.scenario, self.public_seed, algorithm, plan, self.reservation, outcome, size)
        summary = common | results
        close(ledger, self.folder, outcome, summary, self.under, plan)
        return summary
