"""Two handles on one store against a plain list, by random steps."""

import tempfile
from pathlib import Path

from fedrec_client.store import Event, Recorded, Store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.client.memory_folders import MEMORY
from tests.client.store.stores import opened

HANDLES = st.integers(0, 1)
ITEMS = st.sampled_from(["a", "b", "c", "ü" * 90])
EVENTS = st.builds(Event, ITEMS, st.sampled_from(["view", "like"]), st.none() | st.integers(0, 9).map(float))
NAMES = st.sampled_from(["age", "vector"])


class Stores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.place = Path(self.folder.name)
        self.stores = [opened(self.place), opened(self.place)]
        self.events: list[Recorded] = []
        self.states: dict[str, bytes] = {}
        self.derived: dict[str, bytes] = {}
        self.number = 1

    def change(self, events: list[Recorded]) -> None:
        self.events, self.derived = events, {}

    @rule(handle=HANDLES, events=st.lists(EVENTS, max_size=4))
    def record(self, handle: int, events: list[Event]) -> None:
        made = self.stores[handle].append_many(events)
        assert made == [Recorded(self.number + n, event) for n, event in enumerate(events)]
        self.number += len(events)
        if made:
            self.change(self.events + made)

    @rule(handle=HANDLES)
    def undo(self, handle: int) -> None:
        assert self.stores[handle].undo() == (self.events[-1] if self.events else None)
        if self.events:
            self.change(self.events[:-1])

    @rule(handle=HANDLES, event=EVENTS)
    def abandon(self, handle: int, event: Event) -> None:
        store = self.stores[handle]
        try:
            with store.transaction():
                store.append(event)
                store.undo()
                store.undo()
                store.set_state("age", b"wrong")
                raise KeyError
        except KeyError:
            pass

    @rule(handle=HANDLES, item=ITEMS)
    def forget_item(self, handle: int, item: str) -> None:
        kept = [each for each in self.events if each.event.item != item]
        assert self.stores[handle].forget(item) == len(self.events) - len(kept)
        self.change(kept)

    @rule(handle=HANDLES, before=st.integers(0, 10).map(float))
    def forget_before(self, handle: int, before: float) -> None:
        kept = [each for each in self.events if each.event.time is not None and each.event.time >= before]
        assert self.stores[handle].forget(before=before) == len(self.events) - len(kept)
        self.change(kept)

    @rule(handle=HANDLES)
    def forget_everything(self, handle: int) -> None:
        assert self.stores[handle].forget(everything=True) == len(self.events)
        self.change([])
        self.states, self.number = {}, 1

    @rule(handle=HANDLES, name=NAMES, value=st.binary(max_size=5), derived=st.booleans())
    def set_state(self, handle: int, name: str, value: bytes, derived: bool) -> None:
        self.stores[handle].set_state(name, value, derived=derived)
        for kept in (self.states, self.derived):
            kept.pop(name, None)
        (self.derived if derived else self.states)[name] = value

    @rule(handle=HANDLES, name=NAMES)
    def drop_state(self, handle: int, name: str) -> None:
        self.stores[handle].drop_state(name)
        for kept in (self.states, self.derived):
            kept.pop(name, None)

    @rule(handle=HANDLES, master=st.booleans())
    def rotate(self, handle: int, master: bool) -> None:
        store: Store = self.stores[handle]
        store.rotate_master_key() if master else store.rotate_data_key()
        self.derived = {}

    @rule(handle=HANDLES)
    def reopen(self, handle: int) -> None:
        self.stores[handle].close()
        self.stores[handle] = opened(self.place)

    @invariant()
    def both_agree_with_the_list(self) -> None:
        for store in self.stores:
            assert store.events() == self.events
            assert store.states() == self.states
            for name in ("age", "vector"):
                assert store.state(name) == (self.states | self.derived).get(name)
        assert self.stores[0].version == self.stores[1].version

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.folder.cleanup()


def test_two_handles_agree_with_a_plain_list() -> None:
    run_state_machine_as_test(Stores, settings=settings(max_examples=15, stateful_step_count=20, deadline=None))
