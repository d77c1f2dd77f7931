"""A whole simulation: data, training, evaluation, baselines, and all files of the run."""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.algorithms.base import Shared
from fedrec.data import datasets
from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig, Dataset
from fedrec.data.log import Log
from fedrec.data.splits import Split
from fedrec.devices import check_device, make_repeatable
from fedrec.evaluation.metrics import check_metrics
from fedrec.evaluation.private import private_report
from fedrec.evaluation.ratings import mean_errors
from fedrec.evaluation.report import evaluate
from fedrec.federation.data_request import DataRequest
from fedrec.model import ReleasedModel
from fedrec.privacy.banded.comparison import compare
from fedrec.privacy.plan import PrivacyConfig
from fedrec.run.checkpoint import load_checkpoint
from fedrec.run.coordinator import Outcome, RoundReport
from fedrec.run.directory import SECRET, RunDirectory
from fedrec.run.federation import Federation
from fedrec.run.records import Circumstances, Data
from fedrec.run.resume import open_run, same_data
from fedrec.run.scenario import Scenario
from fedrec.run.scenario_run import ScenarioRun
from fedrec.run.shared_budget import reserve
from fedrec.run.start import begun
from fedrec_sim.engines.flower import check_flower, flower_federation
from fedrec_sim.engines.leak import NOTE, STAMP
from fedrec_sim.engines.setup import SimulationSetup, popularity, scenario_split
from fedrec_sim.report import plots
from fedrec_sim.report.curve import Curve, curve_users
from fedrec_sim.report.fingerprint import fingerprint
from fedrec_sim.report.progress import RunProgress
from fedrec_sim.report.table import labelled_results
from fedrec_sim.report.tracking import of_round, of_run, tracking

NOT_COVERED = (
    "true metrics of a simulation, here, in order_free, baselines, history.csv, plots and evaluation/ranks.npz (where "
    "it was asked for), computed from held-out events: no deployment could see them, and the guarantee does not cover "
    "them; nor does it cover the counts under dataset, the fingerprint of the split and the seconds and memory under "
    "cost"
)
COUNTERFACTUAL = (
    "a run of its own on the same data, for comparison: its model is not released, and these are its true metrics, "
    "which no guarantee covers, whatever its epsilon"
)
WITHOUT = "the public seed left the others out of the run's catalogue, and nothing was asked about them"
SIMULATED = Circumstances(
    role="whoever ran the simulation, who is its server and all its users",
    population="counted in the log, and taken as public",
    simulation=True,
    unprotected=(
        "this is a simulation: all users' data lie in one place, where whoever runs it can read them",
        "true metrics, without noise, on the screen and in the private folder: summary, history, plots, checkpoint",
        "exact counts of the data, and the time and memory that the computation takes, on the screen and there",
    ),
)


def _simulated(data: DataConfig) -> Circumstances:
    """Return the circumstances of a simulation on `data`. Filters may make the number of users follow from events."""
    filters = [] if data.min_rating is None else [f"data.min_rating = {data.min_rating:g}"]
    filters += [f"data.k_core = {data.k_core}"] * (data.k_core > 1)
    if not filters:
        return SIMULATED
    counted = f"counted in the log after {' and '.join(filters)}: a person without an event left is not counted"
    return dataclasses.replace(
        SIMULATED, population=f"{counted}, so the number follows from private events; taken as public"
    )


BASELINE_NOISE = 1 << 40
"""Offset of the noise seed of a baseline. An offset of 1 would give the noise of the run with the next seed."""
SECRET_NOISE = (
    "No seed on purpose: the noise came from the operating system and was not kept. Anyone who has the noise can\n"
    "subtract it. Running this again draws fresh noise; with a seed everything repeats, and nothing is private."
)


