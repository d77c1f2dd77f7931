"""EdgeClient: recommendations on the device of one person, which learn from every event at once and work offline.

    from fedrec_client import EdgeClient

    with EdgeClient.open("device", model="runs/first/release") as client:
        client.record("260", "like")
        print([entry.item for entry in client.recommend(5)])

`sync` asks a server for files, and `participate` answers one; nothing else here uses a network. Events are in the
device's encrypted store; a list is made of them and of the installed model by numpy. `fedrec_client.edge.layout` shows
the folder, `fedrec_client.edge.kinds_of_events` which event counts how.
"""

import secrets
import threading
import time as clock
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import numpy as np

from fedrec.data.spellings import canonical_id
from fedrec.errors import InputError, nearest
from fedrec.ondevice import lists, reasons
from fedrec_client.edge.about_person import AboutPerson
from fedrec_client.edge.answers import Alike, Filters, Freshness, Installed, Recommendation
from fedrec_client.edge.consent_of_device import ConsentOfDevice
from fedrec_client.edge.in_words import InWords
from fedrec_client.edge.kinds_of_events import KINDS
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.edge.personal_values import OWN_SHARE
from fedrec_client.edge.private_state import PrivateState
from fedrec_client.participation.store_mark import StoreMark
from fedrec_client.store import Event, KeySource, Recorded, Store, export_my_data

if TYPE_CHECKING:
    from fedrec_client.friends.friends import Friends
    from fedrec_client.releases.sync import Synced, SyncOptions


