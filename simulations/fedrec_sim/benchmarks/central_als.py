"""Central ALS by `implicit` (C++), exact solver: what the same computation costs where all data lies in one place."""

import statistics
import time
from typing import Any

import numpy as np

from fedrec_sim.benchmarks.memory import own_peak_mb
from fedrec_sim.benchmarks.population import histories


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Median seconds of one exact iteration (all users and all items) over `repeat` after one to warm up."""
    import scipy.sparse as sparse
    from implicit.cpu.als import AlternatingLeastSquares

    log = histories(job)
    events = sparse.csr_matrix(
        (np.ones(len(log.items), dtype=np.float32), log.items, log.offsets), shape=(len(log), log.n_items)
    )
    seconds: list[float] = []
    cpu: list[float] = []

    def note(_: int, elapsed: float, *_loss: float) -> None:
        seconds.append(elapsed)
        cpu.append(time.process_time())

    model = AlternatingLeastSquares(
        factors=job["dim"],
        use_cg=False,
        iterations=job["repeat"] + 1,
        num_threads=job["threads"],
        random_state=job["seed"],
    )
    model.fit(events, show_progress=False, callback=note)
    middle = statistics.median(seconds[1:])
    return {
        "what": "implicit",
        "users": len(log),
        "rounds": seconds[1:],
        "seconds": middle,
        "cpu_seconds": statistics.median(np.diff(cpu).tolist()),
        "users_per_second": len(log) / middle,
        "peak_rss_mb": own_peak_mb(),
    }
