"""Downloads: resumed, bounded, on one host, of changed parts alone; and safe against kills and a second process."""

import pytest

pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from fedrec_client import AsyncEdgeClient, SyncOptions
from fedrec_client.releases import download

from fedrec.algorithms.als import ALSModel
from fedrec.errors import InputError, VerificationError
from fedrec.releases.parts import LARGEST_PART, SMALLEST, cut
from tests.client.edge.devices import als, listed
from tests.client.edge.test_installing import HEAVY
from tests.client.releases.publisher import Publisher, bare
from tests.client.releases.test_tuf_attacks import KEYS, refused, with_first
from tests.client.releases.web_server import Web, answer
from tests.client.store.stores import child, ended

MANY = 8_000
NAMES = [f"item-{n}" for n in range(MANY)]


def large(seed: int, popularity: int = 0) -> ALSModel:
    """A model of 2.1 MB in four parts; `popularity` changes its smallest tensor alone."""
    table = torch.randn(MANY, 64, generator=torch.Generator().manual_seed(seed)) / 8
    counts = torch.arange(float(MANY)).roll(popularity)
    return ALSModel(table, table.T @ table, counts, alpha0=0.3, reg=0.01, nu=1.0).by("als")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


@pytest.fixture
def offered(publisher: Publisher) -> Publisher:
    """A publisher whose newest release is large."""
    publisher.publish(large(1), NAMES)
    return publisher


# ---- deltas


def test_parts_of_tensors_that_did_not_change_are_not_fetched(tmp_path: Path, offered: Publisher, web: Web) -> None:
    seen: list[tuple[int, int]] = []
    with bare(tmp_path / "device") as client:
        first = client.sync(web.url, keys=KEYS, options=SyncOptions(progress=lambda *now: seen.append(now)))
        assert first.downloaded == first.size == web.sent
        assert seen[0] == (0, first.size)
        assert seen[-1] == (first.size, first.size)
        assert [here for here, _ in seen] == sorted(here for here, _ in seen)
        offered.publish(large(1, popularity=1), NAMES)
        second = client.sync()
        assert second.changed
        assert second.downloaded < 40_000 < first.downloaded / 40
        assert not list(client.path.glob("releases/parts/*"))


def test_parts_come_from_any_installed_model(tmp_path: Path, offered: Publisher, web: Web) -> None:
    """Also from one that was installed from a folder; a damaged one has nothing to give."""
    with bare(tmp_path / "device") as client:
        client.install(offered.path / "run-1")
        assert client.sync(web.url, keys=KEYS).downloaded == 0
        (file,) = client.path.glob("models/*/model.safetensors")
        offered.publish(large(1, popularity=1), NAMES)
        content = bytearray(file.read_bytes())
        content[0] ^= 1  # the header
        file.write_bytes(content)
        assert client.sync().downloaded > 2_000_000


def test_a_cut_gives_the_whole_file_and_follows_tensors(tmp_path: Path, publisher: Publisher) -> None:
    folder = publisher.model(large(1), NAMES)
    for file in folder.iterdir():
        parts = list(cut(file))
        assert b"".join(content for _, content in parts) == file.read_bytes()
        assert all(0 < part.size == len(content) <= LARGEST_PART for part, content in parts)
        assert sum(part.size < SMALLEST for part, _ in parts) <= 1


