"""Store: the events and private states of one person, sealed in one file.

    from fedrec_client.store import Event, KeyFile, Store

    with Store.open("me.store", KeyFile("me.key")) as store:
        store.append(Event("tt0133093", "like"))
        store.undo()

Threads may share a store, and processes its file. What a device paid of its privacy budget is not in here: it
survives `forget`, so it is in the device ledger.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from fedrec.errors import InputError
from fedrec_client.store import event as events_of_bytes
from fedrec_client.store import state as states_of_bytes
from fedrec_client.store.event import Event, Recorded
from fedrec_client.store.head import Tally
from fedrec_client.store.key_sources import KeySource, first_source, source_of
from fedrec_client.store.state import State
from fedrec_client.store.vault import Vault


class Store:
    """An open store. Make one by `Store.open`.

    Every method may raise InputError (another process keeps the file busy, a full disk, a closed store) and
    VerificationError (a damaged file), each one line.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault, self.path = vault, vault.path
        self._known: dict[int, Recorded] = {}
        self._ordered: list[Recorded] = []
        self._seen = Tally()

    @classmethod
    def open(
        cls, path: str | Path, key: KeySource | None = None, *, create: bool = True, timeout: float = 5.0
    ) -> "Store":
        """Open the store at `path`, or make it.

        Args:
            path: of the SQLite file. While it is open, `PATH-wal` and `PATH-shm` belong to it.
            key: source of the master key. None for the usual one: of the store's kind, or for a new store the systemd
                credential, else the key file `PATH` with the ending `.key`, else the keyring, else a new key file.
            create: make a store where there is none.
            timeout: seconds to wait while another process writes.

        Raises:
            InputError: for a wrong key, a key file that others can read, a link, a file of a newer fedrec.
            VerificationError: for a damaged file.
        """
        path = Path(path).absolute()
        if os.path.lexists(path):
            return cls(Vault(path, key or source_of(Vault.kind_of_key(path), path), timeout))
        if not create:
            raise InputError(f"{path}: there is no store; check the path")
        return cls(Vault.made(path, key or first_source(path), timeout))

    def close(self) -> None:
        """Close the store and forget its keys; a closed one may be closed again."""
        self._vault.close()
        self._known, self._ordered, self._seen = {}, [], Tally()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def version(self) -> str:
        """Hexadecimal name of the content, which each change by any process replaces. Equal: nothing changed."""
        with self._vault.transaction(write=False):
            return self._vault.version

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several changes one: all or none is in the store after a crash. Other writers wait meanwhile."""
        with self._vault.transaction():
            yield

    def append(self, event: Event) -> Recorded:
        """Record an event. When this returns outside a transaction, the event survives a power cut."""
        return self.append_many([event])[0]

    def append_many(self, events: Iterable[Event]) -> list[Recorded]:
        """Record events in their order, all or none."""
        made = []
        with self._vault.transaction():
            for event in events:
                recorded = Recorded(self._vault.take_number(), event)
                current = self._seen == self._vault.head.tallies["rows"]
                row = self._vault.add("rows", events_of_bytes.packed(recorded))
                if current:
                    self._known[row] = recorded
                    self._ordered.append(recorded)
                    self._seen = self._vault.head.tallies["rows"]
                made.append(recorded)
        return made

    def undo(self) -> Recorded | None:
        """Take back the event that was recorded last, and all that was derived; return it, or None for an empty store.

        The row is deleted; `forget` also erases its sealed traces.
        """
        with self._vault.transaction():
            self._current()
            if not self._ordered:
                return None
            row = max(self._known, key=lambda each: self._known[each].number)
            self._vault.remove("rows", row)
            self._drop(lambda state: state.events is not None)
            return self._known[row]

    def events(self, after: int = 0, since: float | None = None) -> list[Recorded]:
        """Return the events in the order of their recording.

        Args:
            after: only those with a number above it.
            since: only those with a time, UTC seconds, at or after it.
        """
        with self._vault.transaction(write=False):
            self._current()
            found = self._ordered[bisect_right(self._ordered, after, key=lambda each: each.number) :]
        if since is None:
            return found
        return [each for each in found if each.event.time is not None and each.event.time >= since]

    def forget(
        self,
        item: str | int | None = None,
        *,
        before: float | None = None,
        since: float | None = None,
        everything: bool = False,
    ) -> int:
        """Erase events and all that was derived from any event; all else is sealed anew under a new data key.

        Afterwards no file of the store holds an erased event, not even sealed. Copies elsewhere (backups, blocks of an
        SSD) open with the master key alone: `rotate_master_key` makes them unreadable.

        Args:
            item: erase the events with this item.
            before: erase events before this time, UTC seconds, and those without a time.
            since: erase events at or after this time, and those without a time. With `before`, the range.
            everything: erase all events and all states; the store is as new.

        Returns:
            Number of erased events.

        Raises:
            InputError: also where the events are erased, but another process reads, so that sealed traces remain.
        """
        ranged = before is not None or since is not None
        if (item is not None) + ranged + everything != 1:
            raise InputError("forget needs one of: an item, a time (before, since), everything=True")
        item = str(item) if isinstance(item, int) else item

        def gone(event: Event) -> bool:
            if ranged and event.time is not None:
                return (before is None or event.time < before) and (since is None or event.time >= since)
            return everything or ranged or event.item == item

        self._vault.alone()
        with self._vault.transaction():
            self._current()
            kept = [each for each in self._ordered if not gone(each.event)]
            erased = len(self._ordered) - len(kept)
            states = [] if everything else [state for state in self._states().values() if state.events is None]
            if everything:
                self._vault.restart_numbers()
            self._vault.rewrite(_contents(kept, states))
        self._vault.scrub()
        return erased

    def set_state(self, name: str, value: bytes, *, derived: bool = False) -> None:
        """Keep a private value, in place of the one of this name.

        Args:
            name: of the value; sealed, too.
            value: up to 16 MiB.
            derived: True for what was computed from the events, e.g. a user vector. It is gone once the events change.
        """
        with self._vault.transaction():
            events = self._vault.head.tallies["rows"] if derived else None
            state = State(name, value, events)
            self._drop(lambda old: old.name == name)
            self._vault.add("states", states_of_bytes.packed(state))

    def state(self, name: str) -> bytes | None:
        """Return a private value; None where there is none, or where events changed since it was derived."""
        with self._vault.transaction(write=False):
            found = next((state for state in self._states().values() if state.name == name), None)
            current = found is not None and found.events in (None, self._vault.head.tallies["rows"])
            return found.value if found is not None and current else None

    def drop_state(self, name: str) -> None:
        """Delete a private value, if there is one."""
        with self._vault.transaction():
            self._drop(lambda state: state.name == name)

    def states(self) -> dict[str, bytes]:
        """Return the private values that are not derived, by name in alphabetical order."""
        with self._vault.transaction(write=False):
            own = [state for state in self._states().values() if state.events is None]
            return {state.name: state.value for state in sorted(own, key=lambda state: state.name)}

    def rotate_data_key(self) -> None:
        """Make a new data key and seal all rows anew, atomically. What was derived is dropped."""
        self._vault.alone()
        with self._vault.transaction():
            self._vault.rewrite(self._lasting())
        self._vault.scrub()

    def rotate_master_key(self, to: KeySource | None = None) -> None:
        """Make a new master key and a new data key: a kill leaves the store with the old or the new ones.

        What was derived is dropped.

        Args:
            to: the new source; None replaces a key file in its place, which other sources cannot do.
        """
        self._vault.alone()
        self._vault.rotate_master(self._lasting, to)
        self._vault.scrub()

    def _lasting(self) -> dict[str, list[bytes]]:
        """Return the rows that a new key seals: all but what was derived."""
        self._current()
        return _contents(self._ordered, [state for state in self._states().values() if state.events is None])

    def _states(self) -> dict[int, State]:
        return {row: states_of_bytes.unpacked(content) for row, content in self._vault.load("states").items()}

    def _drop(self, unwanted: Callable[[State], bool]) -> None:
        for row in [row for row, state in self._states().items() if unwanted(state)]:
            self._vault.remove("states", row)

    def _current(self) -> None:
        """Bring the events in memory to those of the file, inside a transaction."""
        tally = self._vault.head.tallies["rows"]
        if self._seen != tally:
            contents = self._vault.load("rows")
            known = {row: self._known.get(row) or events_of_bytes.unpacked(contents[row]) for row in contents}
            self._known, self._ordered = known, sorted(known.values(), key=lambda each: each.number)
            self._seen = tally


def _contents(events: Iterable[Recorded], states: Iterable[State]) -> dict[str, list[bytes]]:
    rows, others = map(events_of_bytes.packed, events), map(states_of_bytes.packed, states)
    return {"rows": list(rows), "states": list(others)}
