"""After `forget`, an attacker with all files and with the person's key finds nothing of it."""

import itertools
import os
from pathlib import Path

import pytest
from fedrec_client.store import Event, KeyFile, Store, export_lines

from fedrec.errors import InputError
from tests.client.store.stores import child, contents, ended, filled, items, opened


def boxes(folder: Path) -> list[bytes]:
    """Sealed rows of a store, its wrapped key among them, as the file holds them."""
    with opened(folder) as store:
        link = store._vault._link
        found = [box for table in ("rows", "states", "head") for (box,) in link.execute(f"SELECT sealed FROM {table}")]
        return found + [box for (box,) in link.execute("SELECT wrapped FROM key")]


def pieces(found: list[bytes]) -> list[bytes]:
    """Nonce, middle and tag of each box: also a part of a box is a trace."""
    return [part for box in found for part in (box[:12], box[40:56], box[-16:])]


def traces(folder: Path, marks: list[bytes]) -> int:
    found = contents(folder)
    return sum(mark in found for mark in marks)


def test_no_plain_trace_is_ever_on_the_disk(tmp_path: Path) -> None:
    with filled(tmp_path, 300) as store:
        store.set_state("language", b"state-of-me")
        marks = [b"item-", b"like", b"state-of-me", b"language", *(f"item-{n}".encode().hex().encode() for n in (7, 8))]
        assert traces(tmp_path, marks) == 0
        with store.transaction():
            store.append_many(Event(f"item-{n}") for n in range(500))
            assert traces(tmp_path, marks) == 0


def test_the_ids_of_rows_show_no_order(tmp_path: Path) -> None:
    with filled(tmp_path, 200) as store:
        known = store._vault.load("rows") if store.events() else {}
        order = [store._known[row].number for row in sorted(known)]
    rising = sum(a < b for a, b in itertools.pairwise(order))
    assert 70 < rising < 130


def test_rows_of_short_events_have_one_size(tmp_path: Path) -> None:
    with filled(tmp_path, 5) as store:
        store.append_many([Event("x"), Event("x" * 80, "rating", 1e9, 5.0)])
        sizes = {size for (size,) in store._vault._link.execute("SELECT length(sealed) FROM rows")}
    assert sizes == {128 + 28}


@pytest.mark.parametrize("what", ["item", "before", "everything"])
def test_forget_leaves_no_sealed_trace_in_any_file(tmp_path: Path, what: str) -> None:
    with filled(tmp_path, 400) as store:
        store.set_state("vector", b"v" * 3000, derived=True)
        store.set_state("language", b"de")
    marks = pieces(boxes(tmp_path))
    assert traces(tmp_path, marks) == len(marks)
    with opened(tmp_path) as store:
        store.append_many(Event(f"item-{n}", time=1.6e9) for n in range(200))  # splits pages
        store.undo()
        if what == "item":
            assert store.forget("item-3") == 2
            assert "item-3" not in items(store)
            assert len(items(store)) == 597
        elif what == "before":
            assert store.forget(before=1.6e9 + 300) == 499
            assert items(store) == [f"item-{n}" for n in range(300, 400)]
        else:
            assert store.forget(everything=True) == 599
            assert items(store) == []
        assert store.states() == ({} if what == "everything" else {"language": b"de"})
        assert store.state("vector") is None
        assert traces(tmp_path, marks) == 0, "while the store is open"
        left = items(store)
    assert traces(tmp_path, marks) == 0
    with opened(tmp_path) as store:
        assert items(store) == left


def test_the_forgotten_store_is_as_new(tmp_path: Path) -> None:
    with filled(tmp_path, 500) as store, opened(tmp_path, "new") as fresh:
        store.set_state("age", b"1")
        old = store._vault._record
        store.forget(everything=True)
        now = store._vault._record
        assert old.store != now.store
        assert old.wrapped != now.wrapped
        assert list(export_lines(store)) == list(export_lines(fresh)) == []
        assert store.append(Event("x")) == fresh.append(Event("x"))
    assert (tmp_path / "me.store").stat().st_size == (tmp_path / "new.store").stat().st_size


def test_ranges_of_time(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for time in (None, 10.0, 20.0, 30.0):
            store.append(Event(f"at {time}", time=time))
        assert store.forget(since=20.0, before=30.0) == 2
        assert items(store) == ["at 10.0", "at 30.0"]
        assert store.forget(since=30.0) == 1
        assert store.forget("no such item") == 0
        assert store.forget(before=10.0) == 0
        assert items(store) == ["at 10.0"]
        for wrong in ({}, {"item": "x", "before": 1.0}, {"item": "x", "everything": True}, {"since": 1.0, "item": 5}):
            with pytest.raises(InputError, match="one of"):
                store.forget(**wrong)
        assert items(store) == ["at 10.0"]


def test_an_integer_item_is_forgotten(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.append_many([Event("17"), Event("18")])
        assert store.forget(17) == 1
        assert items(store) == ["18"]


def test_a_reader_in_the_way_is_reported_and_the_next_open_erases(tmp_path: Path) -> None:
    filled(tmp_path, 50).close()
    marks = pieces(boxes(tmp_path))
    with opened(tmp_path) as reader:
        link = reader._vault._link
        link.execute("BEGIN")
        link.execute("SELECT count(*) FROM rows").fetchone()

        def erase(pipe: int) -> None:
            store = Store.open(tmp_path / "me.store", KeyFile(tmp_path / "me.key"), timeout=0.1)
            try:
                store.forget(everything=True)
            except InputError as error:
                os.write(pipe, str(error).encode())

        number, pipe = child(erase)
        assert b"another process reads" in os.read(pipe, 1000)
        ended(number)
        assert traces(tmp_path, marks) > 0
        link.execute("ROLLBACK")
        assert items(reader) == []
    with opened(tmp_path) as store:
        assert traces(tmp_path, marks) == 0
        assert not store._vault.head.erasing