# ---- a connection that breaks


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_continues(
    tmp_path: Path, offered: Publisher, web: Web, ranges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ranges no byte comes twice; without, a part comes again from its start."""
    monkeypatch.setattr(download, "TRIES", 1)
    web.ranges, web.breaks_after = ranges, 700_000
    with bare(tmp_path / "device") as client:
        with pytest.raises(InputError, match="ended early"):
            client.sync(web.url, keys=KEYS)
        assert client.model is None
        assert sum(file.stat().st_size for file in client.path.glob("releases/parts/*.part")) > 100_000
    with bare(tmp_path / "device") as client:
        found = client.sync()
        assert found.changed
        assert (web.sent == found.size) is ranges
        assert any("Range" in asked for asked in web.parts_asked())
        assert all(
            asked.get("If-Range", "").startswith('"') for asked in web.parts_asked() if ranges and "Range" in asked
        )


def test_a_break_within_one_sync_is_tried_again(tmp_path: Path, offered: Publisher, web: Web) -> None:
    web.breaks_after = 700_000
    with bare(tmp_path / "device") as client:
        assert client.sync(web.url, keys=KEYS).changed
    assert any("Range" in asked for asked in web.parts_asked())


def test_a_part_that_the_server_replaced_comes_from_its_start(tmp_path: Path, offered: Publisher, web: Web) -> None:
    """Another ETag: `If-Range` gives the whole file."""
    web.breaks_after = 700_000
    web.hooks.append(lambda _: setattr(web, "version", web.version + 1))
    with bare(tmp_path / "device") as client:
        found = client.sync(web.url, keys=KEYS)
        assert found.downloaded > found.size


def test_a_damaged_rest_is_fetched_again(
    tmp_path: Path, offered: Publisher, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk or the server damaged before the break never becomes part of a model."""
    web.breaks_after = 700_000
    with bare(tmp_path / "device") as client:
        with monkeypatch.context() as patch:
            patch.setattr(download, "TRIES", 1)
            with pytest.raises(InputError):
                client.sync(web.url, keys=KEYS)
        (rest,) = client.path.glob("releases/parts/*.part")
        content = bytearray(rest.read_bytes())
        content[7] ^= 1
        rest.write_bytes(content)
        assert client.sync().changed


def test_a_range_that_was_not_asked_for(
    tmp_path: Path, offered: Publisher, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TRIES", 2)
    web.breaks_after = 700_000
    web.hooks.append(
        lambda request: "Range" in request.headers and answer(request, b"x", 206, Content_Range="bytes 0-0/1")
    )
    with bare(tmp_path / "device") as client, pytest.raises(InputError, match="another range"):
        client.sync(web.url, keys=KEYS)


# ---- limits


def test_a_limit_of_bytes(tmp_path: Path, offered: Publisher, web: Web) -> None:
    with bare(tmp_path / "device") as client, pytest.raises(VerificationError, match="more than 1,000,000"):
        client.sync(web.url, keys=KEYS, options=SyncOptions(most=1_000_000))
    assert not web.parts_asked()


def test_a_disk_without_room(tmp_path: Path, publisher: Publisher, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.publish(als(2))
        monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
        refused(client, "no room for", InputError)


def test_a_server_that_is_not_there(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        web.shutdown()
        web.server_close()
        refused(client, "cannot be reached", InputError)


# ---- privacy


def test_a_request_has_nothing_that_names_the_device(tmp_path: Path, offered: Publisher, web: Web) -> None:
    with bare(tmp_path / "device") as client:
        client.sync(web.url, keys=KEYS)
    for _, headers in web.asked:
        assert set(headers) == {"Host", "User-Agent", "Accept-Encoding"}
        assert headers["User-Agent"] == "fedrec"
    assert web.connections == 1, "one for all files"


def test_jitter_waits_a_random_part(
    tmp_path: Path, publisher: Publisher, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("fedrec_client.releases.sync.time.sleep", waited.append)
    with with_first(tmp_path / "device", publisher, web) as client:
        for _ in range(5):
            client.sync(options=SyncOptions(jitter=60))
        with pytest.raises(InputError, match="jitter"):
            client.sync(options=SyncOptions(jitter=-1))
    assert len(set(waited)) == 5
    assert all(0 <= each <= 60 for each in waited)


# ---- two processes, kills


def test_sync_as_a_coroutine(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    publisher.publish(als(1))

    async def work() -> bool:
        async with await AsyncEdgeClient.open(tmp_path / "device") as client:
            return (await client.sync(web.url, keys=KEYS)).changed

    assert asyncio.run(work())


def test_others_use_the_client_while_it_downloads(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """A slow server holds up no list."""
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.publish(als(2))
        asked, goes_on = threading.Event(), threading.Event()

        def hold(request) -> bool:
            if request.path.startswith("/parts/"):
                asked.set()
                goes_on.wait(20)
            return False

        web.hooks.append(hold)
        thread = threading.Thread(target=client.sync)
        thread.start()
        assert asked.wait(20)
        before = listed(client)
        client.record("item-4", time=2.0)
        goes_on.set()
        thread.join(20)
        assert listed(client) != before


def test_two_clients_sync_at_once(tmp_path: Path, offered: Publisher, web: Web) -> None:
    """Both end with the new model, and its parts come once."""
    with bare(tmp_path / "device") as one, bare(tmp_path / "device") as other:
        found = []
        threads = [
            threading.Thread(target=lambda each=each: found.append(each.sync(web.url, keys=KEYS)))
            for each in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(each.changed for each in found) == [False, True]
        assert web.sent == found[0].size
        assert listed(one, 5) == listed(other, 5)


def synced_by_a_child(path: Path, url: str, most: float) -> bool:
    """Start a sync in a process that is killed after `most` seconds; return whether it had ended by itself."""

    def work(writing: int) -> None:
        with bare(path) as client:
            os.write(writing, b"x")
            client.sync(url, keys=KEYS)
        os.write(writing, b"y")

    number, reading = child(work)
    assert os.read(reading, 1) == b"x"
    done = bool(select.select([reading], [], [], most)[0])
    os.kill(number, signal.SIGKILL)
    assert ended(number) == -signal.SIGKILL
    os.close(reading)
    return done


def kill_at_random_moments(tmp_path: Path, publisher: Publisher, web: Web, turns: int, seed: int) -> None:
    """After each kill the device has the old model or the new one, whole; the next sync finishes."""
    device, pause, known = tmp_path / "device", random.Random(seed), []
    for each in (1, 2):
        publisher.publish(als(each))
        with bare(tmp_path / f"other-{each}") as other:
            other.sync(web.url, keys=KEYS)
            other.record("item-3", time=1.0)
            known.append(listed(other))
    with bare(device) as client:
        client.sync(web.url, keys=KEYS)
        client.record("item-3", time=1.0)
    publisher.publish(als(1))
    began = time.monotonic()
    assert synced_by_a_child(device, web.url, 60)
    usual, now, killed = time.monotonic() - began, 0, []
    for _ in range(turns):
        before, now = now, 1 - now
        publisher.publish(als(now + 1))
        done = synced_by_a_child(device, web.url, pause.uniform(0, 1.1 * usual))
        with bare(device) as client:
            found = known.index(listed(client))
            assert found == now if done else found in (before, now)
            killed += [] if done else [found == now]
            client.sync()
            assert listed(client) == known[now]
    assert killed.count(False) > turns / 10


def test_some_kills_leave_the_old_model_or_the_new(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    kill_at_random_moments(tmp_path, publisher, web, 4, 3)


@pytest.mark.slow
def test_many_kills_leave_the_old_model_or_the_new(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    kill_at_random_moments(tmp_path, publisher, web, 60, 4)


def test_a_sync_imports_nothing_heavy(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """In a process of its own; python-tuf is imported by a sync alone."""
    publisher.publish(als(1))
    program = (
        "import sys\n"
        "from fedrec_client import EdgeClient\n"
        f"with EdgeClient.open({str(tmp_path / 'device')!r}) as client:\n"
        "    before = 'tuf' in sys.modules\n"
        f"    client.sync({web.url!r}, keys={KEYS!r})\n"
        "    print(len(client.recommend(3)), before)\n"
        f"print(sorted(set({HEAVY!r}) & {{name.split('.')[0] for name in sys.modules}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["3 False", "[]"]
