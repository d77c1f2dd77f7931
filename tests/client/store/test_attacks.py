"""Attacks on the file of a store: every one is a one-line error, and none gives an event that was not recorded."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fedrec_client.store import Event, KeyFile, Store

from fedrec.errors import FedrecError, InputError, VerificationError
from tests.client.store.stores import filled, items, opened

COUNT = 120
RIGHT = [f"item-{n}" for n in range(COUNT)]


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    with filled(tmp_path, COUNT) as store:
        store.set_state("age", b"30")
        store.set_state("language", b"de" * 3000)
    return tmp_path / "me.store"


def read(path: Path) -> tuple[list[str], dict[str, bytes]]:
    with Store.open(path, KeyFile(path.with_name("me.key"))) as store:
        return items(store), store.states()


def refused(path: Path, kind: type[FedrecError] = VerificationError) -> str:
    with pytest.raises(kind) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def edit(path: Path, *lines: str) -> None:
    link = sqlite3.connect(path)
    for line in lines:
        link.execute(line)
    link.commit()
    link.close()


def flips(path: Path, places: list[int], seed: int) -> int:
    """Flip a bit at each of the places; return how often it was noticed. Other flips change nothing that is read."""
    right, content, draws, caught = read(path), path.read_bytes(), random.Random(seed), 0
    for at in places:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << draws.randrange(8)]) + content[at + 1 :])
        try:
            found = read(path)
        except FedrecError:
            caught += 1
        else:
            assert found == right, at
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    return caught


def test_flipped_bits_give_no_wrong_event(closed: Path) -> None:
    size = closed.stat().st_size
    assert flips(closed, [*range(16, 100, 4), *range(100, size, size // 60)], 1) > 25


@pytest.mark.slow
def test_flipped_bits_in_every_part_of_every_page_give_no_wrong_event(closed: Path) -> None:
    size = closed.stat().st_size
    assert flips(closed, [*range(100), *range(100, size, 40)], 4) > 500


def test_a_flip_in_each_sealed_row_is_caught(closed: Path) -> None:
    content = closed.read_bytes()
    link = sqlite3.connect(closed)
    boxes = [box for table in ("rows", "states", "head") for (box,) in link.execute(f"SELECT sealed FROM {table}")]
    boxes += [box for (box,) in link.execute("SELECT wrapped FROM key")]
    link.close()
    for box in random.Random(2).sample(boxes[:-4], 10) + boxes[-4:]:
        at = content.index(box[:300]) + min(len(box), 300) // 2
        closed.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        refused(closed, InputError if box is boxes[-1] else VerificationError)


def test_flipped_bits_in_the_log_give_no_wrong_event(tmp_path: Path) -> None:
    with filled(tmp_path, 20) as store:
        for n in range(20, 40):
            store.append(Event(f"item-{n}"))
        copies = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    copy, draws = tmp_path / "copy", random.Random(3)
    copy.mkdir()
    right = [f"item-{n}" for n in range(40)]
    log = copies["me.store-wal"]
    for _ in range(20):
        for file in copy.iterdir():
            file.unlink()
        for name, content in copies.items():
            (copy / name).write_bytes(content)
            (copy / name).chmod(0o600)
        at = draws.randrange(len(log))
        (copy / "me.store-wal").write_bytes(log[:at] + bytes([log[at] ^ 1 << draws.randrange(8)]) + log[at + 1 :])
        try:
            found, _ = read(copy / "me.store")
        except FedrecError:
            continue
        assert found == right[: len(found)]  # SQLite drops the log from a damaged frame on


@pytest.mark.parametrize("size", [0, 1, 99, 100, 512, 4095, 4096, 5000, 8192, 20480, -4096])
def test_a_truncated_file(closed: Path, size: int) -> None:
    content = closed.read_bytes()
    closed.write_bytes(content[:size])
    refused(closed, FedrecError if 0 <= size < 100 else VerificationError)


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    opened(tmp_path).close()
    other = tmp_path / "other"
    edit(other, "CREATE TABLE rows(id INTEGER PRIMARY KEY, sealed BLOB)")
    for make in (lambda: None, lambda: other.write_bytes(b"hello" * 999), lambda: other.write_bytes(bytes(9999))):
        make()
        refused(other, FedrecError)
    refused(tmp_path, InputError)
    with pytest.raises(InputError, match="there is no store"):
        Store.open(tmp_path / "none", create=False)


SWAPS: dict[str, Callable[[str], list[str]]] = {
    "two rows": lambda table: [
        f"CREATE TEMP TABLE t AS SELECT id, sealed FROM {table} LIMIT 2",
        f"UPDATE {table} SET sealed = (SELECT sealed FROM t WHERE t.id != {table}.id) WHERE id IN (SELECT id FROM t)",
    ],
    "two ids": lambda table: [
        f"CREATE TEMP TABLE t AS SELECT id FROM {table} LIMIT 1",
        f"UPDATE {table} SET id = id + 1 WHERE id = (SELECT id FROM t)",
    ],
    "one left out": lambda table: [f"DELETE FROM {table} WHERE id = (SELECT id FROM {table} LIMIT 1)"],
    "all left out": lambda table: [f"DELETE FROM {table}"],
    "one doubled": lambda table: [f"INSERT INTO {table} SELECT id + 1, sealed FROM {table} LIMIT 1"],
    "text": lambda table: [f"UPDATE {table} SET sealed = 'text' WHERE id = (SELECT id FROM {table} LIMIT 1)"],
    "nothing": lambda table: [f"UPDATE {table} SET sealed = NULL WHERE id = (SELECT id FROM {table} LIMIT 1)"],
    "short": lambda table: [f"UPDATE {table} SET sealed = x'00' WHERE id = (SELECT id FROM {table} LIMIT 1)"],
}


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("table", ["rows", "states"])
def test_rows_cannot_be_swapped_left_out_or_doubled(closed: Path, swap: str, table: str) -> None:
    edit(closed, *SWAPS[swap](table))
    refused(closed)


@pytest.mark.parametrize(
    "line",
    [
        "INSERT INTO rows SELECT id, sealed FROM states WHERE length(sealed) < 2000",
        "UPDATE rows SET sealed = (SELECT sealed FROM head) WHERE id = (SELECT id FROM rows LIMIT 1)",
        "DELETE FROM head",
        "DELETE FROM key",
        "UPDATE head SET sealed = NULL",
        "UPDATE key SET kind = x'ff'",
        "UPDATE key SET store = x'00'",
        "UPDATE key SET wrapped = 5",
        "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX i ON rows(sealed)",
        "CREATE TABLE other(a)",
        "DROP TABLE states",
        "ALTER TABLE rows ADD COLUMN more",
    ],
)
def test_an_edited_file_is_refused(closed: Path, line: str) -> None:
    edit(closed, line)
    refused(closed)


def test_a_changed_key_record_is_refused(closed: Path) -> None:
    for line in (
        "UPDATE key SET hint = x'00'",
        "UPDATE key SET kind = 'keyring'",
        "UPDATE key SET store = zeroblob(16)",
    ):
        copy = Path(shutil.copy(closed, closed.with_name("copy")))
        edit(copy, line)
        with pytest.raises(InputError, match="does not open with this key file"):
            Store.open(copy, KeyFile(closed.with_name("me.key")))


def test_an_undone_event_cannot_be_put_back(closed: Path) -> None:
    with Store.open(closed, KeyFile(closed.with_name("me.key"))) as store:
        link = store._vault._link
        row = max(store._known, key=lambda each: store._known[each].number) if store.events() else 0
        box = link.execute("SELECT sealed FROM rows WHERE id = ?", (row,)).fetchone()[0]
        store.undo()
    edit(closed, f"INSERT INTO rows VALUES ({row}, x'{box.hex()}')")
    refused(closed)


def test_rows_of_another_store_under_the_same_key_do_not_open(tmp_path: Path) -> None:
    filled(tmp_path, 5).close()
    shutil.copy(tmp_path / "me.key", tmp_path / "other.key")
    filled(tmp_path, 5, "other").close()
    for n, tables in enumerate((["rows", "head"], ["rows"], ["head"], ["key", "spare"], ["key", "spare", "rows"])):
        copy = Path(shutil.copy(tmp_path / "me.store", tmp_path / f"copy-{n}"))
        edit(
            copy,
            f"ATTACH '{tmp_path / 'other.store'}' AS other",
            *(f"DELETE FROM {table}" for table in tables),
            *(f"INSERT INTO {table} SELECT * FROM other.{table}" for table in tables),
        )
        with pytest.raises(VerificationError, match=str(copy)), Store.open(copy, KeyFile(tmp_path / "me.key")) as store:
            items(store)


def test_a_link_to_a_store_is_refused_and_a_loose_mode_is_tightened(closed: Path) -> None:
    link = closed.with_name("link")
    link.symlink_to(closed)
    assert "is a link" in refused(link, InputError)
    closed.chmod(0o644)
    assert read(closed)[0] == RIGHT
    assert closed.stat().st_mode & 0o777 == 0o600


def test_yesterday_s_copy_opens_and_records(closed: Path) -> None:
    key = KeyFile(closed.with_name("me.key"))
    copy = closed.read_bytes()
    with Store.open(closed, key) as store:
        today = store.append(Event("today"))
        version = store.version
    closed.write_bytes(copy)
    with Store.open(closed, key) as store:
        assert items(store) == RIGHT
        assert store.append(Event("again")).number == today.number
        assert store.version != version


def test_yesterday_s_copy_under_today_s_log_gives_no_wrong_event(tmp_path: Path) -> None:
    filled(tmp_path, 50).close()
    old = (tmp_path / "me.store").read_bytes()
    with opened(tmp_path) as store:
        store.append_many(Event(f"item-{n}") for n in range(50, 250))
    with opened(tmp_path) as store:
        store.append_many(Event(f"item-{n}") for n in range(250, 300))
        log = (tmp_path / "me.store-wal").read_bytes()
    (tmp_path / "me.store").write_bytes(old)
    (tmp_path / "me.store-wal").write_bytes(log)
    try:
        found, _ = read(tmp_path / "me.store")
    except VerificationError:
        return
    assert found in ([f"item-{n}" for n in range(50)], [f"item-{n}" for n in range(300)])
