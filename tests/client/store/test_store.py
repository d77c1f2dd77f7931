"""The store against a plain list: events, undo, states, transactions; threads, processes, and what it imports."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fedrec_client.store import Event, KeyFile, Recorded, Store, sealer
from fedrec_client.store.event import packed, unpacked
from hypothesis import given
from hypothesis import strategies as st

from fedrec.errors import InputError
from tests.client.store.stores import child, ended, filled, items, opened

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12)
EVENTS = st.builds(
    Event, TEXT, TEXT, st.none() | st.floats(-1e10, 1e10), st.floats(-1e9, 1e9) | st.integers(-5, 5).map(float)
)


@given(EVENTS, st.integers(1, 2**60))
def test_an_event_is_the_same_after_its_bytes(event: Event, number: int) -> None:
    assert unpacked(packed(Recorded(number, event))) == Recorded(number, event)


@pytest.mark.parametrize(
    "wrong",
    [
        {"item": ""},
        {"item": "x" * 1025},
        {"item": "a\0b"},
        {"item": "\ud800"},
        {"item": True},
        {"item": None},
        {"item": "x", "kind": ""},
        {"item": "x", "kind": "é" * 33},
        {"item": "x", "time": float("nan")},
        {"item": "x", "time": 1.7e12},
        {"item": "x", "time": "noon"},
        {"item": "x", "weight": float("inf")},
        {"item": "x", "weight": None},
    ],
    ids=str,
)
def test_what_is_no_event_is_refused_without_its_value(wrong: dict) -> None:
    with pytest.raises(InputError) as error:
        Event(**wrong)
    assert "noon" not in str(error.value)
    assert "xxx" not in str(error.value)


def test_an_integer_becomes_text() -> None:
    assert Event(17).item == "17"  # type: ignore[arg-type]


def test_events_come_back_in_their_order_after_a_reopen(tmp_path: Path) -> None:
    with filled(tmp_path, 200) as store:
        before = store.events()
        assert [each.number for each in before] == list(range(1, 201))
        assert store.events(after=198) == before[198:]
        assert store.events(since=1.6e9 + 195) == before[195:]
    with opened(tmp_path) as store:
        assert store.events() == before
        assert store.append(Event("x")).number == 201


def test_undo_takes_back_the_last_one_and_no_number_comes_twice(tmp_path: Path) -> None:
    with filled(tmp_path, 3) as store:
        assert store.undo().event.item == "item-2"
        assert store.append(Event("x")).number == 4
        assert items(store) == ["item-0", "item-1", "x"]
        assert [store.undo().number for _ in range(3)] == [4, 2, 1]
        assert store.undo() is None


def test_settings_of_the_file(tmp_path: Path) -> None:
    with filled(tmp_path, 1) as store:
        link = store._vault._link
        found = {name: link.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")}
        assert found == {"synchronous": 2, "journal_mode": "wal"}
        assert link.execute("PRAGMA secure_delete").fetchone() == (1,)
        assert link.execute("PRAGMA temp_store").fetchone() == (2,)
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert set(modes) == {"me.store", "me.store-wal", "me.store-shm", "me.key"}
    assert {file.name for file in tmp_path.iterdir()} == {"me.store", "me.key"}


def test_states_are_kept_replaced_and_dropped(tmp_path: Path) -> None:
    with filled(tmp_path, 1) as store:
        for value in (b"", b"\1" * 300_000, b"de"):
            store.set_state("language", value)
            assert store.state("language") == value
        store.set_state("age", b"30")
    with opened(tmp_path) as store:
        assert store.states() == {"age": b"30", "language": b"de"}
        store.drop_state("age")
        store.drop_state("age")
        assert (store.state("age"), store.states()) == (None, {"language": b"de"})
        with pytest.raises(InputError, match="too many"):
            store.set_state("big", b"x" * (1 << 24))
        with pytest.raises(InputError, match="printable"):
            store.set_state("", b"x")


def test_a_derived_state_ends_with_the_events_that_it_came_from(tmp_path: Path) -> None:
    with filled(tmp_path, 2) as store, opened(tmp_path) as other:
        changes = [lambda: other.append(Event("x")), other.undo, lambda: other.forget("y"), other.rotate_data_key]
        for change in changes:
            store.set_state("vector", b"v", derived=True)
            assert (store.state("vector"), other.state("vector"), store.states()) == (b"v", b"v", {})
            change()
            assert store.state("vector") is None
        store.set_state("vector", b"v", derived=True)
        other.set_state("age", b"30")
        assert store.state("vector") == b"v"


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    with filled(tmp_path, 2) as store:
        version = store.version

        def broken() -> None:
            with store.transaction():
                store.append(Event("x"))
                store.undo()
                store.undo()
                store.set_state("age", b"30")
                raise KeyError

        def hidden() -> None:
            with store.transaction():
                store.append(Event("x"))
                with pytest.raises(InputError, match="printable"):
                    store.set_state("", b"")

        with pytest.raises(KeyError):
            broken()
        assert (items(store), store.states(), store.version) == (["item-0", "item-1"], {}, version)
        with pytest.raises(InputError, match="all of it was undone"):
            hidden()
        assert items(store) == ["item-0", "item-1"]
        with store.transaction():
            store.append(Event("y"))
            with pytest.raises(InputError, match="of its own"):
                store.forget("y")
        assert items(store) == ["item-0", "item-1", "y"]


def test_threads_share_a_store(tmp_path: Path) -> None:
    with opened(tmp_path) as store:

        def work(name: int) -> None:
            for n in range(15):
                store.append(Event(f"{name}-{n}"))
                if n % 3 == 2:
                    store.events()

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = items(store)
        assert sorted(found) == sorted(f"{name}-{n}" for name in range(4) for n in range(15))
        for name in range(4):
            assert [item for item in found if item.startswith(f"{name}-")] == [f"{name}-{n}" for n in range(15)]


def test_processes_share_a_file(tmp_path: Path) -> None:
    opened(tmp_path).close()

    def work(pipe: int) -> None:
        with opened(tmp_path) as store:
            for n in range(25):
                store.append(Event(f"{os.getpid()}-{n}"))

    children = [child(work)[0] for _ in range(3)]
    with opened(tmp_path) as store:
        seen = [store.version]
        for _ in range(25):
            store.append(Event("mine"))
            seen.append(store.version)
        assert [ended(number) for number in children] == [-9, -9, -9]
        assert len(set(seen)) == 26
        found = items(store)
    for number in children:
        assert [item for item in found if item.startswith(f"{number}-")] == [f"{number}-{n}" for n in range(25)]
    assert len(found) == 100


def test_a_busy_file_and_a_closed_store_are_one_line(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        other = Store.open(store.path, KeyFile(tmp_path / "me.key"), timeout=0.05)
        with store.transaction(), pytest.raises(InputError, match=r"me\.store: another process is using the store"):
            other.append(Event("x"))
        other.close()
        other.close()
        with pytest.raises(InputError, match="closed"):
            other.events()

    def forked(pipe: int) -> None:
        try:
            again.events()
        except InputError as error:
            os.write(pipe, str(error).encode())

    with opened(tmp_path) as again:
        number, pipe = child(forked)
        assert b"before a fork" in os.read(pipe, 1000)
        ended(number)


def test_a_data_key_that_sealed_its_share_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer, "MOST_SEALS", 40)
    with opened(tmp_path) as store:
        for n in range(19):
            store.append(Event(str(n)))
        with pytest.raises(InputError, match="call rotate_data_key"):
            store.append(Event("x"))
        assert len(items(store)) == 19
    with opened(tmp_path) as store:
        assert len(items(store)) == 19
        assert store._vault.head.seals < 40
        store.rotate_data_key()


def test_no_torch_and_no_tables_are_imported() -> None:
    program = (
        "import sys, fedrec_client.store\n"
        "heavy = 'torch flwr opacus scipy polars pydantic numpy pandas matplotlib typer rich'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
