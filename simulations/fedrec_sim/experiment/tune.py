"""Search for settings, on validation data only: `fedrec tune`.

Source: Optuna (Akiba et al. 2019), its TPE sampler. Different from the usual use: every trial reads private data, so
the best settings are marked. A run with them states that its epsilon does not cover the search. Each trial has a
process and a folder of its own, and a file keeps the study, so that both can be resumed.
"""

import hashlib
import importlib.util
import json
import statistics
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrec.errors import FedrecError, InputError
from fedrec.run.directory import make_folder
from fedrec.run.scenario import Scenario, checked, difference, read_values
from fedrec.run.scenario_changes import change_values
from fedrec.settings import parse_change
from fedrec_sim.experiment.child_run import child_scenario
from fedrec_sim.experiment.sweep import parse_axis
from fedrec_sim.report.table import flat_metrics, nearest_metric

if TYPE_CHECKING:
    import optuna

WARNING = (
    "Tuning looks at private data: the epsilon of a run with the tuned settings does NOT cover how they were found. "
    "Tune on public or generated data where a guarantee must cover everything."
)
CHEAP = {"evaluation.baselines": False, "evaluation.order_free": False, "evaluation.every": 0}
"""Settings that save a trial work without a change of model or metric."""


class NotMeasured(InputError):
    """The requested metric is not among those of a run."""


@dataclass(frozen=True)
class Dimension:
    """One setting of the search: a range of numbers, or `choices`."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: "optuna.Trial") -> Any:
        """The trial's value."""
        if self.choices:
            return self.choices[trial.suggest_categorical(self.key, range(len(self.choices)))]
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


def parse_space(text: str) -> Dimension:
    """Parse `key=log:0.01:1`, `lin:0:1`, `int:1:64`, `logint:1:64` or `a,b,c`. Raises: InputError for other texts."""
    key, equals, value = text.partition("=")
    where = f"--space {text}"
    kind, *bounds = value.split(":")
    if not equals or kind not in ("log", "lin", "int", "logint"):
        if not equals or not value.strip() or (len(bounds) == 2 and "," not in value):
            raise InputError(
                f"{where}: must be key=log:LOW:HIGH, lin:LOW:HIGH, int:LOW:HIGH, logint:LOW:HIGH, or values a,b,c"
            )
        key, choices = parse_axis(text)
        return Dimension(key, choices=tuple(choices))
    try:
        low, high = map(int if "int" in kind else float, bounds)
    except ValueError:
        raise InputError(f"{where}: needs two numbers, e.g. {key}={kind}:1:64") from None
    if not low < high or ("log" in kind and low <= 0):
        raise InputError(f"{where}: needs LOW below HIGH" + (", both above 0" if "log" in kind else ""))
    return Dimension(key.strip(), low, high, log="log" in kind, whole="int" in kind)


@dataclass(frozen=True)
class Search:
    """The question of a study: the scenario's values, the space, the metric to maximise, and the seeds to average."""

    name: str
    values: Mapping[str, Any]
    space: tuple[Dimension, ...]
    metric: str
    seeds: tuple[int, ...]

    @classmethod
    def build(
        cls,
        name: str,
        changes: Sequence[str],
        overrides: Mapping[str, Any],
        space: Sequence[Dimension],
        metric: str,
        seeds: Sequence[int],
    ) -> "Search":
        """Check everything that can be checked before a trial. Raises: InputError, also for evaluation.on=test."""
        values = read_values(name)
        changed = [*map(parse_change, changes), *overrides.items()]
        if ("evaluation.on", "test") in changed:
            raise InputError("evaluation.on = 'test': tuning uses validation data only; leave it out")
        change_values(values, [(key, value, key) for key, value in changed], name)
        found = cls(name, values, tuple(space), metric, tuple(seeds))
        for dimension in space:
            for value in dimension.choices or (dimension.low, dimension.high):
                _ = found.scenario({dimension.key: int(value) if dimension.whole else value}, seeds[0])
        return found

    def scenario(self, settings: Mapping[str, Any], seed: int) -> Scenario:
        """One trial's run under one seed."""
        return self._with({**settings, **CHEAP, "evaluation.on": "validation", "seed": seed})

    def best(self, settings: Mapping[str, Any], trials: int) -> Scenario:
        """Return the scenario with the best settings, marked with their source."""
        before = self._with({})
        data = before.data.path.name if before.data.path else before.data.name
        tuned = {
            "provenance.tuned_on": ", ".join(dict.fromkeys(filter(None, (before.provenance.tuned_on, data)))),
            "provenance.tuned_by": f"fedrec tune, {trials} trials of {', '.join(d.key for d in self.space)}, best "
            f"{self.metric} on validation",
        }
        return self._with({**settings, **tuned, "evaluation.on": "test"})

    def _with(self, settings: Mapping[str, Any]) -> Scenario:
        values = json.loads(json.dumps(self.values))
        change_values(values, [(key, value, key) for key, value in settings.items()], self.name)
        return checked(values, self.name, own_code=True)

    def question(self) -> dict[str, Any]:
        """Return the JSON-able facts that a resumed study must keep."""
        space = [dict(vars(dimension)) | {"choices": list(dimension.choices)} for dimension in self.space]
        question = {"scenario": self._with({}).resolved(), "metric": self.metric, "seeds": list(self.seeds)}
        whole: dict[str, Any] = json.loads(json.dumps(question | {"space": {d["key"]: d for d in space}}))
        return whole

    def measure(self, settings: Mapping[str, Any], out: Path, data_dir: Path | None) -> float:
        """Return the metric of `settings`, mean over the seeds. Raises: FedrecError when a run fails; NotMeasured."""
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        values = []
        for seed in self.seeds:
            folder = out / "trials" / f"{digest}-seed-{seed}"
            metrics = flat_metrics(child_scenario(self.scenario(settings, seed), folder, data_dir)["metrics"])
            if self.metric not in metrics:
                raise NotMeasured(f"--metric {self.metric}: not measured.{nearest_metric(self.metric, metrics)}")
            values.append(metrics[self.metric])
        return statistics.mean(values)


