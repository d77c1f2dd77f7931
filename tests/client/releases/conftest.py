from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")

from tests.client.memory_folders import tmp_path
from tests.client.releases.publisher import Publisher
from tests.client.releases.web_server import Web

__all__ = ["tmp_path"]


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "publisher")


@pytest.fixture
def web(publisher: Publisher) -> Iterator[Web]:
    with Web(publisher.folder.path) as server:
        server.start()
        yield server
        server.shutdown()
