"""Every measurement is a job in a fresh process: its peak memory is its own, and no two thread pools share a process.

A job is a JSON-able dictionary; its "what" names the module of this folder whose `measure(job)` does it.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

from fedrec.errors import InputError

Job = dict[str, Any]
Result = dict[str, Any]

_NEEDS = {
    "fedrec": ("torch", ""),
    "implicit": ("implicit", "bench"),
    "flower": ("ray", "sim"),
    "flower-secagg": ("flwr", "deploy"),
}
_MODULES = {
    "fedrec": "own_round",
    "implicit": "central_als",
    "flower": "flower_ray",
    "scale": "growth",
    "whole": "whole_run",
    "ranking": "full_ranking",
}
COMPARISONS = ("implicit", "flower")


def require(what: str) -> None:
    """Check that the package of `what` is installed. Raises: InputError that names the extra."""
    package, extra = _NEEDS[what]
    if importlib.util.find_spec(package) is None:
        raise InputError(f"--compare {what}: '{package}' is not installed; pip install 'fedrec[{extra}]'")


def run_job(job: Job) -> Result:
    """Run the job in a process of its own, and return its result. Raises: InputError with the process's error."""
    threads = str(job["threads"])
    environment = {"OMP_WAIT_POLICY": "passive"} | dict(os.environ)  # waiting threads leave the cores to others
    environment |= {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",  # `implicit` brings its own threads and asks for this
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(job), stdout=subprocess.PIPE, text=True, env=environment
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise InputError(lines[-1] if lines else f"measuring {job['what']} failed with code {done.returncode}")
    result: Result = json.loads(lines[-1])
    return result


def measured(job: Job) -> Result:
    """Run the job in this process, whose memory then counts as the job's. Raises: InputError."""
    result: Result = importlib.import_module(f"fedrec_sim.benchmarks.{_MODULES[job['what']]}").measure(job)
    return result


def _main() -> int:
    job = json.loads(sys.stdin.read())
    # What libraries print goes to standard error; standard output carries the result and nothing else.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        result = measured(job)
    except InputError as error:
        print(" ".join(str(error).split()), file=channel, flush=True)
        return error.exit_code
    print(json.dumps(result), file=channel, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