class EdgeClient(AboutPerson, ConsentOfDevice, InWords):
    """A device's recommendations. Make one by `EdgeClient.open`.

    Threads may share a client, and processes its folder. Every method may raise InputError (a closed client, a busy
    store, a full disk) and VerificationError (a damaged file), each one line.
    """

    def __init__(self, folder: DeviceFolder, store: Store) -> None:
        self._folder, self._store, self._lock = folder, store, threading.RLock()
        self._state = PrivateState(folder, store)

    @classmethod
    def open(
        cls,
        path: str | Path,
        key: KeySource | None = None,
        *,
        model: str | Path | None = None,
        create: bool = True,
    ) -> "EdgeClient":
        """Open a device's folder, or make it.

        Args:
            path: of the folder.
            key: source of the store's master key; None for the usual one, see `Store.open`.
            model: a release to install where no model is installed yet; later ones take `install`.
            create: False to refuse a folder without a store.

        Raises:
            InputError: for a wrong key, a file that others can read, a release that cannot be used.
            VerificationError: for a damaged store, or a release with links.
        """
        folder = DeviceFolder(Path(path).absolute())
        if create:
            folder.make()
        found = cls(folder, Store.open(folder.store, key, create=create))
        try:
            if model is not None and found.model is None:
                found.install(model)
        except BaseException:
            found.close()
            raise
        return found

    @property
    def path(self) -> Path:
        """The device's folder."""
        return self._folder.path

    @property
    def model(self) -> Installed | None:
        """The model in use; None before one is installed."""
        with self._lock:
            return self._state.model().about if self._state.installed else None

    def close(self) -> None:
        """Close the store and forget what is in memory; a closed client may be closed again."""
        with self._lock:
            self._store.close()
            self._state.clear()

    def __enter__(self) -> "EdgeClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def install(
        self, release: str | Path, *, public: str | Path | None = None, min_rating: float | None = None
    ) -> Installed:
        """Copy a released model, check and try it, and make it the one in use.

        The model of before stays in use until the new one opened and made a list, and when the new one does not.

        Args:
            release: a run, its `release/`, or the model's own folder. It is only read.
            public: file with the public features of the items (`PublicItems.write`), for filters; None for
                `public.safetensors` next to the model, where there is one.
            min_rating: `data.min_rating` of the run. A model of events counts a lower rating as a dislike.

        Raises:
            InputError: for files that the manifest does not name by their SHA-256, and a model that makes no list.
            VerificationError: for a link, a pipe, or an impossible size.
        """
        with self._lock:
            return self._state.install(Path(release), None if public is None else Path(public), min_rating).about

    def sync(
        self, url: str | None = None, *, keys: Sequence[str] = (), options: "SyncOptions | None" = None
    ) -> "Synced":
        """Get the newest signed release and make it the model in use; the old one stays until the new one works.

        Args:
            url: address of the releases; None for that of the last sync.
            keys: root keys of the publisher, `ed25519:BASE64` or files. The first sync pins them; later none.
            options: limits, witnesses and progress.

        Raises:
            InputError: where the server cannot be reached, the disk is full, or the new model makes no list.
            VerificationError: for a release that is not signed, old, or not fixed by its run's ledger.
        """
        from fedrec_client.releases.sync import synced

        return synced(self.path, url, keys, options, self._lock, self._state)

    @property
    def friends(self) -> "Friends":
        """The friends of this device: what it gives them under noise, and what theirs add to `recommend`."""
        from fedrec_client.friends.friends import Friends

        return Friends(self._folder, self._store, self._state, self._lock)

    # ---- events

    def record(self, item: str | int, event: str = "view", time: float | None = None, weight: float = 1.0) -> Recorded:
        """Record what the person did. When this returns, the event survives a power cut and the next list uses it.

        Args:
            item: its id. One that the model does not have counts when a later model has it.
            event: view, like, rating or dislike.
            time: UTC seconds since 1970; None for now.
            weight: of a rating, its value; of other kinds, kept and not used.

        Raises:
            InputError: for an unknown kind, or a value that cannot be stored.
        """
        if event not in KINDS:
            raise InputError(f"event '{event}': unknown.{nearest(event, KINDS)}")
        made = Event(_id(item), event, clock.time() if time is None else time, weight)
        with self._lock:
            return self._store.append(made)

    def record_all(self, events: Iterable[Event]) -> list[Recorded]:
        """Record many events in their order, all or none, e.g. those of `read_events(file)`.

        Args:
            events: with their own times; an event of another kind than those of `record` is kept and does not count.
        """
        made = [Event(_id(each.item), each.kind, each.time, each.weight) for each in events]
        with self._lock:
            return self._store.append_many(made)

    def undo(self) -> Event | None:
        """Take back the event that was recorded last; return it, or None where there is none."""
        with self._lock:
            gone = self._store.undo()
            return None if gone is None else gone.event

    def events(self) -> list[Recorded]:
        """Return all events in the order of their recording."""
        with self._lock:
            return self._store.events()

    def forget(
        self,
        item: str | int | None = None,
        *,
        before: float | None = None,
        since: float | None = None,
        everything: bool = False,
    ) -> int:
        """Erase events and all that was derived from any event; give one of the arguments, or both times.

        What the device paid of its privacy budget stays in the device ledger: what earlier runs got cannot be taken
        back.

        Args:
            item: erase the events with this item.
            before: erase events before this time, UTC seconds, and those without a time.
            since: erase events at or after this time, and those without a time. With `before`, the range.
            everything: erase all events and private values; lists are those of a new device.

        Returns:
            Number of erased events.

        Raises:
            InputError: also where another process reads, so that sealed traces remain; call it again then.
        """
        with self._lock:
            self._state.clear()
            self._store.drop_state(OWN_SHARE)  # friends' copies stay, which their epsilon bounds
            own = None if item is None else _id(item)
            mark = StoreMark(self.path, self._store)
            mark.forgot(clock.time())  # before, so that no question meets a part of the events
            try:
                return self._store.forget(own, before=before, since=since, everything=everything)
            finally:
                mark.forgot(clock.time())  # again, as the mark in the store is erased with everything

    def export_my_data(self, file: str | Path | TextIO) -> int:
        """Write all events and private values as JSON lines in clear, to a new file of mode 0600 or an open stream.

        Returns:
            Number of lines. `read_events` reads the events again.
        """
        with self._lock:
            return export_my_data(self._store, file)

    # ---- lists

    def recommend(
        self,
        k: int = 10,
        *,
        filters: Filters | None = None,
        diversity: float | None = None,
        freshness: Freshness | None = None,
        exclude_seen: bool = True,
        explore: float = 0.0,
        seed: int | None = None,
        friends: float = 0.0,
    ) -> list[Recommendation]:
        """Rank the items for the person, best first.

        Args:
            k: most places of the list.
            filters: which items may be on it.
            diversity: 0 for the best scores, towards 1 for items that are unlike each other. None: 0, and .3 for a
                person without a history where something says how alike items are.
            freshness: a preference for new items; None for none.
            exclude_seen: leave out items with an event. Disliked ones are always left out.
            explore: probability of each place to go to an item drawn from the next best ones; such a place is marked.
            seed: of these draws; None for a new one each time.
            friends: weight of the taste of friends whose shares are here, see `friends`; 0 for the own scores.

        Raises:
            InputError: where no model is installed, friends are weighed and none has a share of it, for a value out of
                range, and an unknown label of a filter.
        """
        with self._lock:
            model, now = self._state.current()
            wishes = lists.Wishes(
                k=k,
                exclude=now.past.seen if exclude_seen else np.zeros(0, np.int64),
                seen=True,
                allowed=None if filters is None else model.allowed(filters),
                diversity=diversity,
                freshness=None if freshness is None else model.freshness(freshness),
                explore=explore,
                seed=secrets.randbits(62) if seed is None else seed,
                bonus=self.friends.bonus(model, model.model.scores(now.state), friends) if friends else None,
            )
            found = lists.recommend(model.model, now.state, wishes, model.rows)
            return [Recommendation(model.ids.at(each.item), each.score, each.why) for each in found]

    def similar(
        self, item: str | int, k: int = 10, measure: str = "cosine", threshold: float | None = None
    ) -> list[Alike]:
        """Return the items that are most alike to one: by the model's rows, else by the public features.

        Args:
            item: its id.
            k: most items.
            measure: "cosine", "pearson" or "euclid" (1 / (1 + distance)).
            threshold: least likeness; None for none.

        Raises:
            InputError: for an unknown item or measure, or where nothing says how alike items are.
        """
        with self._lock:
            model = self._state.model()
        found = reasons.similar(model.model, model.place(item), k, model.rows, measure=measure, threshold=threshold)
        return [Alike(model.ids.at(place), likeness) for place, likeness in found]


def _id(item: str | int) -> str:
    """Spell an item's id as the ids of a log are spelled. Raises: InputError for another type, without the value."""
    if isinstance(item, bool) or not isinstance(item, str | Integral):
        raise InputError("item: an id is text or a whole number; give one")
    return canonical_id(item)
