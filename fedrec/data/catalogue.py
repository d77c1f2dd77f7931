"""The catalogue: the items and their public features. It is public by definition and costs no budget."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedrec.errors import InputError


@dataclass(frozen=True)
class Categories:
    """Each item's set of labels (genres, tags): membership (items, labels) bool."""

    name: str
    labels: tuple[str, ...]
    membership: np.ndarray


@dataclass(frozen=True)
class Numbers:
    """One number an item (a year, a price): values (items,) float64, NaN where unknown."""

    name: str
    values: np.ndarray


@dataclass(frozen=True)
class Texts:
    """One short text an item (a title, a description)."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Vectors:
    """One dense vector an item (a pretrained encoder's embedding): values (items, width) float32, 0 where unknown."""

    name: str
    values: np.ndarray


Block = Categories | Numbers | Texts | Vectors


@dataclass(frozen=True)
class Catalogue:
    """Items in catalogue order: original ids, titles where known, and public feature blocks.

    The ids carry no meaning, and no model may compute with them.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...] | None = None
    blocks: tuple[Block, ...] = field(default=())

    def __post_init__(self) -> None:
        for block in self.blocks:
            rows = len(
                block.texts
                if isinstance(block, Texts)
                else block.membership
                if isinstance(block, Categories)
                else block.values
            )
            if rows != len(self.ids):
                raise InputError(f"catalogue: block '{block.name}' has {rows} rows for {len(self.ids)} items")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of ids, titles and feature blocks; equal catalogues have equal digests."""
        found = hashlib.sha256(repr((self.ids, self.titles)).encode())
        for block in self.blocks:
            found.update(f"\n{type(block).__name__} {block.name!r} ".encode())
            if isinstance(block, Texts):
                found.update(repr(block.texts).encode())
                continue
            values = block.membership if isinstance(block, Categories) else block.values
            labels = block.labels if isinstance(block, Categories) else ()
            found.update(
                f"{labels!r} {values.dtype} {values.shape}\n".encode() + np.ascontiguousarray(values).tobytes()
            )
        return found.hexdigest()

    def title(self, item: int) -> str:
        """Return the name of an item for a reader: its title, else its id."""
        return self.titles[item] if self.titles else self.ids[item]
