"""The tables of the architecture allow nothing that no file uses: a stale allowance hides the next fault."""

import pytest

from tests.syntax import imports
from tests.test_architecture import ALLOWED, BASE, ONLY_IN, PACKAGED, PRINTS, SUMS, name_of, room_of, text_of, within

USED: dict[str, set[str]] = {}
for _file in PACKAGED:
    USED.setdefault(room_of(name_of(_file)), set()).update(imports(text_of(_file)))


def used(room: str, place: str) -> bool:
    return any(within(name, place) for name in USED[room])


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_uses_what_it_alone_is_allowed(room: str) -> None:
    shared = (BASE if ALLOWED[room] >= BASE else set()) | (SUMS if ALLOWED[room] >= SUMS else set())
    assert [place for place in sorted(ALLOWED[room] - shared) if not used(room, place)] == []


def test_what_comes_with_a_price_is_used_where_it_is_allowed() -> None:
    assert [(name, room) for name, rooms in ONLY_IN.items() for room in sorted(rooms) if not used(room, name)] == []


def test_every_name_that_rooms_share_is_used() -> None:
    assert [name for name in sorted(BASE | SUMS) if not any(used(room, name) for room in USED)] == []


def test_only_files_that_are_there_may_print() -> None:
    assert set(map(name_of, PACKAGED)) >= PRINTS
