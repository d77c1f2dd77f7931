"""Friends: what `EdgeClient.friends` does. A share is paid for once, and every friend gets the same bytes."""

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedrec.errors import InputError, VerificationError
from fedrec.privacy.discrete.stream import WordStream
from fedrec.private_files import create
from fedrec.social import blend, shares
from fedrec.social.shares import Share, ShareTerms
from fedrec_client.ages import counted
from fedrec_client.consent.files import policy_of
from fedrec_client.edge.kinds_of_events import Reading
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.edge.personal_values import OWN_SHARE
from fedrec_client.friends import sealed
from fedrec_client.friends.book import Book
from fedrec_client.friends.keys import Address
from fedrec_client.friends.payment import pay
from fedrec_client.participation.store_mark import FORGOTTEN, StoreMark
from fedrec_client.store import Store

if TYPE_CHECKING:
    from fedrec_client.edge.installed import OpenModel
    from fedrec_client.edge.private_state import PrivateState

CLIP = 1.0
"""Of every share: tastes have length 1."""
DAY = 86400
OLDEST, EARLY = 90 * DAY, DAY
"""Seconds: age of the oldest share that is taken, and how far a friend's clock may be ahead."""


@dataclass(frozen=True, slots=True)
class Friend:
    """A friend of a device.

    Attributes:
        name: that the person gave.
        address: of the friend's device.
        epsilon: of its newest share; None without a share.
        made: Unix seconds of it; None likewise.
        fits: whether it is of the model in use.
    """

    name: str
    address: str
    epsilon: float | None
    made: int | None
    fits: bool


@dataclass(frozen=True, slots=True)
class Given:
    """A share that was written for a friend.

    Attributes:
        epsilon: of the share.
        made: Unix seconds of its charge.
        paid: True if it was made and charged now; False for the one that other friends have.
    """

    epsilon: float
    made: int
    paid: bool


