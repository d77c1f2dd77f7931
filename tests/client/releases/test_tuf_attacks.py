"""Each attack of the TUF specification (section 1.5.2), played by the web server: one line, and the old model stays."""

import pytest

pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")

import json
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from fedrec_client import EdgeClient, SyncOptions
from fedrec_client.releases import download
from fedrec_server.releases.folder import Lifetimes
from fedrec_server.releases.roles import RoleKeys, tuf_key
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

from fedrec.audit.log.keys import SigningKey
from fedrec.errors import FedrecError, InputError, VerificationError
from tests.client.edge.devices import als, listed
from tests.client.releases.publisher import OPERATOR, Publisher, ago, bare, changed, copied
from tests.client.releases.web_server import Handler, Web, answer, endless

KEYS = [OPERATOR.public.text]
IMPATIENT = SyncOptions(patience=0.3)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TRIES", 1)


def with_first(path: Path, publisher: Publisher, web: Web) -> EdgeClient:
    """A device that has the first release."""
    publisher.publish(als(1))
    client = bare(path)
    assert client.sync(web.url, keys=KEYS).changed
    client.record("item-3", time=1.0)
    return client


def refused(
    client: EdgeClient, words: str, kind: type[FedrecError] = VerificationError, how: SyncOptions | None = None
) -> None:
    """The sync is one line, and the model of before makes the same list."""
    before = listed(client)
    with pytest.raises(kind, match=words) as caught:
        client.sync(options=how)
    assert "\n" not in str(caught.value)
    assert listed(client) == before


