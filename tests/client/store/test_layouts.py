"""Layouts of the file: each older one opens in the code of today, a newer one is refused, a step is atomic."""

import os
import shutil
from pathlib import Path

import pytest
from fedrec_client.store import Event, KeyFile, Salvaged, Store, database, migrations, salvage
from fedrec_client.store.migrations import Step

from fedrec.errors import InputError, VerificationError
from tests.client.store.stores import child, ended, filled, items, opened

FIXTURES = Path(__file__).parent / "fixtures"
KINDS = ("view", "like", "dislike", "rating")


def copied(version: int, folder: Path) -> Path:
    """A store that the code of this layout wrote, and its key file."""
    for ending in ("store", "key"):
        shutil.copy(FIXTURES / f"layout-{version}.{ending}", folder / f"me.{ending}")
        (folder / f"me.{ending}").chmod(0o600)
    return folder / "me.store"


@pytest.mark.parametrize("version", range(1, database.VERSION + 1))
def test_each_layout_opens_today(tmp_path: Path, version: int) -> None:
    with Store.open(copied(version, tmp_path)) as store:
        found = store.events()
        assert [each.number for each in found] == [*range(1, 41), 42]
        for each in found[:40]:
            n = each.number - 1
            time = None if n % 7 == 0 else 1.6e9 + n / 4
            assert each.event == Event(f"item {n} é", KINDS[n % 4], time, n / 8)
        assert found[40].event == Event("x" * 1000)
        assert store.states() == {"language": b"de", "long": b"\1" * 5000}
        assert store.append(Event("new")).number == 43
    with Store.open(tmp_path / "me.store") as store:
        assert items(store)[-1] == "new"


def test_there_is_a_fixture_of_each_layout() -> None:
    names = {file.name for file in FIXTURES.iterdir()}
    assert names == {f"layout-{n}.{end}" for n in range(1, database.VERSION + 1) for end in ("store", "key")}
    assert set(database.LAYOUTS) == set(range(1, database.VERSION + 1))
    assert set(migrations.STEPS) == set(range(1, database.VERSION))


def next_layout(monkeypatch: pytest.MonkeyPatch) -> int:
    """A layout after the last one, in which each event weighs one more, and which has another table."""
    old = database.VERSION

    def convert(table: str, content: bytes) -> bytes:
        return content[:16] + b"\0" * 7 + b"\x40" + content[24:] if table == "rows" else content  # the weight 2.0

    monkeypatch.setitem(database.LAYOUTS, old + 1, database.LAYOUTS[old] | {"more": "(id INTEGER PRIMARY KEY)"})
    monkeypatch.setitem(migrations.STEPS, old, Step(convert, ("CREATE TABLE more(id INTEGER PRIMARY KEY)",)))
    monkeypatch.setattr(database, "VERSION", old + 1)
    return old + 1


def test_a_newer_layout_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        version = next_layout(later)
        filled(tmp_path, 2).close()
    with pytest.raises(InputError, match=rf"has layout {version}, .* reads up to {version - 1}; update fedrec"):
        opened(tmp_path)


def test_a_step_converts_every_row_and_seals_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(tmp_path, 100) as old:
        old.set_state("age", b"30")
        next_layout(monkeypatch)
        with opened(tmp_path) as store:
            assert [each.event.weight for each in store.events()] == [2.0] * 100
            assert items(store) == [f"item-{n}" for n in range(100)]
            assert store.states() == {"age": b"30"}
            assert not store._vault.head.erasing
            with pytest.raises(InputError, match="changed its layout to 2; open it again"):
                old.append(Event("x"))
    with opened(tmp_path) as store:
        assert len(items(store)) == 100
        assert database.layout_of(store._vault._link, store.path) == database.VERSION


def test_an_old_store_that_is_damaged_is_salvaged_into_today_s_layout(tmp_path: Path, monkeypatch) -> None:
    filled(tmp_path, 100).close()
    content = (tmp_path / "me.store").read_bytes()
    (tmp_path / "me.store").write_bytes(content[: len(content) - database.PAGE])
    next_layout(monkeypatch)
    with pytest.raises(VerificationError, match="damaged"):
        opened(tmp_path)
    key = KeyFile(tmp_path / "me.key")
    report = salvage(tmp_path / "me.store", tmp_path / "fresh.store", key)
    assert 70 < report.events < 100
    assert report == Salvaged(report.events, 0, 100 - report.events)
    with Store.open(tmp_path / "fresh.store", key) as store:
        assert {each.event.weight for each in store.events()} == {2.0}


def test_a_kill_before_any_statement_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 3).close()
    content = (tmp_path / "me.store").read_bytes()
    next_layout(monkeypatch)
    connect, results = database.connect, set()
    for step in range(0, 200, 4):

        def work(pipe: int, left: list[int]) -> None:
            def count(line: str) -> None:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), 9)

            def traced(path: Path, timeout: float):
                link = connect(path, timeout)
                link.set_trace_callback(count)
                return link

            database.connect = traced
            opened(tmp_path)
            os.write(pipe, b"done")

        for ending in ("-wal", "-shm"):
            (tmp_path / f"me.store{ending}").unlink(missing_ok=True)
        (tmp_path / "me.store").write_bytes(content)
        number, pipe = child(lambda pipe, left=[step]: work(pipe, left))  # type: ignore[misc]
        done = os.read(pipe, 4)
        os.close(pipe)
        ended(number)
        with opened(tmp_path) as store:
            assert [each.event.weight for each in store.events()] == [2.0] * 3
        results.add(done)
    assert results == {b"", b"done"}
