"""Memory and CPU time of a process and of everything that it started."""

import os
import resource
import sys
import threading
from pathlib import Path
from types import TracebackType


def own_peak_mb() -> float:
    """Return the peak resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


class TreeMemory:
    """A monitor of the memory of this process and its descendants, twice a second; shared pages count once (PSS).

    peak_mb: the peak; None on systems other than Linux.
    """

    def __init__(self) -> None:
        self.peak_mb: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "TreeMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            total = sum(map(pss_mb, descendants(os.getpid())))
            if total:
                self.peak_mb = max(self.peak_mb or 0.0, total)


def descendants(pid: int) -> list[Path]:
    """Return the process and its descendants, as folders of /proc."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended between the listing and the reading
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for process in found:
        found.extend(parents.get(process, []))
    return [Path("/proc") / str(process) for process in found]


def pss_mb(process: Path) -> float:
    """Return the memory of a process, MB; shared pages count in parts (PSS)."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:  # it ended
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3


def cpu_seconds(process: Path) -> float:
    """Return the CPU seconds of a process and of its children that ended, user and system."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
