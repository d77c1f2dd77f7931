"""Settings for the columns of a log or catalogue and for the format of a text file, and hints for column names."""

import codecs
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from fedrec.data.spellings import likely
from fedrec.errors import nearest
from fedrec.settings import Settings

Unit = Literal["s", "ms", "us", "ns"]
"""The unit of times that are numbers since 1970."""

Column = str | int
"""A column by its name in the first line, or by its position from 1."""


class TextFormat(Settings):
    """Format of a text file. Parquet and JSON ignore it."""

    separator: str | None = Field(default=None, min_length=1)
    """Separator of columns, e.g. ";" or "::" ("tab" for a tab); left out, it is taken from the first line."""
    header: bool = True
    """True if the first line holds the names of the columns; if false, columns are given by position from 1."""
    encoding: str = "utf-8"
    """The file's encoding, e.g. "iso-8859-1" or "utf-16"."""

    @field_validator("separator")
    @classmethod
    def _tab(cls, separator: str | None) -> str | None:
        if separator is not None and set(separator) & set('\r\n"\x1f'):
            raise ValueError("a separator must not contain a line end or a quote")
        return "\t" if separator in ("tab", "\\t") else separator

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)  # also refuses codecs that are not for text
            return codecs.lookup(encoding).name
        except (LookupError, UnicodeError):
            raise ValueError("no encoding of this name; the usual ones are utf-8, utf-16 and iso-8859-1") from None


class LogColumns(TextFormat):
    """The `[data.columns]` table of a scenario: the columns of a log of one's own (`data.path`)."""

    user: Column | None = None
    """The column of users; left out, `user_id` (or MovieLens' `userId`)."""
    item: Column | None = None
    """The column of items; left out, `item_id` (or MovieLens' `movieId`)."""
    rating: Column | None = None
    """The column of ratings; left out, `rating` where there is one; "none" reads none."""
    time: Column | None = None
    """The column of times; left out, `timestamp` where there is one; "none" reads none."""
    unit: Unit | None = None
    """Unit of times that are numbers since 1970: s, ms, us or ns; left out, it is taken from their range."""
    day_first: bool | None = None
    """True if 01/02/2020 is the first of February; left out, a day above 12 in the column decides."""

    @property
    def named(self) -> dict[str, Column]:
        """The configured columns, by usual name: `user_id`, `item_id`, `rating` and `timestamp`."""
        given = {"user_id": self.user, "item_id": self.item, "rating": self.rating, "timestamp": self.time}
        return {name: column for name, column in given.items() if column is not None}


class CatalogueColumns(TextFormat):
    """The `[data.catalogue_columns]` table of a scenario: the columns of the catalogue of one's own."""

    item: Column | None = None
    """The column of items; left out, `item_id` (or MovieLens' `movieId`)."""
    title: Column | None = None
    """The column of titles; left out, `title` where there is one."""
    text: tuple[str, ...] = ()
    """Columns that stay text although most of their cells are numbers or dates."""
    missing: tuple[str, ...] = ()
    """Further marks of an unknown value, besides the usual ones (N/A, NULL, \\N, unknown, -)."""

    @property
    def named(self) -> dict[str, Column]:
        """The configured columns, by usual name: `item_id` and `title`."""
        given = {"item_id": self.item, "title": self.title}
        return {name: column for name, column in given.items() if column is not None}


OPTIONS = {"user_id": "user", "item_id": "item", "rating": "rating", "timestamp": "time", "title": "title"}
"""The usual name of a column -> the setting that gives another name."""


def hint(name: str, columns: Sequence[str], table: str = "data.columns") -> str:
    """Return a sentence on how to give the missing column `name`, with a space in front; empty without a hint."""
    found = likely(name, columns)
    option = f"{table}.{OPTIONS[name]}" if name in OPTIONS else ""
    if found is not None:
        return f" Did you mean '{found}'?" + (f" Then set {option}={found}, or rename the column." if option else "")
    if option and columns and list(columns) == [str(number) for number in range(1, len(columns) + 1)]:
        return f" Without a header columns have no names: set {option} to its position, from 1 to {len(columns)}."
    if option and columns and all(any(sign.isdigit() for sign in column) for column in columns):
        return f" Its first line seems to be data: set {table}.header=false and {option} to a position from 1."
    return nearest(name, columns)
