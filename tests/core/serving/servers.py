"""A served model, and requests to it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedrec.http.entrance import Entrance
from fedrec.http.listening import Server, on_loopback
from fedrec.http.service import Limits, Service
from fedrec.serving.batching import Batches
from fedrec.serving.loaded import Loaded
from fedrec.serving.metrics import Metrics
from fedrec.serving.routes import ABOUT, ROUTES, Serving
from tests.client.serve.servers import Served


@contextmanager
def serving_of(
    run: Path, limits: Limits | None = None, observe: Callable[[str, int, float], None] | None = None
) -> Iterator[tuple[Served, Serving]]:
    """Serve a run in a thread; no token is needed."""
    metrics, up = Metrics(), threading.Event()
    found = Serving(Loaded.of(run), Batches(made=metrics.batch), metrics)
    with on_loopback("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        entrance = Entrance.of(port, (), None)
        service = Service(
            found, entrance, ROUTES, ABOUT, limits=limits or Limits(), observe=observe or metrics.answered
        )
        server = Server(service, listening, up.set)
        thread = threading.Thread(target=server.serve_until_stopped)
        thread.start()
        try:
            assert up.wait(20)
            client: Any = None
            yield Served(port, "", client), found
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
