"""Salvage: what still opens of a damaged store, in a new one."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedrec.errors import InputError, VerificationError
from fedrec_client.store import database, migrations, pages
from fedrec_client.store import event as events_of_bytes
from fedrec_client.store import state as states_of_bytes
from fedrec_client.store.event import Recorded
from fedrec_client.store.head import Head, KeyRecord
from fedrec_client.store.key_sources import KeySource
from fedrec_client.store.sealer import Sealer
from fedrec_client.store.state import State
from fedrec_client.store.store import Store


@dataclass(frozen=True)
class Salvaged:
    """What a salvage saved.

    Attributes:
        events: number of events that the new store has.
        states: number of private values that it has; derived ones are not among them.
        lost: number of events that did not open; None where the number of all of them is lost, too.
    """

    events: int
    states: int
    lost: int | None


def salvage(damaged: str | Path, fresh: str | Path, key: KeySource) -> Salvaged:
    """Make a new store of every event and private value that still opens; the damaged file stays as it is.

    Events keep their order and get new numbers. The new store has a new data key under the same master key.

    Args:
        damaged: path of the store; nobody may have it open. Its write-ahead log is read as well.
        fresh: path of the new store, where nothing is yet.
        key: source of the damaged store's master key.

    Raises:
        InputError: where `fresh` exists, or a file cannot be used.
        VerificationError: where no wrapped key opens, so that nothing can be saved.
    """
    damaged, fresh = Path(damaged).absolute(), Path(fresh).absolute()
    if os.path.lexists(fresh):
        raise InputError(f"{fresh}: exists already; name a new file")
    found = list(pages.rows(damaged))
    sealer, version = _sealer(damaged, found, key)
    events: dict[int, Recorded] = {}
    states: dict[str, State] = {}
    count = None
    for row, columns in found:
        if len(columns) != 2 or not columns[1]:
            continue
        for table, content in _opened(sealer, version, row, columns[1]):
            if table == "head":
                count = Head.unpacked(content).tallies["rows"].count
            elif table == "rows":
                event = events_of_bytes.unpacked(content)
                events[event.number] = event
            elif (state := states_of_bytes.unpacked(content)).events is None:
                states[state.name] = state
    with Store.open(fresh, key) as store, store.transaction():
        store.append_many(events[number].event for number in sorted(events))
        for state in states.values():
            store.set_state(state.name, state.value)
    return Salvaged(len(events), len(states), None if count is None else max(0, count - len(events)))


def _sealer(damaged: Path, found: list[pages.Row], key: KeySource) -> tuple[Sealer, int]:
    stated = pages.version_of(damaged)
    versions = [stated] if stated in database.LAYOUTS else list(database.LAYOUTS)
    for _, columns in found:
        with suppress(VerificationError, UnicodeError):
            if len(columns) == 5 and columns[2] is not None:
                record = KeyRecord.checked(columns[1], columns[2].decode(), columns[3], columns[4])
                for version in versions:
                    opened = record.opened(key.keys(record.hint), version)
                    if opened is not None:
                        return Sealer(opened[1], record.store, version), version
    raise VerificationError(f"{damaged}: no wrapped key in it opens with this {key.kind}; restore a copy")


def _opened(sealer: Sealer, version: int, row: int, box: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the table and the content, as of today's layout, of a sealed row; nothing where it does not open."""
    for table in ("rows", "states", "head"):
        with suppress(VerificationError):
            content = sealer.open(table, row, box)
            yield table, content if table == "head" else migrations.converted(version, database.VERSION, table, content)
            return
