"""What is attacked: a scenario, or the scenario of a finished run, built anew with room for the attack's users."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedrec.data import datasets, splits
from fedrec.data.datasets import Dataset
from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.errors import InputError
from fedrec.federation.exchange import DataRequest
from fedrec.privacy.description import describe
from fedrec.run.coordinator import Coordinator, Outcome
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import Scenario, load_scenario
from fedrec_sim.attacks.crowd import identities
from fedrec_sim.attacks.recorder import Intruders, Observation, Recorder
from fedrec_sim.engines.setup import SimulationSetup

NOISE_STREAM = 1 << 41
"""Added to a seed for the noise of an attacked repeat, lest it be that of a run with the same seed."""

Progress = Callable[[int, int], None]
"""Told of rounds: how many are done, of how many."""


def silent(done: int, total: int) -> None:
    """Progress that nobody follows."""


class MemoryLedger:
    """Charges of a simulated attack, kept while it lasts: nothing of it is released."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.head = ""

    def append(self, payload: Mapping[str, Any], about: tuple[str, str] | None = None) -> str:
        self.entries.append({"payload": dict(payload), "about": about})
        return self.head

    def seal(self) -> None:
        """Nothing to sign."""

    def charge(self, round: int) -> dict[str, Any]:
        """The charge of a round: what the system claims of it."""
        found: dict[str, Any] = next(
            entry["payload"]
            for entry in self.entries
            if entry["payload"].get("type") == "charge" and entry["payload"]["round"] == round
        )
        return found


@dataclass(frozen=True)
class Target:
    """A scenario with its data. run: the folder whose ledger gets the results, None for a scenario alone."""

    scenario: Scenario
    dataset: Dataset
    split: Split
    seed: int
    run: RunDirectory | None = None
    data_dir: Path | None = None

    def with_users(self, users: Histories) -> "Target":
        """The same with other users in training."""
        return replace(self, split=replace(self.split, train=users))

    def with_privacy(self, **changes: Any) -> "Target":
        """The same under other privacy settings."""
        privacy = self.scenario.privacy.model_copy(update=changes)
        return replace(self, scenario=self.scenario.model_copy(update={"privacy": privacy}))

    @property
    def users(self) -> Histories:
        """The histories that devices train on."""
        return self.split.train

    def setup(self, stream: int = 0) -> SimulationSetup:
        """The scenario's algorithm, federation and plan over these users; seed and `stream` fix the noise.

        A private evaluation is left out, its budget with it: what is trained is attacked.
        """
        scenario = self.scenario
        return SimulationSetup.build(
            scenario.algorithm_class,
            scenario.algorithm_config,
            scenario.privacy.model_copy(update={"evaluation_share": 0.0}),
            scenario.engine,
            self.dataset,
            self.split,
            request=DataRequest(data=scenario.data, on=scenario.evaluation.on, seed=self.seed),
            noise_seed=(self.seed + (1 + stream) * NOISE_STREAM) % 2**63,
        )


@dataclass(frozen=True)
class Watched:
    """A run that was watched. ledger: what the system claimed; outcome: what it ended with."""

    setup: SimulationSetup
    ledger: MemoryLedger
    outcome: Outcome

    @property
    def epsilon(self) -> float | None:
        """The epsilon that was proven against model recipients, None for no bound."""
        found: float | None = describe(self.setup.plan)["adversaries"]["model_recipients"]
        return found


def watch(
    setup: SimulationSetup,
    users: Histories,
    on_round: Callable[[Observation], None],
    intruders: Intruders | None = None,
    *,
    ledger: MemoryLedger | None = None,
    progress: Progress = silent,
) -> Watched:
    """Run `setup` through the real coordinator and tell `on_round` of every round.

    ledger: where the charges go, one made here if left out.
    """
    plan, ledger = setup.plan, ledger or MemoryLedger()
    recorder = Recorder(setup.algorithm, identities(users), on_round, intruders, private=plan.private)
    coordinator = Coordinator(
        recorder,
        setup.federation,
        plan,
        ledger,
        on_round=lambda report: progress(report.round + 1, report.rounds),
    )
    return Watched(setup, ledger, coordinator.run())


def load_target(
    name: str, changes: Sequence[str], data_dir: Path | None, seed: int, overrides: Mapping[str, Any] | None = None
) -> Target:
    """The scenario `name` (built-in or a TOML file), or that of the finished run in the folder `name`.

    Raises: InputError for what is neither, or for a run that has not ended (its ledger is still being written).
    """
    folder = RunDirectory(Path(name)) if Path(name).is_dir() else None
    if folder is not None:
        if not folder.holds_run:
            raise InputError(f"{name}: holds no run; give a run's folder, a scenario file or a built-in name")
        if not folder.summary.is_file():
            raise InputError(f"{name}: the run has not ended; finish it with fedrec simulate --resume --out {name}")
        if changes:
            raise InputError("--set: the settings are those of the run; leave it out, or attack a scenario instead")
        name = str(folder.scenario)
    scenario = load_scenario(name, changes, overrides)
    dataset = datasets.load(scenario.data, data_dir, seed if scenario.seed is None else scenario.seed)
    split = splits.split(dataset, scenario.data.split, scenario.evaluation.on, seed)
    return Target(scenario, dataset, split, seed, folder, data_dir)
