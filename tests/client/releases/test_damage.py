"""Damage that is no attack: files of the device that a crash cut short, and a publisher that is killed."""

import pytest

pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")

from pathlib import Path

from fedrec_server.releases import folder as folders

from fedrec.errors import FedrecError
from tests.client.edge.devices import als, listed
from tests.client.releases.publisher import Publisher, bare
from tests.client.releases.test_tuf_attacks import KEYS, with_first
from tests.client.releases.web_server import Web


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 50_000], ids=["empty", "bare", "deep"])
def test_a_damaged_file_of_the_device_is_one_line_or_is_fetched_again(
    tmp_path: Path, publisher: Publisher, web: Web, content: bytes
) -> None:
    """Each file below `releases/` in turn; the model in use stays, and a device that begins anew gets the release."""
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.publish(als(2))
        place = client.path / "releases"
        names = sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())
        assert {"source.json", "seen.json", "metadata/timestamp.json"} <= set(names)
        healed = 0
        for name in names:
            before = listed(client)
            kept = {each: (place / each).read_bytes() for each in names}
            (place / name).write_bytes(content)
            try:
                client.sync()
                healed += 1
            except FedrecError as error:
                said = str(error)
                assert "\n" not in said
                assert name in said, "the file that is damaged"
                assert listed(client) == before
            for each, old in kept.items():
                (place / each).write_bytes(old)
        assert healed >= len(names) - 4
        assert client.sync().downloaded == 0


def test_a_publisher_that_is_killed_leaves_the_old_release_or_the_new(
    tmp_path: Path, publisher: Publisher, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop before each file that a publication writes; devices go on, and the next publication succeeds."""
    real, stops = folders.replace, 0
    with with_first(tmp_path / "device", publisher, web) as client:
        for stop in range(1, 20):
            calls = 0

            def dying(path: Path, content: bytes, last: int = stop) -> None:
                nonlocal calls
                calls += 1
                if calls == last:
                    raise KeyboardInterrupt
                real(path, content)

            with monkeypatch.context() as patch:
                patch.setattr(folders, "replace", dying)
                try:
                    publisher.publish(als(stop + 10))
                except KeyboardInterrupt:
                    stops += 1
                else:
                    break
            client.sync()
            publisher.publish(als(stop + 30))
            assert client.sync().changed
        assert client.sync().sequence == publisher.sequence
    assert stops >= 4
    with bare(tmp_path / "fresh") as device:
        assert device.sync(web.url, keys=KEYS).changed
