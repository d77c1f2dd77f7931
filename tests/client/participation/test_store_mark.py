"""A device notices an older copy of its store, and forgetting, and then contributes zeros for a while."""

import shutil
from pathlib import Path

import pytest
from fedrec_client import EdgeClient, Event, KeyFile
from fedrec_client.participation.store_mark import DAY, STATE, StoreMark, mark_of
from fedrec_client.store import Store

NOW = 1.7e9


def opened(folder: Path) -> Store:
    folder.mkdir(exist_ok=True)
    return Store.open(folder / "events.store", KeyFile(folder / "events.key"))


def trusted(folder: Path, now: float = NOW, days: float = 1.0) -> bool:
    with opened(folder) as store:
        return StoreMark(folder, store).trust_period(now, days) is None


def stay(folder: Path, now: float = NOW) -> None:
    with opened(folder) as store:
        StoreMark(folder, store).renew(now)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    folder = tmp_path / "device"
    with opened(folder) as store:
        store.append(Event("1", "like", NOW))
    return folder


def copied(device: Path, to: Path) -> None:
    shutil.copy(device / "events.store", to)


def test_a_new_device_and_one_that_took_part_are_trusted(device: Path) -> None:
    assert trusted(device)
    for _ in range(3):
        stay(device)
        assert trusted(device)


def test_yesterdays_copy_of_the_store_begins_a_trust_period(device: Path, tmp_path: Path) -> None:
    stay(device)
    copied(device, tmp_path / "yesterday")
    stay(device, NOW + 10)
    shutil.copy(tmp_path / "yesterday", device / "events.store")
    assert not trusted(device, NOW + DAY)
    assert not trusted(device, NOW + 2 * DAY - 1)
    assert trusted(device, NOW + 2 * DAY)
    stay(device, NOW + 2 * DAY)
    assert trusted(device, NOW + 2 * DAY)


def test_restoring_again_and_again_begins_it_anew(device: Path, tmp_path: Path) -> None:
    copied(device, tmp_path / "yesterday")
    stay(device)
    for day in (1, 2, 3):
        shutil.copy(tmp_path / "yesterday", device / "events.store")
        assert not trusted(device, NOW + day * DAY)


@pytest.mark.parametrize("content", [None, b"", b"[]", b"7", b'["00"]'])
def test_a_lost_or_damaged_file_outside_begins_it(device: Path, content: bytes | None) -> None:
    stay(device)
    mark_of(device).unlink()
    if content is not None:
        mark_of(device).write_bytes(content)
    assert not trusted(device, NOW)
    assert trusted(device, NOW + DAY)


def test_forgetting_begins_it_only_where_something_was_given_before(device: Path) -> None:
    with opened(device) as store:
        StoreMark(device, store).forgot(NOW)
    assert trusted(device)
    stay(device)
    with opened(device) as store:
        StoreMark(device, store).forgot(NOW + 5)
    assert not trusted(device, NOW + DAY)
    assert trusted(device, NOW + 5 + DAY)
    assert not trusted(device, NOW)  # a clock that was set back


def test_forgetting_everything_leaves_no_private_value_and_is_noticed(device: Path) -> None:
    stay(device)
    with opened(device) as store:
        store.forget(everything=True)
        assert not store.states()
    assert not trusted(device)


def test_the_apps_forget_begins_it(device: Path) -> None:
    stay(device)
    with EdgeClient.open(device, KeyFile(device / "events.key")) as client:
        client.forget("1")
    assert not trusted(device, NOW + 1e9, days=1e6)


def test_a_kill_between_any_two_writes_of_a_stay_leaves_marks_that_fit(device: Path, monkeypatch) -> None:
    stay(device)

    class Killed(Exception):
        pass

    for survives in range(3):
        writes = iter(range(3))

        def step(original):
            def made(*given, **named):
                if next(writes) == survives:  # noqa: B023
                    raise Killed
                return original(*given, **named)

            return made

        with monkeypatch.context() as patch:
            patch.setattr(StoreMark, "_write", step(StoreMark._write))
            patch.setattr(Store, "set_state", step(Store.set_state))
            with pytest.raises(Killed):
                stay(device)
        assert trusted(device)


def test_the_file_outside_says_nothing_of_the_person(device: Path) -> None:
    stay(device)
    with opened(device) as store:
        inside = store.state(STATE)
    assert inside is not None
    assert len(mark_of(device).read_text()) == len('["' + 64 * "0" + '"]')
    assert mark_of(device).stat().st_mode & 0o777 == 0o600
    assert inside.decode().split('"')[3] not in mark_of(device).read_text()
