"""The catalogue: the items and their public features. It is public by definition and costs no budget."""

import hashlib
from dataclasses import dataclass, field, replace
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
    """One dense vector an item (a pretrained encoder's embedding): values (items, width) float32, 0 where unknown.

    encoder: name, version and SHA-256 of the encoder that is said to have made it; empty where none is named.
    """

    name: str
    values: np.ndarray
    encoder: str = ""


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
        """SHA-256 (hex) of ids, titles, feature blocks and their encoders; equal catalogues have equal digests."""
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
            if isinstance(block, Vectors) and block.encoder:  # a catalogue without encoders keeps its older digest
                found.update(f"\nencoder {block.encoder!r}".encode())
        return found.hexdigest()

    @property
    def encoders(self) -> dict[str, str]:
        """The encoders of the vector columns that name one, by column."""
        return {each.name: each.encoder for each in self.blocks if isinstance(each, Vectors) and each.encoder}

    def select(self, items: np.ndarray) -> "Catalogue":
        """Return the catalogue of `items` (n,), positions, in that order."""
        titles = None if self.titles is None else tuple(self.titles[item] for item in items)
        return Catalogue(tuple(self.ids[item] for item in items), titles, tuple(_rows(b, items) for b in self.blocks))

    def title(self, item: int) -> str:
        """Return the name of an item for a reader: its title, else its id."""
        return self.titles[item] if self.titles else self.ids[item]


def _rows(block: Block, items: np.ndarray) -> Block:
    if isinstance(block, Texts):
        return replace(block, texts=tuple(block.texts[item] for item in items))
    if isinstance(block, Categories):
        return replace(block, membership=block.membership[items])
    return replace(block, values=block.values[items])