def test_a_release_is_fetched_verified_and_used(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        first = listed(client)
        assert not client.sync().changed
        publisher.publish(als(2))
        found = client.sync()
        assert (found.changed, found.sequence) == (True, 2)
        assert listed(client) != first


# ---- arbitrary software


def test_arbitrary_software_in_a_part(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        for part in publisher.publish(als(2)).files[-1].parts:
            place = publisher.folder.path / "parts" / part.sha256
            place.write_bytes(bytes([place.read_bytes()[0] ^ 1]) + place.read_bytes()[1:])
        refused(client, "not the signed one")


def test_arbitrary_software_in_the_record(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        content = publisher.publish(als(2)).content()
        (place,) = [file for file in (publisher.folder.path / "targets").iterdir() if file.read_bytes() == content]
        place.write_bytes(content.replace(b'"min_rating": null', b'"min_rating": 1.00'))
        refused(client, "mixed, or one was changed")


def test_arbitrary_software_signed_by_an_attacker(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.key = SigningKey.generate()
        publisher.publish(als(2))
        refused(client, "not signed by the keys")


def test_the_pinned_key_decides_at_the_first_sync(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """A wrong key pins nothing: the right one is accepted afterwards."""
    publisher.publish(als(1))
    other = SigningKey.generate().public.text
    with bare(tmp_path / "device") as client:
        for keys in ([other], [other, *KEYS]):
            with pytest.raises(VerificationError, match="signed by the pinned key"):
                client.sync(web.url, keys=keys)
            assert client.model is None
        with pytest.raises(InputError, match="with --url and --key"):
            client.sync(web.url)
        assert client.sync(web.url, keys=KEYS).changed


def test_a_mirror_is_kept_once_it_served_a_release(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client, Web(publisher.folder.path) as mirror:
        mirror.start()
        with pytest.raises(InputError, match="cannot be reached"):
            client.sync("http://127.0.0.1:9/nothing")
        assert not client.sync().changed
        assert not client.sync(mirror.url).changed
        web.asked.clear()
        assert not client.sync().changed
        assert not web.asked
        assert mirror.asked
        mirror.shutdown()


def test_other_keys_never_replace_the_pinned_ones(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client, pytest.raises(InputError, match="are pinned"):
        client.sync(keys=[SigningKey.generate().public.text])


# ---- rollback, freeze, mix and match


def test_rollback(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        old = copied(publisher.folder.path, tmp_path / "old")
        publisher.publish(als(2))
        client.sync()
        web.root = old
        refused(client, "rollback")


def test_freeze(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """A server that replays an old statement is refused once the statement has expired; a renewed one is accepted."""
    with with_first(tmp_path / "device", publisher, web) as client:
        late = publisher.at(ago(days=8), Lifetimes(timestamp=timedelta(days=7)))
        late.renew(OPERATOR)
        refused(client, "expired")
        publisher.folder.renew(OPERATOR)
        assert not client.sync().changed


def test_a_release_or_a_snapshot_that_expired(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        place = publisher.model(als(2))
        publisher.offer(publisher.release(place, publisher.ledger(place)), publisher.at(ago(days=200)))
        publisher.folder._sign_timestamp(2, OPERATOR)
        refused(client, "expired")


def test_mix_and_match(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """Files of two releases, each with its genuine signature."""
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.publish(als(2))
        for role in ("snapshot", "targets"):
            place = publisher.metadata / f"2.{role}.json"
            kept = place.read_bytes()
            shutil.copy(publisher.metadata / f"1.{role}.json", place)
            refused(client, "mixed, or one was changed")
            place.write_bytes(kept)
        assert client.sync().changed


# ---- wrong length, endless data, slow retrieval


@pytest.mark.parametrize("more", [-1, 1], ids=["shorter", "longer"])
def test_a_part_of_the_wrong_length(tmp_path: Path, publisher: Publisher, web: Web, more: int) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        part = publisher.publish(als(2)).files[-1].parts[0]
        place = publisher.folder.path / "parts" / part.sha256
        content = place.read_bytes()
        place.write_bytes(content[:more] if more < 0 else content + b"\0")
        refused(client, "ended a download early" if more < 0 else "longer than it may be", FedrecError)


def test_a_record_of_the_wrong_length(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        content = publisher.publish(als(2)).content()
        (place,) = [file for file in (publisher.folder.path / "targets").iterdir() if file.read_bytes() == content]
        place.write_bytes(content + b" ")
        refused(client, "mixed, or one was changed|longer than|does not end")
        place.write_bytes(content[:-1])
        refused(client, "mixed, or one was changed")


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "2.snapshot.json", "release.json", "/parts/"])
def test_endless_data(tmp_path: Path, publisher: Publisher, web: Web, name: str) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.publish(als(2))
        web.hooks.append(lambda request: name in request.path and endless(request))
        refused(client, "does not end where it must")
        assert sum(file.stat().st_size for file in client.path.rglob("*") if file.is_file()) < 4_000_000


def drip(headers: bool) -> Callable[[Handler], bool]:
    def one_byte_at_a_time(request: Handler) -> bool:
        if not headers:
            request.send_response(200)
            request.send_header("Content-Length", "300")
            request.end_headers()
        for _ in range(300):
            request.wfile.write(b"H")
            time.sleep(0.05)
        return True

    return one_byte_at_a_time


@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("headers", [True, False], ids=["headers", "body"])
def test_slow_retrieval(
    tmp_path: Path, publisher: Publisher, web: Web, headers: bool, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes before any time-out of the socket, and the download ends all the same.

    A server of HTTP/1.0 closes the connection after each file.
    """
    monkeypatch.setattr("fedrec_client.releases.web.LEAST_RATE", 1_000_000)
    monkeypatch.setattr(Handler, "protocol_version", protocol)
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.publish(als(2))
        slow = drip(headers)
        web.hooks.append(lambda request: "snapshot" in request.path and slow(request))
        began = time.monotonic()
        refused(client, "too slowly", InputError, IMPATIENT)
        assert time.monotonic() - began < 5


def test_a_server_that_never_answers(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        web.hooks.append(lambda _: time.sleep(1.5) or True)
        refused(client, "too slowly", InputError, IMPATIENT)


# ---- extraneous dependencies


def test_a_release_brings_files_of_a_model_alone(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        place = publisher.model(als(2))
        made = publisher.release(place, publisher.ledger(place))
        publisher.offer(changed(made, files=(*made.files, changed(made.files[0], name="plugin.so"))))  # type: ignore[arg-type]
        refused(client, "not of a model")


# ---- keys


def test_a_rotated_release_key(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """Devices follow the root; what the old key signs afterwards is void."""
    with with_first(tmp_path / "device", publisher, web) as client:
        old, publisher.key = publisher.key, SigningKey.generate()
        assert publisher.folder.rotate([old], publisher.key) == 2
        publisher.publish(als(2))
        assert client.sync().sequence == 2
        publisher.key = old
        publisher.publish(als(3))
        refused(client, "not signed by the keys")


def test_a_thief_of_the_release_key_has_no_ledger(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """The root names the keys of ledgers; the release key alone proves no model."""
    thief, other = SigningKey.generate(), SigningKey.generate()
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.folder.rotate([OPERATOR], thief)
        publisher.key = thief
        place = publisher.model(als(2))
        publisher.offer(publisher.release(place, publisher.ledger(place, key=other)))
        refused(client, f"names no ledger of the key {other.public.id}")
        publisher.folder.rotate([OPERATOR], thief, ledgers=[OPERATOR.public, other.public])
        assert client.sync().changed


def test_a_rotated_root_key(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """Old and new keys sign; a new device may pin either; the old key signs no further root."""
    new = SigningKey.generate()
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.folder.rotate([OPERATOR], OPERATOR, roots=[new])
        publisher.publish(als(2))
        assert client.sync().sequence == 2
        for name, key in (("first", OPERATOR), ("later", new)):
            with bare(tmp_path / name) as device:
                assert device.sync(web.url, keys=[key.public.text]).sequence == 2
        with pytest.raises(InputError, match="its root needs 1 of its keys to sign, and 0 are here"):
            publisher.folder.rotate([OPERATOR], OPERATOR)
        thief = Publisher(tmp_path / "thief")
        thief.folder.rotate([OPERATOR], OPERATOR)
        thief.folder.rotate([OPERATOR], OPERATOR)
        shutil.copy(thief.metadata / "3.root.json", publisher.metadata / "3.root.json")
        refused(client, "not signed by the keys")


def test_a_root_needs_the_threshold_of_its_keys(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    one, two, three = (SigningKey.generate() for _ in range(3))
    careful = Publisher(tmp_path / "careful", roots=[one, two, three], threshold=2)
    careful.publish(als(1))
    web.root = careful.folder.path
    with bare(tmp_path / "device") as client:
        client.sync(web.url, keys=[one.public.text, two.public.text])
        with pytest.raises(InputError, match="its root needs 2 of its keys to sign, and 1 are here"):
            careful.folder.rotate([one], OPERATOR)
        careful.folder.rotate([one, three], OPERATOR)
        kept = RoleKeys.of(careful.folder._root().signed)
        assert (set(kept.roots), kept.threshold) == ({one.public, two.public, three.public}, 2), "as before"
        assert not client.sync().changed
        root = json.loads((careful.metadata / "2.root.json").read_text())
        mine = tuf_key(one.public).keyid
        root["signatures"] = [each for each in root["signatures"] if each["keyid"] == mine]
        (careful.metadata / "2.root.json").write_text(json.dumps(root))
        with bare(tmp_path / "second") as device, pytest.raises(VerificationError, match="not signed by the keys"):
            device.sync(web.url, keys=[one.public.text])


def test_recovery_from_a_fast_forward(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """A stolen release key drives up the versions; after a rotation devices follow the lower ones of the new key."""
    thief, new = OPERATOR, SigningKey.generate()
    with with_first(tmp_path / "device", publisher, web) as client:
        genuine = copied(publisher.folder.path, tmp_path / "genuine")
        far = 1 << 31
        snapshot = Metadata[Snapshot].from_file(str(publisher.metadata / "1.snapshot.json"))
        snapshot.signed.version = far
        content = publisher.folder._write(snapshot.signed, f"{far}.snapshot.json", [thief])
        timestamp = Metadata[Timestamp].from_file(str(publisher.metadata / "timestamp.json"))
        timestamp.signed.version = far
        timestamp.signed.snapshot_meta = MetaFile.from_data(far, content, ["sha256"])
        publisher.folder._write(timestamp.signed, "timestamp.json", [thief])
        client.sync()
        web.root = genuine
        refused(client, "rollback")
        restored = Publisher.__new__(Publisher)
        restored.__dict__ |= publisher.__dict__
        restored.path = tmp_path / "restored"
        copied(genuine, tmp_path / "restored" / "web")
        restored.folder, restored.key = restored.at(), new
        restored.folder.rotate([OPERATOR], new)
        restored.publish(als(2))
        web.root = restored.folder.path
        assert client.sync().changed
        assert client.sync().sequence == 2


# ---- a device that was set back


def test_a_restored_copy_of_yesterday(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    """The copy knows what it knew: an older release than it had is refused, and a replay only until it expires."""
    with with_first(tmp_path / "device", publisher, web):
        pass
    yesterday = copied(tmp_path / "device", tmp_path / "restored")
    old = copied(publisher.folder.path, tmp_path / "old")
    publisher.publish(als(2))
    with bare(tmp_path / "device") as client:
        client.sync()
    with bare(yesterday) as client:
        web.root = old
        assert not client.sync().changed, "within the time of the statement a replay cannot be seen"
        publisher.at(ago(days=8)).renew(OPERATOR)
        shutil.copy(publisher.metadata / "timestamp.json", old / "metadata" / "timestamp.json")
        shutil.copy(publisher.metadata / "2.snapshot.json", old / "metadata" / "2.snapshot.json")
        refused(client, "expired")
        publisher.folder.renew(OPERATOR)
        web.root = publisher.folder.path
        assert client.sync().sequence == 2


def test_no_file_where_one_must_be(tmp_path: Path, publisher: Publisher, web: Web) -> None:
    with with_first(tmp_path / "device", publisher, web) as client:
        publisher.publish(als(2))
        web.hooks.append(lambda request: "/targets/" in request.path and answer(request, b"gone", 404))
        refused(client, "lacks a file", InputError)
