"""Experiment trackers of a running simulation: `fedrec simulate --track`.

A tracker has three methods. Each adapter imports its library late. The adapters send the figures of history.csv and
summary.json, with true metrics of the simulation. The guarantee covers none of them.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fedrec.durable import replace
from fedrec.errors import InputError, first_line
from fedrec.run.scenario import Scenario
from fedrec_sim.report.table import flat_metrics

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Limits of MLflow's retries: an absent server delays a run for half a minute instead of four. Set values win."""

PARAMS = 100
"""MLflow's own bound on the settings of one request."""


class Tracker(Protocol):
    """A receiver of a run's scalars."""

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """Begin or continue the run `name`, with its settings by dotted key."""
        ...

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Send figures after round `step`, counted from 1; those of the whole run at the last step."""
        ...

    def end(self, finished: bool) -> None:
        """End the run. finished: False for an interrupted run."""
        ...


class TensorBoard:
    """Event files in `OUT/private/tensorboard`; look at them with `tensorboard --logdir OUT/private`."""

    package = "tensorboard"

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"))

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        lines = [f"| {key} | {value} |" for key, value in settings.items()]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *lines]))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def end(self, finished: bool) -> None:
        self._writer.close()


class MLflow:
    """A run in the experiment "fedrec" of MLFLOW_TRACKING_URI, or in `OUT/private/mlflow.db` where that is not set.

    `OUT/private/mlflow.run` keeps its id, so that a resumed run continues there.
    """

    package = "mlflow"

    def __init__(self, out: Path) -> None:
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlflow.db').resolve()}"
        self._kept = out / "mlflow.run"
        self._client: Any = None
        self._run = ""

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        """As in `Tracker`. Raises: InputError when the server cannot be used."""
        from mlflow.exceptions import MlflowException

        try:
            self._begin(name, settings)
        except MlflowException as error:
            raise InputError(
                f"{self._uri}: {first_line(error)}; mend MLFLOW_TRACKING_URI, or leave --track mlflow out"
            ) from None

    def _begin(self, name: str, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        self._client = MlflowClient(self._uri)
        if self._kept.is_file():
            self._run = self._kept.read_text(encoding="utf-8").strip()
            self._client.update_run(self._run, status="RUNNING")
        else:
            found = self._client.get_experiment_by_name("fedrec")
            experiment = found.experiment_id if found is not None else self._client.create_experiment("fedrec")
            self._run = self._client.create_run(experiment, run_name=name).info.run_id
            replace(self._kept, f"{self._run}\n".encode())
        params = [Param(key, str(value)) for key, value in settings.items()]
        for first in range(0, len(params), PARAMS):
            self._client.log_batch(self._run, params=params[first : first + PARAMS])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [
            Metric(name.replace("@", "_at_").replace(":", "/"), value, now, step) for name, value in values.items()
        ]
        self._client.log_batch(self._run, metrics)

    def end(self, finished: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


class Nowhere:
    """The tracker of a run without one: it discards everything."""

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        pass

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        pass

    def end(self, finished: bool) -> None:
        pass


class FailSafe:
    """A tracker whose failures do not stop the run. After the first one, a warning is shown and the tracker is off."""

    def __init__(self, tracker: Tracker, say: Callable[[str], None]) -> None:
        self._tracker, self._say, self._failed = tracker, say, False

    def begin(self, name: str, settings: Mapping[str, Any]) -> None:
        self._tracker.begin(name, settings)  # nothing is lost yet, so an error here may stop the run

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._try(lambda: self._tracker.scalars(values, step))

    def end(self, finished: bool) -> None:
        self._try(lambda: self._tracker.end(finished))

    def _try(self, send: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            send()
        except Exception as error:  # whatever its library raises
            self._failed = True
            self._say(
                f"--track: the tracker failed ({first_line(error)}); the run continues, its figures are in its folder"
            )


TRACKERS: dict[str, type[TensorBoard] | type[MLflow]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def check_tracker(name: str) -> None:
    """Check that the tracker exists and is installed. Raises: InputError with the remedy."""
    if name not in TRACKERS:
        raise InputError(f"--track {name}: must be {' or '.join(TRACKERS)}")
    if importlib.util.find_spec(TRACKERS[name].package) is None:
        raise InputError(f"--track {name}: is not installed; install it with: pip install 'fedrec[track]'")


@contextmanager
def tracking(name: str | None, out: Path, scenario: Scenario, say: Callable[[str], None]) -> Iterator[Tracker]:
    """Begin the tracker called `name`, and end it with the context.

    Args:
        name: the tracker's name, None for none.
        out: folder of the tracker's files.
        scenario: the resolved scenario.
        say: called with a warning when the tracker fails.
    """
    tracker = FailSafe(TRACKERS[name](out) if name is not None else Nowhere(), say)
    tracker.begin(scenario.name, flat_settings(scenario))
    finished = False
    try:
        yield tracker
        finished = True
    finally:
        tracker.end(finished)


def flat_settings(scenario: Scenario) -> dict[str, Any]:
    """Return every setting of the resolved scenario by its dotted key."""

    def flat(values: Mapping[str, Any], path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            found |= flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {path + key: value}
        return found

    return flat(scenario.resolved(), "")


def of_round(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a round from its row of history.csv, without missing ones."""
    return {f"round/{name}": float(value) for name, value in row.items() if name != "round" and value is not None}


def of_run(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a whole run from its summary."""
    found = {f"final/{name}": value for name, value in flat_metrics(summary["metrics"]).items()}
    for baseline, result in summary["baselines"].items():
        found |= {f"{baseline}/{name}": value for name, value in flat_metrics(result).items()}
    found |= {f"cost/{name}": value for name, value in summary["cost"].items()}
    epsilon = summary["privacy"]["epsilon"]
    return found | ({"privacy/epsilon": epsilon} if epsilon is not None else {})
