"""The intermediate between readers and everything else: one log of events as a table, and what is known of items."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from fedrec.errors import InputError


@dataclass(frozen=True)
class Log:
    """What a reader returns.

    source: file or folder, for messages.
    events: one row an event: `user`, `item`, and where known `rating` (float), `timestamp` (Float64 seconds since 1970,
        to the microsecond), `place` and `part` ("train", "valid" or "test", a split that the source came with).
        `place` (whole number) orders events that no timestamp orders: a lower one is older, equal ones are undecided.
        The order of the rows carries no meaning.
    items: one row an item: `item`, and public features whose type decides the block: text -> Texts,
        number -> Numbers, list of text -> Categories, list of numbers -> Vectors. The column `title` is text and
        also names items before people.
    whole_catalogue: `items` is the catalogue; otherwise the catalogue is the items of the log.
    fixed_test: one row a user: `user`, `item`, `negatives` (list), a published test split.
    reading: how columns were read, for people; the same log may be spelled in several ways.
    """

    source: str
    events: pl.DataFrame
    items: pl.DataFrame | None = None
    whole_catalogue: bool = False
    fixed_test: pl.DataFrame | None = None
    reading: Mapping[str, str] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        """The columns that order a user's events, the first decides first; none where the order is unknown."""
        return [name for name in ("timestamp", "place") if name in self.events.columns]

    def in_order_of_lines(self) -> "Log":
        """The same log with the row as the place of each event.

        Raises:
            InputError: where it has places already.
        """
        if "place" in self.events.columns:
            raise InputError(f"data.ordered = 'lines': {self.source} has an order of its own; leave it out")
        return replace(self, events=self.events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("place")))