def require_optuna() -> None:
    """Check that Optuna is installed. Raises: InputError that names the extra."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("fedrec tune: needs Optuna; install it with: pip install 'fedrec[tune]'")


def run(search: Search, trials: int, out: Path, data_dir: Path | None, say: Callable[[str], None]) -> "optuna.Study":
    """Run a study up to `trials` trials, with those of earlier calls. A failed trial counts and stops no other.

    Raises: InputError when `out` holds a study of something else; NotMeasured when the first run lacks the
    metric; FedrecError when every trial failed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is reported below, in one line
    make_folder(out, private=True)
    name, storage = "fedrec", f"sqlite:///{out / 'study.db'}"
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    began = study.user_attrs.get("question")
    if began is not None:
        change_values(began["scenario"], [], search.name)  # the study may be of an older version
        if other := difference(began, search.question()):
            raise InputError(f"--out {out}: holds a study of something else ({other}); choose a new folder")
    study.set_user_attr("question", search.question())
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.enqueue_trial(trial.params)  # was interrupted: its runs are resumed in their folders
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    wrong: list[NotMeasured] = []

    def complete() -> int:
        return len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))

    def objective(trial: "optuna.Trial") -> float:
        settings = {dimension.key: dimension.suggest(trial) for dimension in search.space}
        trial.set_user_attr("settings", settings)
        text = ", ".join(f"{key} {v:.4g}" if isinstance(v, float) else f"{key} {v}" for key, v in settings.items())
        try:
            value = search.measure(settings, out, data_dir)
        except FedrecError as error:
            trial.set_user_attr("error", str(error))
            if isinstance(error, NotMeasured) and not complete():
                wrong.append(error)
                study.stop()
            else:
                say(f"trial {trial.number}: {text}: failed: {error}")
            raise
        except KeyboardInterrupt:
            study.enqueue_trial(trial.params)
            raise
        say(f"trial {trial.number}: {text}: {search.metric} {value:.4f}")
        return value

    left = trials - len(tried(study))
    if left > 0:
        # Another seed each time: a resumed study would otherwise repeat its first trials.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
        study.optimize(objective, n_trials=left, catch=(FedrecError,))
    if wrong:
        optuna.delete_study(study_name=name, storage=storage)  # the folder is then free for the right metric
        raise wrong[0]
    if not complete():
        raise FedrecError(f"every trial failed; the last one: {tried(study)[-1].user_attrs['error']}")
    return study


def tried(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Return the trials that finished or failed, without interrupted ones."""
    return [trial for trial in study.trials if trial.value is not None or "error" in trial.user_attrs]


def write_best(search: Search, study: "optuna.Study", out: Path) -> Path:
    """Write `best.toml` into `out`: the scenario with the best settings and the mark that they were tuned."""
    trials = len(tried(study))
    scenario = search.best(study.best_trial.user_attrs["settings"], trials)
    comment = f"Best of {trials} trials: {search.metric} {study.best_value:.4f} on validation.\n{WARNING}"
    text = scenario.toml(comment)
    _ = tomllib.loads(text)
    (out / "best.toml").write_text(text, encoding="utf-8")
    return out / "best.toml"