class Simulation(ScenarioRun):
    """One run in one folder.

    Args:
        scenario: the scenario to run.
        folder: the run's folder.
        data_dir: folder of the datasets.
        progress: the display of stages and rounds.
        resume: continue the run in `folder`.
        track: name of the tracker that receives every round, None for none.
        log: a log in memory; None reads the log of the scenario.
        movable: write the scenario's paths in full, since the folder may be moved.
    Raises:
        InputError: for settings, data or a folder that do not fit.
        BudgetExhausted: when the plan does not fit into a shared budget.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: RunDirectory,
        data_dir: Path | None,
        progress: RunProgress,
        *,
        resume: bool,
        track: str | None = None,
        log: Log | None = None,
        movable: bool = False,
    ) -> None:
        check_device(scenario.engine.device, "engine.device")
        if scenario.engine.name == "flower":
            check_flower(scenario)
        self.track, self.data_dir, self.movable = track, data_dir, movable
        self.folder, self.progress = folder, progress
        self.scenario, self.public_seed, self.resume = open_run(scenario, folder, resume=resume)
        scenario = self.scenario
        check_metrics(scenario.evaluation.metrics)
        make_repeatable(scenario.engine.device)
        with progress.stage("Reading data"):
            self.dataset: Dataset = datasets.load(scenario.data, data_dir, self.public_seed, log)
            self.split: Split = scenario_split(self.dataset, scenario, scenario.evaluation.on, self.public_seed)
        if "dislikes" in self.dataset.report:
            progress.say(f"Data: {self.dataset.report['dislikes']} (a true count)")
        if resume and folder.checkpoint.is_file():
            same_data(load_checkpoint(folder.checkpoint).run["dataset"], self.dataset.report)
        items = self.split.training_catalogue(self.dataset.catalogue)
        start = begun(
            scenario.start, items, self.dataset.name, scenario.data.split, scenario.privacy, scenario.seed, data_dir
        )
        if start is not None:
            named = scenario.start.model_copy(update={"sha256": start.record.model})
            self.scenario = scenario = scenario.model_copy(update={"start": named})
        self.request = DataRequest(data=scenario.data, on=scenario.evaluation.on, seed=self.public_seed)
        with progress.steps():
            self.setup: SimulationSetup = SimulationSetup.build(
                scenario.algorithm_class,
                scenario.algorithm_config,
                scenario.privacy,
                scenario.engine,
                self.dataset,
                self.split,
                request=self.request,
                noise_seed=self._noise_seed(scenario.privacy),
                stopping=scenario.stopping,
                start=None if start is None else start.vectors,
            )
        setup, report = self.setup, self.dataset.report
        if setup.plan.banded is not None and not (found := compare(setup.plan)).worthwhile:
            progress.warn(f"privacy.noise = 'banded': {found.advice}")
        self.reservation = reserve(scenario, folder, setup.plan, self.dataset.name)
        notes = [NOTE] * self.split.leaky
        if self.split.new_items is not None:
            notes.append(f"data.split = 'cold-items': {len(items)} of {report['items']} items; {WITHOUT}")
        self.data = Data(
            self.dataset.name,
            len(items),
            str(report["catalogue"]),
            tuple(notes),
            self.dataset.catalogue.encoders,
            None if start is None else start.record,
        )
        self.under = _simulated(scenario.data)
        self.identity = {"public_seed": self.public_seed, "dataset": report}
        self.comment = SECRET_NOISE if scenario.privacy.private and scenario.seed is None else ""
        device = scenario.engine.device
        self._curve = Curve(setup.algorithm, self.split, scenario.evaluation, device, self.public_seed)
        progress.epsilon = None if scenario.privacy.epsilon == "none" else scenario.privacy.epsilon

    def write(self) -> tuple[dict[str, Any], str | None]:
        tracked = tracking(self.track, self.folder.private, self.scenario, self.progress.warn)
        with tracked as self._tracker, self.progress.steps():
            summary, exhausted = super().write()
            self._tracker.scalars(of_run(summary), summary["cost"]["rounds"])
        return summary, exhausted

    @contextmanager
    def federation(self) -> Iterator[Federation]:
        setup = self.setup
        users: AbstractContextManager[Federation] = nullcontext(setup.federation)
        if self.scenario.engine.name == "flower":
            users = flower_federation(self.scenario, setup.spec, setup.plan, self.data_dir)
        with users as found, self.progress.rounds(self.scenario.name, setup.algorithm.rounds):
            yield found

    def on_round(self, report: RoundReport) -> None:
        self._tracker.scalars(of_round(report.row()), report.round + 1)
        self.progress.round(report)

    def observe(self, round_index: int, shared: Shared) -> dict[str, float]:
        return self._curve(round_index, shared)

    def results(self, outcome: Outcome, model: ReleasedModel) -> dict[str, Any]:
        """Return true metrics, baselines, and counts of the data, which only a simulation has."""
        algorithm, report, evaluation = self.setup.algorithm, self.dataset.report, self.scenario.evaluation
        if outcome.stopped is not None:
            self.progress.say(f"Stopped after round {outcome.rounds} of {algorithm.rounds}: {outcome.stopped}")
        with self.progress.stage("Evaluating"):
            metrics = self._evaluate(model, keep=self.folder.ranks if evaluation.keep_ranks else None)
            order_free = self._order_free(model, metrics)
        with self.progress.stage("Baselines"):
            baselines = self._baselines()
            if evaluation.baselines and "ratings" in metrics:
                baselines |= {name: _means(errors) for name, errors in mean_errors(self.split).items()}
        start = {} if self.data.start is None else {"start": self.data.start.model_dump(mode="json")}
        return start | {
            "dataset": {"name": self.dataset.name}
            | {name: report[name] for name in ("users", "items", "interactions")}
            | {"report": report},
            "metrics": metrics,
            "order_free": order_free,
            "baselines": baselines,
            "evaluation": {
                "on": evaluation.on,
                "leaky_negatives": NOTE if self.split.leaky else None,
                "fingerprint": fingerprint(self.split),
                "note": NOT_COVERED,
                "private": private_report(algorithm, outcome.shared),
            },
        }

    def _noise_seed(self, privacy: PrivacyConfig, offset: int = 0) -> int | None:
        if not privacy.private:
            return self.public_seed
        return None if self.scenario.seed is None else (self.scenario.seed + offset) % 2**63

    def _evaluate(self, model: ReleasedModel, *, order_free: bool = False, keep: Path | None = None) -> dict[str, Any]:
        found = evaluate(
            model,
            self.split,
            device=self.scenario.engine.device,
            seed=self.public_seed,
            order_free=order_free,
            users=self._sample,
            extended=self.scenario.evaluation.extended,
            catalogue=self._ranked,
            keep=keep,
            metrics=self.scenario.evaluation.metrics,
        )
        return found if self._sample is None else found | {"rule": f"{found['rule']}; a sample of the users"}

    @property
    def _sample(self) -> np.ndarray | None:
        """Positions of the users who are ranked; None for everybody."""
        count = self.scenario.evaluation.users
        return None if count is None else curve_users(self.split, count, self.public_seed)

    @property
    def _ranked(self) -> Catalogue:
        """The items that are ranked; of a split that holds out items, the new ones too."""
        new = self.split.new_items
        return self.dataset.catalogue if new is None else new.catalogue

    def _order_free(self, model: ReleasedModel, metrics: dict[str, Any]) -> dict[str, Any] | None:
        if not self.scenario.evaluation.order_free:
            return None
        return self._evaluate(model, order_free=True) if self.split.device.ordered else metrics

    def _baselines(self) -> dict[str, Any]:
        if not self.scenario.evaluation.baselines:
            return {}
        privacy, engine = self.scenario.privacy, self.scenario.engine
        found: dict[str, Any] = {}
        alone = privacy.model_copy(update={"noise": "independent", "separation": None})  # it asks once
        variants = {"popularity": alone.model_copy(update={"epsilon": "none", "sampling": 1.0})}
        if privacy.private:
            variants["dp-popularity"] = alone
        for name, variant in variants.items():
            model = popularity(
                variant,
                engine,
                self.dataset,
                self.split,
                request=self.request,
                noise_seed=self._noise_seed(variant, BASELINE_NOISE),
            )
            epsilon = None if variant.epsilon == "none" else variant.epsilon
            found[name] = self._evaluate(model) | {"epsilon": epsilon, "note": COUNTERFACTUAL}
        return found

    def draw_plots(self, summary: dict[str, Any], outcome: Outcome) -> None:
        folder = self.folder.plots
        folder.mkdir(exist_ok=True, mode=0o700)
        note = STAMP if self.split.leaky else ""
        plots.training_curve(outcome.history, folder / "training.svg", note)
        plots.metrics_against_baselines(labelled_results(summary), folder / "metrics.svg", note)
        plots.rating_errors(labelled_results(summary), folder / "ratings.svg", note)
        plots.private_looks(summary["evaluation"]["private"], folder / "looks.svg")
        target = self.scenario.privacy.epsilon
        if target != "none":
            paid = summary["privacy"]["accountants"] if outcome.stopped else None
            plots.epsilon_by_round(outcome.history, target, folder / "epsilon.svg", paid)
            plots.budget_by_query(summary["privacy"]["budget_shares"], folder / "budget.svg")
        for picture in folder.iterdir():
            picture.chmod(SECRET)


def _means(errors: dict[str, float]) -> dict[str, Any]:
    return {"ratings": errors, "epsilon": None, "note": COUNTERFACTUAL}
