"""The data of a node: its users, and the public items of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Users(Protocol):
    """The users of a node: a `UserSource` of `fedrec.federation.hosted`, or stores of devices."""

    def __len__(self) -> int: ...


class Items(Protocol):
    """The public items of a node: a `Catalogue`, or a device's `RunItems`."""

    @property
    def digest(self) -> str: ...


@dataclass(frozen=True)
class Hosted:
    """The data of a node: its users, the public catalogue, and the shard of a dataset (-1: none).

    public: the users' data are a public dataset, so that they may take part in runs that clip nothing. Others never do.
    """

    source: Users
    catalogue: Items
    place: int = -1
    public: bool = False


Find = Callable[[str], Hosted]
"""Return the users of a request (the text of a `DataRequest`). Raises: InputError."""
