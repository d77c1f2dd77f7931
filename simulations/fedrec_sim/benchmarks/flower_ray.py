"""Flower's own simulation engine (Ray) running the same model: one virtual client a user.

The client is real: it receives the item vectors, solves its own vector exactly from its history, and answers with its
gradient of the item vectors, a message of the same size. It is written in NumPy, which starts fastest, and the
server polls for answers much more often than Flower's own loop does (every 3 seconds), so the figure flatters Flower.
"""

import statistics
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fedrec_sim.benchmarks.memory import TreeMemory
from fedrec_sim.benchmarks.population import histories

_ALPHA0, _REG = 0.3, 0.003


def local_step(items: np.ndarray, gram: np.ndarray, row: np.ndarray) -> np.ndarray:
    """One client: its exact vector w, then the gradient of its loss in the item vectors, (items, d) float32."""
    mine = items[row]
    ridge = _REG * (len(row) + _ALPHA0 * len(items))
    normal = mine.T @ mine + _ALPHA0 * gram + ridge * np.eye(items.shape[1], dtype=np.float32)
    vector = np.linalg.solve(normal, mine.sum(axis=0)).astype(np.float32)
    gradient = _ALPHA0 * np.outer(items @ vector, vector)
    np.add.at(gradient, row, np.outer(mine @ vector - 1, vector))
    return gradient.astype(np.float32)


@lru_cache(maxsize=1)
def _rows(path: str) -> tuple[np.ndarray, np.ndarray]:
    return np.load(f"{path}/offsets.npy"), np.load(f"{path}/items.npy", mmap_mode="r")


def _client_app(folder: str) -> Any:
    from flwr.app import ArrayRecord, Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        items, gram = message.content["model"].to_numpy_ndarrays()
        offsets, events = _rows(folder)
        user = int(context.node_config["partition-id"])
        gradient = local_step(items, gram, np.array(events[offsets[user] : offsets[user + 1]]))
        return Message(RecordDict({"gradient": ArrayRecord([gradient])}), reply_to=message)

    return app


def _server_app(clients: int, rounds: int, n_items: int, dim: int, seconds: list[float]) -> Any:
    from flwr.app import ArrayRecord, Context, Message, RecordDict
    from flwr.serverapp import Grid, ServerApp

    app = ServerApp()

    @app.main()
    def main(grid: Grid, _: Context) -> None:
        items = np.random.default_rng(0).normal(0, 0.1 / np.sqrt(dim), (n_items, dim)).astype(np.float32)
        while len(nodes := list(grid.get_node_ids())) < clients:
            time.sleep(0.1)
        for _ in range(rounds):
            began = time.perf_counter()
            model = RecordDict({"model": ArrayRecord([items, items.T @ items])})
            waiting = set(
                grid.push_messages([Message(model, dst_node_id=node, message_type="train") for node in nodes])
            )
            total = np.zeros_like(items)
            while waiting:
                for reply in grid.pull_messages(list(waiting)):
                    if reply.has_error():
                        raise RuntimeError(f"a client failed: {reply.error}")
                    waiting.discard(reply.metadata.reply_to_message_id)
                    total += reply.content["gradient"].to_numpy_ndarrays()[0]
                time.sleep(0.02)
            items = items - np.float32(0.1 / clients) * total
            seconds.append(time.perf_counter() - began)
            print(f"Flower: {clients} clients in {seconds[-1]:.1f} s", flush=True)

    return app


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Median seconds of a round with `clients` clients over `repeat` rounds after one to warm up."""
    from flwr.simulation import run_simulation

    log = histories(job)
    clients = min(job["clients"], len(log))
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder, TreeMemory() as memory:
        np.save(Path(folder) / "offsets.npy", log.offsets)
        np.save(Path(folder) / "items.npy", log.items)
        run_simulation(
            _server_app(clients, job["repeat"] + 1, log.n_items, job["dim"], seconds),
            _client_app(folder),
            num_supernodes=clients,
            backend_config={
                "init_args": {"num_cpus": job["threads"], "include_dashboard": False, "_node_ip_address": "127.0.0.1"},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
    if len(seconds) < 2:
        raise RuntimeError("Flower's engine ended before the first measured round")
    middle = statistics.median(seconds[1:])
    return {
        "what": "flower",
        "users": clients,
        "rounds": seconds[1:],
        "seconds": middle,
        "ms_per_client": 1e3 * middle / clients,
        "users_per_second": clients / middle,
        "peak_rss_mb": memory.peak_mb,
    }
