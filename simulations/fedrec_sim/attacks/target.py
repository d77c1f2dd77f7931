"""The target of an attack: a scenario, or that of a finished run, with room for the attack's users."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedrec.audit.entries.events import charges
from fedrec.audit.log.envelope import Entry, Subject
from fedrec.charge import Charge
from fedrec.data import datasets, splits
from fedrec.data.datasets import Dataset
from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.errors import InputError
from fedrec.federation.data_request import DataRequest
from fedrec.privacy.description import describe
from fedrec.run.coordinator import Coordinator, Outcome
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import Scenario, load_scenario
from fedrec_sim.attacks.crowd import identities
from fedrec_sim.attacks.recorder import Intruders, Observation, Recorder
from fedrec_sim.engines.setup import SimulationSetup

NOISE_STREAM = 1 << 41
"""Offset of the noise seed of an attacked repeat, so that a run with the same seed has other noise."""

Progress = Callable[[int, int], None]
"""Callback of progress: number of finished rounds, number of all rounds."""


def silent(done: int, total: int) -> None:
    """Ignore progress."""


class MemoryLedger:
    """The ledger of a simulated attack, in memory: nothing of it is released."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.head = ""

    def append(self, payload: Mapping[str, Any], about: tuple[str, str] | None = None) -> str:
        subject = Subject(*(about or ("ledger", self.head)))
        self.entries.append(Entry(len(self.entries), self.head, subject, dict(payload)))
        return self.head

    def seal(self) -> None:
        """Sign nothing: the ledger is in memory."""

    def charge(self, round_index: int) -> Charge:
        """Return the charge of a round, which contains the system's claims."""
        return next(
            charge for charge in charges(entry.payload for entry in self.entries) if charge.round == round_index
        )


@dataclass(frozen=True)
class Target:
    """A scenario with its data. run: the folder whose ledger gets the results, None for a scenario."""

    scenario: Scenario
    dataset: Dataset
    split: Split
    seed: int
    run: RunDirectory | None = None
    data_dir: Path | None = None

    def with_users(self, users: Histories) -> "Target":
        """Return the same target with other users in training."""
        return replace(self, split=replace(self.split, train=users))

    def with_privacy(self, **changes: Any) -> "Target":
        """Return the same target under other privacy settings."""
        privacy = self.scenario.privacy.model_copy(update=changes)
        return replace(self, scenario=self.scenario.model_copy(update={"privacy": privacy}))

    @property
    def users(self) -> Histories:
        """The histories that devices train on."""
        return self.split.train

    def setup(self, stream: int = 0) -> SimulationSetup:
        """Set up the scenario over these users. Seed and `stream` fix the noise.

        A private evaluation is left out, with its budget: the attack is on the training.
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
    """A watched run, with its set-up, its ledger and its result."""

    setup: SimulationSetup
    ledger: MemoryLedger
    outcome: Outcome

    @property
    def epsilon(self) -> float | None:
        """The proven epsilon against model recipients, None for no bound."""
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
    """Run a set-up through the real coordinator, and report every round.

    Args:
        setup: the run.
        users: histories of the population.
        on_round: called with the observation of each round.
        intruders: users with parts made by the attack.
        ledger: ledger of the charges; a new one if left out.
        progress: called with the number of finished rounds and of all rounds.
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
    """Load the scenario `name` (built-in or a TOML file), or that of the finished run in the folder `name`.

    Raises: InputError for other names, or an unfinished run, whose ledger is still being written.
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