class Friends:
    """The friends of one device. Get them by `EdgeClient.friends`.

    Args:
        folder: of the device.
        store: its open store.
        state: of the person.
        lock: of the client.
    """

    def __init__(self, folder: DeviceFolder, store: Store, state: "PrivateState", lock: threading.RLock) -> None:
        self._folder, self._store, self._state, self._lock = folder, store, state, lock

    @property
    def address(self) -> str:
        """The address of this device, for friends: public keys alone. Send it over a channel that cannot be changed."""
        with self._lock, self._store.transaction():
            return Book.of(self._store).keys.address.text

    def add(self, name: str, address: str) -> None:
        """Add a friend whose shares this device takes, and for whom it may write its own.

        Raises:
            InputError: for a name or address that is taken, this device's own address, or text that is no address.
        """
        with self._lock, self._store.transaction():
            book = Book.of(self._store)
            book.add(name, Address.parse(address))
            book.keep(self._store)

    def remove(self, name: str) -> None:
        """Remove a friend and the friend's share. Raises: InputError for an unknown one."""
        with self._lock, self._store.transaction():
            book = Book.of(self._store)
            book.named(name)
            del book.friends[name]
            book.keep(self._store)

    def known(self) -> list[Friend]:
        """Return the friends by name."""
        with self._lock:
            space = self._state.model().about.sha256 if self._state.installed else ""
            found = Book.of(self._store).friends
        made = []
        for name, each in sorted(found.items()):
            share = sealed.decode(each.share) if each.share else None
            facts = (None, None, False) if share is None else _facts(share, space)
            made.append(Friend(name, each.address.text, *facts))
        return made

    def share(self, name: str, file: str | Path, epsilon: float | None = None, *, anew: bool = False) -> Given:
        """Write this device's share for a friend to a new file, mode 0600, sealed for that friend alone.

        All friends get the same share, so a second friend costs nothing. `epsilon` makes the first one, and a new one
        only with `anew`; it is charged to the device ledger before it exists.

        Args:
            name: of the friend.
            file: a new file, which any carrier may see.
            epsilon: of the share against any other history of this person; None for the share that friends have.
            anew: True to make and charge another share of the events as they are now.

        Raises:
            InputError: for an unknown friend, an existing file, no model or event, a device that opted out.
            BudgetExhausted: where the policy's limits do not cover the price; nothing is written.
        """
        place = Path(file)
        if place.exists():
            raise InputError(f"{place}: exists already; name a new file")
        with self._lock:
            with self._store.transaction():
                book = Book.of(self._store)
                to = book.named(name).address
            content = self._own(epsilon, anew)
            paid = content is None
            content = self._made(epsilon) if content is None else content
            create(place, sealed.seal(content, book.keys, to))
        found = sealed.decode(content)
        return Given(found.terms.epsilon, found.made, paid)

    def take(self, file: str | Path) -> str:
        """Check a share that a friend sent, and keep it in place of the friend's older one.

        Returns:
            The friend's name.

        Raises:
            InputError: for a share of nobody who is a friend here, of another model, or one that is here already.
            VerificationError: for a file that was changed, is for another device, or breaks the rules of a share.
        """
        place = Path(file)
        try:
            with open(place, "rb") as source:
                message = source.read(sealed.MOST + 1)
        except OSError as error:
            raise InputError(f"{place}: cannot be read ({error.strerror})") from None
        with self._lock, self._store.transaction():
            book = Book.of(self._store)
            try:
                sender, content = sealed.opened(message, book.keys)
                name = book.by_address(sender)
                if name is None:
                    raise InputError(
                        f"the sender {sender.short} is no friend of this device; `fedrec client friends add NAME "
                        "ADDRESS` with the address that the friend gave you"
                    )
                self._check(sealed.decode(content), book.friends[name].share, content)
            except (InputError, VerificationError) as error:
                raise type(error)(f"{place}: {error}") from None
            book.friends[name] = replace(book.friends[name], share=content)
            book.keep(self._store)
        return name

    def bonus(self, model: "OpenModel", own: np.ndarray, weight: float) -> np.ndarray:
        """Compute what friends add to the own scores. Called with the client's lock held.

        Args:
            model: in use.
            own: (items,) scores.
            weight: of friends without noise.

        Raises:
            InputError: where no friend's share is of the model in use.
        """
        space, found = model.about.sha256, Book.of(self._store).friends.values()
        taken = [sealed.decode(each.share) for each in found if each.share]
        fitting = [each for each in taken if each.terms.space == space]
        if not fitting:
            raise InputError("friends: no share of the model in use is here; take one by `fedrec client friends take`")
        return blend.bonus(own, _rows(model, np.arange(model.model.n_items)), fitting, space, weight)

    def _own(self, epsilon: float | None, anew: bool) -> bytes | None:
        """Return the share that other friends have; None where one is to be made."""
        kept = self._store.state(OWN_SHARE)
        fits = kept is not None and sealed.decode(kept).terms.space == self._state.model().about.sha256
        if anew or not fits:
            if epsilon is None:
                raise InputError("share: there is no share of the model in use to give; name --epsilon for a new one")
            return None
        assert kept is not None
        has = sealed.decode(kept).terms.epsilon
        if epsilon is not None and epsilon != has:
            raise InputError(f"share: friends have one at epsilon {has:g}; leave --epsilon out, or pay for a new one "
                             "with --anew")  # fmt: skip
        return kept

    def _made(self, epsilon: float | None) -> bytes:
        """Make, charge and keep a share of the present events."""
        model, policy, now = self._state.model(), policy_of(self._folder.path), time.time()
        if policy.data.opted_out:
            raise InputError("share: this device opted out of all releases; `fedrec client opt-in` ends that")
        mark = StoreMark(self._folder.path, self._store)
        mark.renew(now)
        period = mark.trust_period(now, policy.device.trust_days)
        if period is not None and period.why != FORGOTTEN:
            raise InputError("share: the store may be an older copy, with events that were erased since; wait for the "
                             "end of device.trust_days")  # fmt: skip
        reading = Reading(model.ids.find, rated=model.rated, min_rating=model.pointer.min_rating)
        items = reading.read(counted(self._store.events(), policy.data, now)).history.items
        if not len(items):
            raise InputError("share: no event counts, so there is no taste to share; record some first")
        vector = blend.taste(_rows(model, items))
        assert epsilon is not None
        terms = ShareTerms(model.about.sha256, len(vector), CLIP, float(epsilon), policy.run.delta)
        made = shares.share(vector, terms, lambda each: pay(self._folder.path, each), WordStream.fresh())
        content = sealed.encode(made)
        self._store.set_state(OWN_SHARE, content)
        return content

    def _check(self, share: Share, before: bytes, content: bytes) -> None:
        model, now = self._state.model(), time.time()
        if share.terms.space != model.about.sha256:
            raise InputError(
                f"the share is of model {share.terms.space[:12]}, and this device has {model.about.sha256[:12]}; both "
                "need the same release"
            )
        if share.terms.clip != CLIP or share.terms.width != _rows(model, np.zeros(1, np.int64)).shape[1]:
            raise VerificationError("the share has another clip or width than shares of this model")
        if wrong := shares.fault(share):
            raise VerificationError(f"the share was not made by the rules: {wrong}")
        if content == before:
            raise InputError("the same share is here already")
        if before and share.made < sealed.decode(before).made:
            raise InputError("the share is older than the one that is here")
        if not now - OLDEST <= share.made <= now + EARLY:
            raise InputError("the share is older than 90 days or from the future; ask the friend for a new one")


def _facts(share: Share, space: str) -> tuple[float, int, bool]:
    return share.terms.epsilon, share.made, share.terms.space == space


def _rows(model: "OpenModel", items: np.ndarray) -> np.ndarray:
    found = model.model.item_rows(items)
    if found is None:
        raise InputError(
            f"friends: '{model.model.called}' has no vectors of items, in which tastes could be shared; use als or "
            "another model that learns items"
        )
    return found
