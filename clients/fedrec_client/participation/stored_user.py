"""The user of a device for a run: the events of its encrypted store, as positions in the run's catalogue.

| the store | the run gets |
|---|---|
| events that count (`edge.kinds_of_events`), of an allowed age and rating | an item at its first event |
| an item that the run's catalogue lacks | nothing |
| the rating of an item, where a sum takes ratings (`algorithm.stars`) | the last one |
| rules of `data.cleaning` (`fedrec.ondevice.cleaning`) | the events that they leave; parts are drawn in each round |
| attributes of a person with events, where the policy's `data.attributes` allows it | the attributes |
| a trust period, see `store_mark` | nothing: the device contributes zero, as one without events |

The store is opened for each question and closed again, so `forget` counts from the next question on.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedrec.errors import FedrecError
from fedrec.ondevice.history import History
from fedrec.ondevice.ids import ItemIds
from fedrec_client.ages import counted
from fedrec_client.consent.answering import WithoutEvents
from fedrec_client.consent.policy import Policy
from fedrec_client.edge.kinds_of_events import Reading
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.edge.personal_values import attributes_in
from fedrec_client.node_config import ConfigError
from fedrec_client.participation.device_spec import Wanted
from fedrec_client.participation.store_mark import StoreMark
from fedrec_client.store import Recorded, Store

NO_EVENT = "no event"
"""Why the input of a run is empty outside of a trust period: no event that counts in it."""


@dataclass(frozen=True)
class StoredUser:
    """One person's store.

    Attributes:
        folder: of the device.
    """

    folder: DeviceFolder

    def opened(self) -> Store:
        """Open the store. Raises: ConfigError where a person must give a passphrase, or it cannot be used."""
        try:
            return Store.open(self.folder.store, create=False)
        except FedrecError as error:
            raise ConfigError(str(error)) from None

    def events(self, policy: Policy, now: float) -> tuple[list[Recorded], WithoutEvents | None]:
        """Return the events that may enter sums; none in a trust period, which is returned, too.

        Args:
            policy: the device's.
            now: Unix seconds.
        """
        with self.opened() as store:
            period = StoreMark(self.folder.path, store).trust_period(now, policy.device.trust_days)
            events = [] if period is not None else store.events()
        return counted(events, policy.data, now), period

    def history(self, ids: ItemIds, wanted: Wanted, policy: Policy) -> tuple[History, WithoutEvents | None]:
        """Return the person's input of a run, and why it is empty; None where it is not.

        Args:
            ids: of the run's items.
            wanted: what of the events counts.
            policy: the device's.
        """
        rules = wanted.cleaning
        reading = Reading(ids.find, rated=False, min_rating=wanted.min_rating, stars=wanted.stars or rules is not None)
        events, period = self.events(policy, time.time())
        read = reading.read(events).history
        if rules is not None:
            read = rules(read, secrets.randbits(62))
        newest = slice(None if wanted.most_events is None else -wanted.most_events, None)
        assert read.times is not None
        items, times = read.items[newest], read.times[newest]
        attributes = self._attributes(period) if policy.data.attributes and len(items) else {}
        ratings = read.ratings[newest] if wanted.stars and read.ratings is not None else None
        history = History(items, ratings, times=times, attributes=attributes)
        return history, period if len(items) or period is not None else WithoutEvents(NO_EVENT)

    def _attributes(self, period: WithoutEvents | None) -> dict[str, str]:
        """Return the person's attributes; none in a trust period."""
        if period is not None:
            return {}
        with self.opened() as store:
            return attributes_in(store)


@dataclass(frozen=True)
class StoredUsers:
    """The users of a node: one device, or those of a hub.

    Attributes:
        users: in the order of their folders' names.
        policies: of each.
    """

    users: Sequence[StoredUser]
    policies: Sequence[Policy]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def identities(self) -> np.ndarray:
        """A device's ledger is its own, so its person has one number in it for good, also after `forget`."""
        return np.zeros(len(self.users), dtype=np.int64)
