"""The intermediate between readers and everything else: one log of events as a table, and what is known of items."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True)
class Log:
    """What a reader returns.

    source: file or folder, for messages.
    events: one row an event, in the source's order: `user`, `item`, and where known `rating` (float), `timestamp`
        (Float64 seconds since 1970, to the microsecond) and `part` ("train", "valid" or "test", a split that the
        source came with).
    ordered: the rows of a user stand oldest first although there may be no timestamps.
    items: one row an item: `item`, and public features whose type decides the block: text -> Texts,
        number -> Numbers, list of text -> Categories, list of numbers -> Vectors. The column `title` is text and
        also names items before people.
    whole_catalogue: `items` is the catalogue; otherwise the catalogue is the items of the log.
    fixed_test: one row a user: `user`, `item`, `negatives` (list), a published test split.
    reading: how columns were read, for people; the same log may be spelled in several ways.
    """

    source: str
    events: pl.DataFrame
    ordered: bool = False
    items: pl.DataFrame | None = None
    whole_catalogue: bool = False
    fixed_test: pl.DataFrame | None = None
    reading: Mapping[str, str] = field(default_factory=dict)
