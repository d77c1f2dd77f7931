"""One `fedrec simulate` in a process and a folder of its own, with memory and failures apart from other runs.

Commands for many runs use this module, so that each command can be repeated: finished runs are read, unfinished ones
resumed, and missing ones started.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedrec.audit.entries.account import account
from fedrec.audit.log.ledger import read_ledger
from fedrec.errors import FedrecError
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import Scenario, difference, load_scenario


def child_run(arguments: Sequence[str], out: Path, data_dir: Path | None) -> dict[str, Any]:
    """Return the summary of `fedrec simulate ARGUMENTS --out OUT`, from the folder if the run is finished.

    Raises: FedrecError, one line with the folder, when the run fails or its privacy budget does not last;
    KeyboardInterrupt after the child has saved its round.
    """
    folder = RunDirectory(out)
    if not _whole(folder):
        command = [sys.executable, "-m", "fedrec.cli", "simulate", *arguments, "--quiet", "--out", str(out)]
        command += ["--data-dir", str(data_dir)] if data_dir else []
        command += ["--resume"] if folder.holds_run else []
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            code = _wait(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said))
            said.seek(0)
            lines = said.read().strip().splitlines()
        if code < 0:  # the last output is not the reason
            lines = [f"the run was ended by signal {-code}" + (", perhaps for its memory" if code == -9 else "")]
        lines = lines or [f"the run ended with code {code}"]
        if code or not _whole(folder):
            raise FedrecError(f"{out}: {lines[-1].removeprefix('error: ')}")
    summary: dict[str, Any] = json.loads(folder.summary.read_text(encoding="utf-8"))
    if not summary["finished"]:
        raise FedrecError(f"{out}: the privacy budget was exhausted after {summary['cost']['rounds']} rounds")
    return summary


def child_scenario(scenario: Scenario, out: Path, data_dir: Path | None) -> dict[str, Any]:
    """Run `child_run` for a whole scenario. Raises: FedrecError also for a run with other settings in `out`."""
    folder = RunDirectory(out)
    if folder.holds_run:
        began = load_scenario(str(folder.scenario), own_code=str(scenario.algorithm["name"]))
        other = difference(began.resolved(), scenario.resolved())
        if other:
            raise FedrecError(f"{out}: holds a run with other settings ({other}); choose a new --out")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "scenario.toml"
        file.write_text(scenario.toml(), encoding="utf-8")
        return child_run([str(file)], out, data_dir)


def _whole(folder: RunDirectory) -> bool:
    """Whether the run is finished. Its last step writes the record of its files."""
    if not (folder.summary.is_file() and folder.report.is_file()):
        return False
    known = account([entry.payload for entry in read_ledger(folder.ledger)[0]])
    return not known.begin.fixes_files or known.files is not None


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child. On Ctrl-C it finishes its round first, since an interrupted round would waste budget."""
    try:
        return child.wait()
    except KeyboardInterrupt:
        try:
            child.wait()
        except KeyboardInterrupt:
            child.kill()
            child.wait()
        raise
