"""Salvage of a damaged store: every row that still opens, none that was undone or forgotten, and a true report."""

import random
from pathlib import Path

import pytest
from fedrec_client.store import Event, KeyFile, Passphrase, Salvaged, Store, salvage
from fedrec_client.store.pages import PAGE

from fedrec.errors import FedrecError, InputError, VerificationError
from tests.client.store.stores import filled, items, opened

COUNT = 300


def damaged(folder: Path) -> Path:
    """A closed store of `COUNT` events, two states and two that are gone."""
    with filled(folder, COUNT + 2) as store:
        store.undo()
        store.forget(f"item-{COUNT}")
        store.set_state("age", b"30")
        store.set_state("long", b"x" * 20_000)
        store.set_state("vector", b"v", derived=True)
    return folder / "me.store"


def saved(path: Path) -> tuple[Salvaged, list[str], dict[str, bytes]]:
    fresh, key = path.with_name("fresh.store"), KeyFile(path.with_name("me.key"))
    fresh.unlink(missing_ok=True)
    report = salvage(path, fresh, key)
    with Store.open(fresh, key) as store:
        return report, items(store), store.states()


def test_all_of_a_whole_store(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    before = path.read_bytes()
    report, found, states = saved(path)
    assert report == Salvaged(events=COUNT, states=2, lost=0)
    assert found == [f"item-{n}" for n in range(COUNT)]
    assert states == {"age": b"30", "long": b"x" * 20_000}
    assert path.read_bytes() == before
    with Store.open(path.with_name("fresh.store"), KeyFile(path.with_name("me.key"))) as store:
        assert store.events()[7].event == Event("item-7", "like", 1.6e9 + 7, 2.0)


def test_every_page_but_the_damaged_one(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    content = path.read_bytes()
    whole = noticed = unnoticed = 0
    for number in range(len(content) // PAGE):
        path.write_bytes(
            content[: number * PAGE] + random.Random(number).randbytes(PAGE) + content[(number + 1) * PAGE :]
        )
        report, found, states = saved(path)
        right = [f"item-{n}" for n in range(COUNT)]
        assert found == [item for item in right if item in set(found)], "in their order, and none but them"
        assert len(found) >= COUNT - PAGE // 150
        assert set(states) <= {"age", "long"}
        assert report.events == len(found)
        assert report.lost in (None, COUNT - len(found))
        whole += len(found) == COUNT
        try:
            with Store.open(path, KeyFile(tmp_path / "me.key")) as store:
                assert (items(store), set(store.states())) == (right, {"age", "long"})
            unnoticed += 1
        except FedrecError:
            noticed += 1
    assert (whole > 3, unnoticed) == (True, 1), "the spare key alone is read by salvage only"
    assert noticed + 1 == len(content) // PAGE


def test_acknowledged_events_of_the_log_are_saved(tmp_path: Path) -> None:
    filled(tmp_path, 5).close()
    with opened(tmp_path) as store:
        store.append_many(Event(f"item-{n}") for n in range(5, 50))
        store.undo()
        copies = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in copies.items():
        (copy / name).write_bytes(content)
        (copy / name).chmod(0o600)
    (copy / "me.store").write_bytes(bytes(PAGE) + copies["me.store"][PAGE:])
    report, found, _ = saved(copy / "me.store")
    assert found == [f"item-{n}" for n in range(49)]
    assert report.lost == 0


def test_nothing_without_the_key(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    opened(tmp_path, "other").close()
    for key in (KeyFile(tmp_path / "other.key"), Passphrase("a long passphrase")):
        with pytest.raises(VerificationError, match="no wrapped key in it opens"):
            salvage(path, tmp_path / "fresh.store", key)
    with pytest.raises(InputError, match="cannot be read"):
        salvage(path, tmp_path / "fresh.store", KeyFile(tmp_path / "lost.key"))
    with pytest.raises(InputError, match="exists already"):
        salvage(path, path, KeyFile(tmp_path / "me.key"))
    with pytest.raises(InputError, match="cannot be read"):
        salvage(tmp_path / "none", tmp_path / "fresh.store", KeyFile(tmp_path / "me.key"))
    path.write_bytes(b"hello")
    with pytest.raises(VerificationError, match="no wrapped key"):
        salvage(path, tmp_path / "fresh.store", KeyFile(tmp_path / "me.key"))
    assert not (tmp_path / "fresh.store").exists()


def test_random_bytes_are_read_without_an_exception_of_another_kind(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    content, draws = path.read_bytes(), random.Random(5)
    for _ in range(15):
        broken = bytearray(content)
        for _ in range(200):
            broken[draws.randrange(len(broken))] = draws.randrange(256)
        path.write_bytes(broken)
        try:
            report, found, _ = saved(path)
        except VerificationError:
            continue
        assert set(found) <= {f"item-{n}" for n in range(COUNT)}
        assert report.events == len(found)
