"""Undo and forget on a device: the list of before, bit for bit, and no trace in any file; consent; repair."""

from pathlib import Path

import pytest
from fedrec_client import EdgeClient, Event, KeyFile
from fedrec_client.consent.files import POLICY, policy_of, prepared
from fedrec_client.edge.repair import repair
from fedrec_client.store import read_events

from fedrec.errors import InputError, VerificationError
from tests.client.edge.devices import als, device, kernel_rank, listed, released
from tests.client.store.stores import contents

ITEM = "film-of-a-secret-life"
IDS = [ITEM if n == 7 else f"item-{n}" for n in range(30)]


def sealed(client: EdgeClient) -> list[bytes]:
    """Pieces of every sealed row of the store."""
    link = client._store._vault._link
    boxes = [box for table in ("rows", "states") for (box,) in link.execute(f"SELECT sealed FROM {table}")]
    return [part for box in boxes for part in (box[:12], box[40:56], box[-16:])]


def fill(client: EdgeClient, count: int = 40) -> None:
    client.record_all(Event(IDS[n % 13], "like", 1.6e9 + n) for n in range(count))


@pytest.mark.parametrize("model", [als, kernel_rank])
def test_forgetting_an_item_or_a_time_gives_the_list_without_it(tmp_path: Path, model: type) -> None:
    run = released(model(), tmp_path / "run", IDS)
    with device(tmp_path / "device", run) as client:
        client.record_all([Event("item-3", "like", 10.0), Event("item-9", "like", 20.0)])
        before = listed(client)
        client.record(ITEM, "like", 30.0)
        client.record(ITEM, "dislike", 40.0)
        assert listed(client) != before
        assert client.forget(ITEM) == 2
        assert listed(client) == before
        client.record("item-11", "view", 50.0)
        assert client.forget(since=25.0) == 1
        assert listed(client) == before
        assert client.forget(before=15.0) == 1
        with device(tmp_path / "other", run) as other:
            other.record("item-9", "like", 20.0)
            assert listed(client) == listed(other)


def test_forgetting_everything_gives_a_new_device_and_no_trace(tmp_path: Path) -> None:
    run = released(als(), tmp_path / "run", [f"public-{n}" for n in range(30)])
    with device(tmp_path / "device", run) as client, device(tmp_path / "new", run) as new:
        fill(client)
        prepared(client.path, None, print)
        ledger = (tmp_path / "device" / "device-ledger.jsonl").read_bytes()
        pieces = sealed(client)
        assert len(pieces) == 120
        assert all(piece in contents(tmp_path / "device") for piece in pieces)
        clear = [each.encode() for each in IDS[:13]]
        assert not any(mark in contents(tmp_path / "device") for mark in clear), "never in clear"
        client.recommend(), client.explain("public-3")
        assert client.forget(everything=True) == 40
        for found in (contents(tmp_path / "device"),):
            assert not any(mark in found for mark in [*pieces, *clear])
        assert listed(client) == listed(new)
        assert client.recommend(5) == new.recommend(5)
        assert client.record("public-1").number == 1
        assert (tmp_path / "device" / "device-ledger.jsonl").read_bytes() == ledger
    names = sorted(each.name for each in (tmp_path / "device").iterdir())
    known = ["device-ledger.jsonl", "events.key", "events.store", "model.json", "models", "policy.toml"]
    assert [name for name in names if not name.startswith((".", "device-ledger.jsonl."))] == known


def test_an_export_is_read_again(tmp_path: Path) -> None:
    with device(tmp_path / "device") as client, device(tmp_path / "other") as other:
        fill(client, 5)
        assert client.export_my_data(tmp_path / "mine.jsonl") == 5
        other.record_all(read_events(tmp_path / "mine.jsonl"))
        assert other.events() == client.events()
        with pytest.raises(InputError, match="exists already"):
            client.export_my_data(tmp_path / "mine.jsonl")


def test_opting_out_changes_one_line_of_the_policy_and_no_list(tmp_path: Path) -> None:
    with device(tmp_path / "device", released(als(), tmp_path / "run")) as client:
        before = listed(client)
        assert not client.opted_out
        client.opt_out()
        assert client.opted_out
        file = tmp_path / "device" / POLICY
        assert file.stat().st_mode & 0o077 == 0
        file.write_text("# mine\n[data]\nopted_out = true # for now\noldest_days = 30\n")
        client.opt_in()
        assert file.read_text() == "# mine\n[data]\nopted_out = false # for now\noldest_days = 30\n"
        file.write_text("[run]\nepsilon = 3.0 # opted_out = false\n")
        client.opt_out()
        found = policy_of(tmp_path / "device")
        assert (found.data.opted_out, found.run.epsilon) == (True, 3.0)
        assert listed(client) == before
        spent = client.budget()
        assert (spent.epsilon, spent.runs) == (0.0, ())


def test_a_damaged_store_is_one_line_and_a_repair_saves_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    with device(folder, released(als(), tmp_path / "run")) as client:
        fill(client)
    content = bytearray((folder / "events.store").read_bytes())
    content[7 * 4096 + 2000 : 7 * 4096 + 2100] = bytes(100)
    (folder / "events.store").write_bytes(content)
    with pytest.raises(VerificationError, match="damaged"), device(folder) as client:
        client.recommend()
    found = repair(folder, KeyFile(folder / "events.key"))
    assert found.saved.lost is not None
    assert found.saved.events + found.saved.lost == 40
    assert 30 <= found.saved.events < 40
    assert found.damaged.read_bytes() == bytes(content)
    with device(folder) as client:
        assert len(client.events()) == found.saved.events
        assert client.recommend(3)


def test_a_repair_that_was_killed_before_the_swap_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "device"
    with device(folder) as client:
        fill(client)
    rename = Path.rename

    def killed(path: Path, to: Path) -> Path:
        if to.name == "events.store":
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(folder)
    (folder / "events.store").write_bytes(b"")  # the same file as the damaged one: what is saved must be used
    assert repair(folder).saved.events == 40
    with device(folder) as client:
        assert len(client.events()) == 40


def test_a_closed_client_and_a_missing_folder_are_one_line(tmp_path: Path) -> None:
    client = device(tmp_path / "device")
    client.close()
    client.close()
    with pytest.raises(InputError, match="closed"):
        client.record("item-1")
    with pytest.raises(InputError, match="there is no store"):
        EdgeClient.open(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        EdgeClient.open(tmp_path / "file")
    with device(tmp_path / "device") as again, pytest.raises(InputError, match="Did you mean 'view'"):
        again.record("item-1", "veiw")
