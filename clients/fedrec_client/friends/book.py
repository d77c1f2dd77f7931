"""What a device keeps of its friends, sealed in its store: keys, addresses, and the newest share of each.

These are private values. `forget` erases the device's own share, which was made of events, and
`forget(everything=True)` all of it. What was paid stays in the device ledger.
"""

import base64
import json
from dataclasses import dataclass, field

from fedrec.errors import InputError, VerificationError
from fedrec_client.edge.personal_values import FRIENDS
from fedrec_client.friends.keys import Address, FriendKeys
from fedrec_client.store import Store

MOST = 1000
"""Most friends."""


@dataclass(frozen=True)
class Known:
    """A friend. Attributes: address: of the device; share: the newest one, encoded; empty for none."""

    address: Address
    share: bytes = b""


@dataclass
class Book:
    """The keys, and the friends by the names that the person gave them."""

    keys: FriendKeys
    friends: dict[str, Known] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store) -> "Book":
        """Read the book, and make one with new keys where there is none. Raises: VerificationError."""
        content = store.state(FRIENDS)
        if content is None:
            made = cls(FriendKeys.fresh())
            made.keep(store)
            return made
        try:
            found = json.loads(content)
            friends = {
                str(name): Known(Address.parse(each["address"]), base64.b64decode(each["share"]))
                for name, each in found["friends"].items()
            }
            return cls(FriendKeys(bytes.fromhex(found["seal"]), bytes.fromhex(found["sign"])), friends)
        except (ValueError, KeyError, TypeError, AttributeError, InputError):
            raise VerificationError(f"the private value '{FRIENDS}' was not written by fedrec") from None

    def keep(self, store: Store) -> None:
        """Write the book."""
        friends = {
            name: {"address": each.address.text, "share": base64.b64encode(each.share).decode()}
            for name, each in self.friends.items()
        }
        content = {"seal": self.keys.seal.hex(), "sign": self.keys.sign.hex(), "friends": friends}
        store.set_state(FRIENDS, json.dumps(content).encode())

    def by_address(self, address: Address) -> str | None:
        """Return the name of a friend by address; None for no friend."""
        return next((name for name, each in self.friends.items() if each.address == address), None)

    def named(self, name: str) -> Known:
        """Return a friend. Raises: InputError for an unknown one."""
        if name not in self.friends:
            raise InputError(f"no friend '{name}'; `fedrec client friends list` prints them, `add` adds one")
        return self.friends[name]

    def add(self, name: str, address: Address) -> None:
        """Add a friend. Raises: InputError for a name or an address that is taken, or the device's own."""
        if not 0 < len(name) <= 100:
            raise InputError("a friend's name has 1 to 100 characters")
        if address == self.keys.address:
            raise InputError("this is the address of this device itself; add that of the friend's device")
        if len(self.friends) >= MOST:
            raise InputError(f"there are {MOST} friends already; remove one first")
        taken = self.by_address(address)
        if taken is not None or name in self.friends:
            raise InputError(
                f"'{taken or name}' is a friend already; remove it first to give it another name or address"
            )
        self.friends[name] = Known(address)
