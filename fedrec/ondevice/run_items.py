"""The items of a run for a device without tables: their ids in catalogue order, and the digest that a run names.

One JSON file, made where the catalogue is (`fedrec.recommend.run_items`) and handed out with a release or by itself.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fedrec.errors import InputError
from fedrec.ondevice.ids import HeldIds, ItemIds
from fedrec.received_files import read_below

LARGEST = 1 << 30


@dataclass(frozen=True)
class RunItems:
    """The items.

    Attributes:
        names: ids in catalogue order.
        digest: of the whole catalogue (`fedrec.data.catalogue.Catalogue.digest`), hex.
    """

    names: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def ids(self) -> ItemIds:
        """Positions by id."""
        return HeldIds(self.names)

    def write(self, file: Path) -> None:
        """Write the items to a file."""
        file.write_text(json.dumps({"digest": self.digest, "ids": self.names}, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "RunItems":
        """Read a file of `write`.

        Raises:
            InputError: where it is none.
            VerificationError: for a link, or an impossible size.
        """
        content = read_below(file.parent, file.name, LARGEST)
        if content is None:
            raise InputError(f"{file}: no such file; name the items of the run")
        try:
            found = json.loads(content)
            digest, names = found["digest"], found["ids"]
            if len(bytes.fromhex(digest)) != 32 or not all(isinstance(name, str) for name in names):
                raise ValueError("no items")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{file}: no file of a run's items; `fedrec.recommend.run_items` makes one") from None
        return cls(tuple(names), digest)
