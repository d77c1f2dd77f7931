from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.client.memory_folders import tmp_path
from tests.client.releases.web_server import Web

if TYPE_CHECKING:
    from tests.client.releases.publisher import Publisher

__all__ = ["tmp_path"]


@pytest.fixture
def publisher(tmp_path: Path) -> "Publisher":
    from tests.client.releases.publisher import Publisher

    return Publisher(tmp_path / "publisher")


@pytest.fixture
def web(publisher: "Publisher") -> Iterator[Web]:
    with Web(publisher.folder.path) as server:
        server.start()
        yield server
        server.shutdown()
