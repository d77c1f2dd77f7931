"""A whole run of a scenario, from the first record to the last: one skeleton for simulations and deployments.

The two differ in where their users are (`federation`) and in what they know of the result (`results`).
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fedrec.algorithms.base import Shared
from fedrec.audit.budget.reservation import Reservation
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.report.html import page
from fedrec.audit.statement.received import receive
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

    resume: whether the folder holds the run already. data: facts of the data for the ledger. under: the circumstances
    of the run. identity: what a checkpoint keeps, so that another run cannot be resumed from it.
    comment: first lines of the scenario file. movable: paths of the scenario are written in full.
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

    @abstractmethod
    def federation(self) -> AbstractContextManager[Federation]:
        """Hook: the users, reachable while the context lasts."""

    @abstractmethod
    def results(self, outcome: Outcome, model: ReleasedModel) -> dict[str, Any]:
        """Hook: the parts of `summary.json` that a simulation and a deployment know differently."""

    def draw_plots(self, summary: dict[str, Any], outcome: Outcome) -> None:  # noqa: B027  (a deployment has none)
        """Draw the pictures of the run; none unless overridden."""

    @abstractmethod
    def on_round(self, report: RoundReport) -> None:
        """Report a finished round, which is safely on disk. It may raise to stop the run there."""

    @abstractmethod
    def observe(self, round_index: int, shared: Shared) -> dict[str, float]:
        """Figures of a round for `history.csv`."""

    def run(self) -> tuple[dict[str, Any], str | None]:
        """Train, release, and write the run's files.

        A KeyboardInterrupt passes through; the last finished round is safe then.
        Returns: the summary, and why the run ended early if it did.
        """
        if not self.resume:
            self.folder.begin()
        with self.folder.alone():
            return self.write()

    def write(self) -> tuple[dict[str, Any], str | None]:
        """As `run`, in a folder that no other process writes to."""
        folder, plan = self.folder, self.setup.plan
        if not self.resume:
            place = folder.scenario
            text = self.scenario.toml(self.comment, None if self.movable else place.parent)
            place.write_text(text, encoding="utf-8")
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
            coordinator = Coordinator(
                setup.algorithm,
                federation,
                setup.plan,
                ledger,
                folder.checkpoint,
                run=self.identity,
                begin=opening(ledger, folder, self.scenario, setup.plan, self.data, self.under, self.reservation),
                on_round=self.on_round,
                observe=self.observe,
            )
            return coordinator.run(resume=self.resume and folder.checkpoint.is_file())

    def _release(self, ledger: Ledger, outcome: Outcome) -> dict[str, Any]:
        algorithm, plan = self.setup.algorithm, self.setup.plan
        model = algorithm.release(outcome.shared)
        size = self.folder.write_model(model, algorithm.setting.catalogue.ids)
        results = self.results(outcome, model)
        common = run_summary(self.scenario, self.public_seed, algorithm, plan, self.reservation, outcome, size)
        summary = common | results
        close(ledger, self.folder, outcome, summary, self.under, plan)
        return summary
