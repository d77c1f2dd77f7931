"""The Flower ServerApp: one `Deployment`, described by the run's configuration.

| key | meaning |
|---|---|
| `scenario` | a built-in name, or a TOML file on the server |
| `set` | changes as of `fedrec simulate --set`, a line each |
| `out` | the folder of the run; `runs/SCENARIO-TIME` if left out |
| `resume` | true: go on with the run in `out` |
| `data-dir` | where named datasets lie; the environment's FEDREC_DATA if left out |

The run's configuration also travels to the nodes and lies in Flower's database: it holds no secret.
"""

import logging
import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedrec.errors import BudgetExhausted
from fedrec_server.asking import Asker, log
from fedrec_server.coordinator import RoundReport
from fedrec_server.deployment import Deployment
from fedrec_server.run_directory import RunDirectory, new_path
from fedrec_server.scenario import load_scenario

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run to the end. Raises: FedrecError in one line, which Flower shows as the reason of a failed run."""
    logging.getLogger("fedrec").setLevel(logging.INFO)
    config = context.run_config
    out, data_dir = str(config.get("out") or ""), str(config.get("data-dir") or os.environ.get("FEDREC_DATA") or "")
    name, resume = str(config.get("scenario") or "quickstart"), config.get("resume") is True
    if resume and out and RunDirectory(Path(out)).holds_run and not config.get("scenario"):
        name = str(RunDirectory(Path(out)).scenario)
    changes = [line for line in str(config.get("set") or "").splitlines() if line.strip()]
    scenario = load_scenario(name, changes)
    folder = RunDirectory(Path(out) if out else new_path(scenario.name))
    made = Deployment(scenario, folder, Asker(grid), Path(data_dir) if data_dir else None, resume=resume, on_round=_say)
    _, exhausted = made.run()
    log.info("written to %s", folder.path)
    if exhausted:
        raise BudgetExhausted(f"{exhausted} ({folder.path})")


def _say(report: RoundReport) -> None:
    spent = report.epsilon.get("pld")
    privacy = "no privacy" if spent is None else f"epsilon {spent:.3f}"
    log.info("round %d of %d: %.2f s, %s", report.round + 1, report.rounds, report.seconds, privacy)
