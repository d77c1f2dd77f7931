from collections.abc import Iterator
from pathlib import Path

import pytest

from fedrec.http.service import Static
from tests.client.edge.devices import device, features, kernel_rank, released
from tests.client.memory_folders import tmp_path
from tests.client.serve.servers import Served, served

__all__ = ["tmp_path"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A device with a model, its public features, and no events."""
    folder: Path = tmp_path_factory.mktemp("served")
    with device(folder / "device") as client:
        client.install(released(kernel_rank(), folder / "run"), public=features(folder / "public.safetensors"))
        page = Static(b"<!doctype html><title>own</title>", "text/html; charset=utf-8")
        with served(client, files={"/own.html": page}) as found:
            yield found


@pytest.fixture
def empty(server: Served) -> Served:
    """The same without events."""
    server.client.forget(everything=True)
    return server
