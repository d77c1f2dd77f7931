"""What a list over HTTP costs: `fedrec serve` as a process of its own, next to its no-op route and the bare model.

| part | what is measured |
|---|---|
| model | fit and rank, one person after the other, without a server: CPU time of this process |
| service | the same through the ASGI application, without sockets: CPU time of this process |
| HTTP | requests on kept connections: wall time at the client, CPU time of the server |

CPU times do not depend on what else the machine does. Wall times do: compare them with those of the no-op route, which
the same process serves in the same run.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.errors import InputError
from fedrec.http.entrance import Entrance
from fedrec.http.service import Limits, Service
from fedrec.serving.batching import Batches
from fedrec.serving.loaded import Loaded
from fedrec.serving.messages import Person
from fedrec.serving.metrics import Metrics
from fedrec.serving.routes import ABOUT, ROUTES, Serving
from fedrec_sim.benchmarks.edge import ONE_THREAD

_TICKS = os.sysconf("SC_CLK_TCK")


def quantiles(values: list[float]) -> dict[str, float]:
    """Median and 99 % of seconds, in milliseconds."""
    found = np.array(values) * 1000
    return {"median": float(np.median(found)), "99 %": float(np.quantile(found, 0.99))}


def bodies(items: list[str], events: int, k: int, count: int, seed: int = 0) -> list[bytes]:
    """Requests of `count` people with random histories of `events` of the `items`."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        chosen = generator.choice(len(items), events, replace=events > len(items))
        made.append(json.dumps({"history": [items[place] for place in chosen], "k": k}).encode())
    return made


def in_process(model: Loaded, requests: list[bytes]) -> dict[str, Any]:
    """Measure the model alone, and the service without sockets."""
    people = [Person.model_validate_json(body, strict=True) for body in requests]
    alone = []
    for person in people:
        start = time.process_time()
        model.lists([person])
        alone.append(time.process_time() - start)
    return {"model_cpu_ms": quantiles(alone), "service_cpu_ms": quantiles(asyncio.run(_through(model, requests)))}


async def _through(model: Loaded, requests: list[bytes]) -> list[float]:
    metrics = Metrics()
    serving = Serving(model, Batches(made=metrics.batch), metrics)
    entrance = Entrance.named(None, (), None)
    service = Service(serving, entrance, ROUTES, ABOUT, limits=Limits(), observe=metrics.answered)
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/recommend", "query_string": b""}
    found = []
    for body in requests:
        sent: list[Any] = []

        async def receive(body: bytes = body) -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        start = time.process_time()
        await service({**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}, receive, send)
        found.append(time.process_time() - start)
        if sent[0]["status"] != 200:
            raise InputError(f"bench serve: a request was refused: {sent[1]['body'].decode()[:200]}")
    return found


@contextmanager
def server(run: Path, core: int | None) -> Iterator[tuple[int, int]]:
    """Run `fedrec serve` on one core; yield its port and process.

    Raises:
        InputError: when it does not start.
    """
    command = [sys.executable, "-m", "fedrec.cli", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            if not line.startswith("Serving"):
                raise InputError(f"bench serve: {line.strip()}")
            if core is not None:
                for thread in os.listdir(f"/proc/{process.pid}/task"):
                    os.sched_setaffinity(int(thread), {core})
            yield int(line.split("127.0.0.1:")[1].split(".")[0]), process.pid
        finally:
            process.terminate()
            process.wait(30)


def load(port: int, process: int, requests: list[bytes], connections: int) -> dict[str, Any]:
    """Measure lists and the no-op route over `connections` kept connections; all `requests` are sent once for each."""
    found: dict[str, Any] = {"connections": connections}
    for name, path, sent in (("no_op", "/health", [b""] * len(requests)), ("lists", "/v1/recommend", requests)):
        cpu, start = _cpu(process), time.perf_counter()
        times = asyncio.run(_load(port, path, sent, connections))
        wall = time.perf_counter() - start
        found[name] = {
            "requests_per_second": len(times) / wall,
            "wall_ms": quantiles(times),
            "server_cpu_ms": 1000 * (_cpu(process) - cpu) / len(times),
        }
    return found


async def _load(port: int, path: str, requests: list[bytes], connections: int) -> list[float]:
    parts = [_one(port, path, requests[place::connections]) for place in range(connections)]
    return [seconds for each in await asyncio.gather(*parts) for seconds in each]


async def _one(port: int, path: str, requests: list[bytes]) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    for body in requests:
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        start = time.perf_counter()
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
        found.append(time.perf_counter() - start)
        if not answer.startswith(b"http/1.1 200"):
            raise InputError(f"bench serve: {path} answered {answer[9:12].decode()}")
    writer.close()
    return found


def _cpu(process: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
