"""One measurement of `fedrec bench edge`, as a program of its own: numpy, `fedrec.ondevice` and EdgeClient alone.

`python -m fedrec_sim.benchmarks.edge_device JSON` prints its figures as JSON. CPU milliseconds are of this process;
peak memory is that of the system's record, which begins with the program.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.ondevice import draws
from fedrec.ondevice.history import History
from fedrec.ondevice.index_file import read_ids
from fedrec.ondevice.released import Released, open_released


def peak_mb() -> float | None:
    """Peak resident memory of this program, MB; None where the system does not say.

    `ru_maxrss` begins with the memory of the process that started this one, so it would be too large.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def quantiles(values: list[float]) -> dict[str, float]:
    """Median and 99 % of CPU seconds, in milliseconds."""
    return {"median": 1e3 * float(np.median(values)), "99 %": 1e3 * float(np.quantile(values, 0.99))}


def histories(items: int, events: int, count: int) -> list[np.ndarray]:
    """Histories of distinct random items, (events,) each."""
    generator = np.random.default_rng(1)
    return [generator.choice(items, min(events, items // 2), replace=False) for _ in range(count)]


def first(opened: Released, events: int, k: int) -> dict[str, Any]:
    """The first list, ids included, since the process began."""
    assert opened.ids is not None
    (items,) = histories(opened.model.n_items, events, 1)
    state = opened.model.fit(History(items))
    found = [opened.ids.at(place) for place in opened.model.top(state, k, items)[0].tolist()]
    return {"cpu_ms": 1e3 * time.process_time(), "listed": len(found)}


def lists(opened: Released, events: int, k: int, repeat: int) -> dict[str, Any]:
    """CPU milliseconds of a list, of an event that is added, and of a full refit."""
    model, spent = opened.model, {"list_ms": [0.0][:0], "record_ms": [0.0][:0], "refit_ms": [0.0][:0]}
    same = True
    for items in histories(model.n_items, events, repeat):
        begin = time.process_time()
        state = model.fit(History(items[:-1]))
        fitted = time.process_time()
        state = model.record(state, int(items[-1]))
        recorded = time.process_time()
        model.top(state, k, items)
        ended = time.process_time()
        spent["refit_ms"].append(fitted - begin)
        spent["record_ms"].append(recorded - fitted)
        spent["list_ms"].append(ended - recorded)
        again = model.fit(History(items))
        same = same and all(np.array_equal(again.sums[name], state.sums[name]) for name in again.sums)
    return {name: quantiles(values) for name, values in spent.items()} | {"refit_equal": same}


def exact(opened: Released, events: int, k: int, repeat: int) -> dict[str, Any]:
    """How many of `repeat` lists equal the one of all items, scored exactly and sorted, ties by the item's hash."""
    model, equal = opened.model, 0
    keys = draws.tie_order(np.arange(model.n_items))
    for items in histories(model.n_items, events, repeat):
        state = model.fit(History(items))
        scores = model.scores(state)
        scores[items] = -np.inf
        best = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
        expected = best[np.lexsort((keys[best], -scores[best]))][:k]
        equal += model.top(state, k, items)[0].tolist() == expected.tolist()
    return {"tries": repeat, "equal": equal}


def ids_of(folder: Path, items: np.ndarray) -> list[str]:
    """The ids of items (n,) by their positions; the others are read and not kept."""
    wanted = set(items.tolist())
    found = {place: item for place, item in enumerate(read_ids(folder / "items.json")) if place in wanted}
    return [found[place] for place in items.tolist()]


def prepare(folder: Path, device: Path, events: int) -> dict[str, Any]:
    """Make a device with a model and so many events."""
    from fedrec_client import EdgeClient, Event, KeyFile

    with EdgeClient.open(device, KeyFile(device / "events.key"), model=folder) as client:
        assert client.model is not None
        (items,) = histories(client.model.items, events, 1)
        ids = ids_of(folder, items)
        client.record_all([Event(item, time=float(number)) for number, item in enumerate(ids)])
        return {"events": len(client.events())}


def first_of_client(device: Path, k: int) -> dict[str, Any]:
    """The first list of EdgeClient since the process began: the store is opened, and its events are read."""
    from fedrec_client import EdgeClient

    client = EdgeClient.open(device)
    found = client.recommend(k)
    spent = 1e3 * time.process_time()
    client.close()
    return {"cpu_ms": spent, "listed": len(found)}


def client_calls(folder: Path, device: Path, k: int, repeat: int) -> dict[str, Any]:
    """CPU milliseconds of `record` and of the `recommend` after it; lists are compared with those of a new client.

    Waiting for the disk takes no CPU time, so that of `record` is what it costs beyond the sync.
    """
    from fedrec_client import EdgeClient

    spent, same = {"record_ms": [0.0][:0], "recommend_ms": [0.0][:0]}, True
    with EdgeClient.open(device) as client:
        assert client.model is not None
        drawn = np.random.default_rng(3).integers(0, client.model.items, repeat)
        client.recommend(k)
        for number, item in enumerate(ids_of(folder, drawn)):
            begin = time.process_time()
            client.record(item)
            recorded = time.process_time()
            found = client.recommend(k)
            ended = time.process_time()
            spent["record_ms"].append(recorded - begin)
            spent["recommend_ms"].append(ended - recorded)
            if number % 50 == (repeat - 1) % 50:
                with EdgeClient.open(device) as again:
                    same = same and again.recommend(k) == found
    return {name: quantiles(values) for name, values in spent.items()} | {"refit_equal": same}


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Run one measurement: `what` is first, lists or exact, and with a `device` prepare, client-first or client."""
    if "device" in job:
        return of_client(job) | {"peak_rss_mb": peak_mb()}
    opened = open_released(Path(job["folder"]), Path(job["index"]))
    what, events, k = job["what"], int(job["events"]), int(job["k"])
    if what == "first":
        found = first(opened, events, k)
    elif what == "lists":
        found = lists(opened, events, k, int(job["repeat"]))
    else:
        found = exact(opened, events, k, int(job["repeat"]))
    return found | {"peak_rss_mb": peak_mb()}


def of_client(job: dict[str, Any]) -> dict[str, Any]:
    """Run one measurement of EdgeClient."""
    folder, device = Path(job["folder"]), Path(job["device"])
    if job["what"] == "prepare":
        return prepare(folder, device, int(job["events"]))
    if job["what"] == "client-first":
        return first_of_client(device, int(job["k"]))
    return client_calls(folder, device, int(job["k"]), int(job["repeat"]))


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
