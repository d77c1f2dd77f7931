"""The log: a table of events and a table of items, the form in which readers hand data to everything else."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from fedrec.errors import InputError


@dataclass(frozen=True)
class Log:
    """The result of a reader.

    Attributes:
        source: file or folder, for messages.
        events: one row an event: `user`, `item`, and where known the columns below. The order of rows carries no
            meaning.
            `rating` is a float. `timestamp` is Float64 seconds since 1970, to the microsecond.
            `place` (whole number) orders events that no timestamp orders: a lower one is older, equal ones are
            undecided. `part` is "train", "valid" or "test", the split of the source.
        items: one row an item: `item`, and public features. The type of a column decides its block: text -> Texts,
            number -> Numbers, list of text -> Categories, list of numbers -> Vectors. `title` is text and names items
            to readers.
        whole_catalogue: True if `items` is the catalogue; otherwise the catalogue is the items of the log.
        fixed_test: a published test split, one row a user: `user`, `item`, `negatives` (list).
        people: private attributes, one row a user: `user`, and text or numbers; None where there are none.
        reading: how columns were read, for readers; the same log may have several spellings.
        encoders: vector column of `items` -> text that names the encoder that made it.
    """

    source: str
    events: pl.DataFrame
    items: pl.DataFrame | None = None
    whole_catalogue: bool = False
    fixed_test: pl.DataFrame | None = None
    people: pl.DataFrame | None = field(default=None, repr=False)
    reading: Mapping[str, str] = field(default_factory=dict)
    encoders: Mapping[str, str] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        """The columns that order a user's events, the most important first; empty if the order is unknown."""
        return [name for name in ("timestamp", "place") if name in self.events.columns]

    def in_order_of_lines(self) -> "Log":
        """Return the same log with the row number as the place of each event.

        Raises:
            InputError: when the log has places already.
        """
        if "place" in self.events.columns:
            raise InputError(f"data.ordered = 'lines': {self.source} has an order of its own; leave it out")
        return replace(self, events=self.events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("place")))
