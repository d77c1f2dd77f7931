"""The Flower ServerApp: one `Deployment`, described by the run's configuration.

| key | meaning |
|---|---|
| `scenario` | a built-in name, or a TOML file on the server |
| `set` | changes as of `fedrec simulate --set`, a line each |
| `out` | the folder of the run; `runs/SCENARIO-TIME` if left out |
| `resume` | true: continue the run in `out` |
| `data-dir` | folder of the named datasets; the environment's FEDREC_DATA if left out |
| `folder` | base of relative paths; the working folder of this process if left out |
| `told` | a file on the server for the run's events (`fedrec_server.process.run_events`) |

The run's configuration also travels to the nodes, and Flower's link keeps it: it contains no secret.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedrec.data.folder import data_folder
from fedrec.errors import BudgetExhausted, FedrecError
from fedrec.progress import LongSteps, listening
from fedrec.run.coordinator import RoundReport
from fedrec.run.directory import RunDirectory, new_path
from fedrec.run.scenario import load_scenario
from fedrec.transport.interfaces import give_up_parts_after
from fedrec_server import allowed_plugins
from fedrec_server.allowed_plugins import allowed_alone
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger, log
from fedrec_server.helper.named import published
from fedrec_server.process.run_events import RunEvents

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Execute the run. Raises: FedrecError, one line, which Flower shows as the reason of the failure."""
    _log_once()
    events_file = str(context.run_config.get("told") or "")
    events = RunEvents(Path(events_file) if events_file else None)
    try:
        with allowed_alone(allowed_plugins.published()):
            folder = _run(grid, context.run_config, events)
    except FedrecError as error:
        events.end(error.exit_code, str(error))
        raise
    except Exception as error:
        events.end(1, f"the run failed by an error in fedrec ({type(error).__name__}); see the server's log")
        raise
    events.end(0, str(folder.path))


def _run(grid: Grid, config: Mapping[str, Any], events: RunEvents) -> RunDirectory:
    if config.get("folder"):
        os.chdir(str(config["folder"]))  # a run has its process to itself
    out, data = str(config.get("out") or ""), data_folder(str(config.get("data-dir") or ""))
    name, resume = str(config.get("scenario") or "quickstart"), config.get("resume") is True
    if resume and out and RunDirectory(Path(out)).holds_run and not config.get("scenario"):
        name = str(RunDirectory(Path(out)).scenario)
    changes = [line for line in str(config.get("set") or "").splitlines() if line.strip()]
    scenario = load_scenario(name, changes)
    folder = RunDirectory(Path(out) if out else new_path(scenario.name))
    events.folder(folder.path)

    def on_round(report: RoundReport) -> None:
        _say(report)
        events.round(report.round, report.rounds, report.seconds, _spent(report))

    messenger = Messenger(grid, give_up=give_up_parts_after)
    made = Deployment(scenario, folder, messenger, data, resume=resume, on_round=on_round, helper=published())
    with listening(LongSteps(events.step)):
        _, exhausted = made.run()
    log.info("written to %s", folder.path)
    if exhausted:
        raise BudgetExhausted(f"{exhausted} ({folder.path})")
    return folder


def _log_once() -> None:
    """Log to one place: under Flower, the root logger and Flower's own both write to it."""
    ours = logging.getLogger("fedrec")
    ours.setLevel(logging.INFO)
    if not logging.getLogger().handlers and not ours.handlers:
        ours.addHandler(logging.StreamHandler())


def _say(report: RoundReport) -> None:
    spent = _spent(report)
    privacy = "no privacy" if spent is None else f"epsilon {spent:.3f}"
    log.info("round %d of %d: %.2f s, %s", report.round + 1, report.rounds, report.seconds, privacy)


def _spent(report: RoundReport) -> float | None:
    """Return the epsilon that the target holds by: of Renyi DP where there is none by PLD."""
    tight = report.epsilon.get("pld")
    return report.epsilon.get("rdp") if tight is None else tight
