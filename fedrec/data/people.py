"""People: private attributes of users, e.g. age group, gender, language. They stay on the device, as events do.

A table has a row a user: `user_id`, and any further column is an attribute. A column of numbers alone is numbers, any
other is labels. An empty cell is unknown, and so is everything about a user without a row. Which values a model
uses is public and named by the run (`algorithm.people`), never taken from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from fedrec.data.positions import positions_of


@dataclass(frozen=True)
class People:
    """Private attributes of B users, a row each.

    Attributes:
        names: of the attributes.
        labels: of each attribute, ascending; empty for a column of numbers. Private: they are what users have.
        values: (B, attributes) float64, a number or the position of a label; NaN where unknown.
    """

    names: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...] = field(repr=False)
    values: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Tensor | np.ndarray | slice) -> "People":
        """Return the attributes of the users at `rows` (R,)."""
        chosen = torch.from_numpy(np.ascontiguousarray(rows)) if isinstance(rows, np.ndarray) else rows
        return replace(self, values=self.values[chosen])

    def to(self, device: torch.device | str) -> "People":
        """Return the same attributes with their values on `device`."""
        return replace(self, values=self.values.to(device))

    def with_strangers(self, count: int) -> "People":
        """Return these users and `count` more, of whom nothing is known."""
        unknown = self.values.new_full((count, len(self.names)), torch.nan)
        return replace(self, values=torch.cat([self.values, unknown]))

    def person(self, row: int) -> dict[str, str]:
        """Return the known attributes of one user as text, as a device's store holds them."""
        found = zip(self.names, self.labels, self.values[row].tolist(), strict=True)
        return {
            name: labels[int(value)] if labels else number_text(value)
            for name, labels, value in found
            if value == value
        }

    @classmethod
    def of(cls, people: list[Mapping[str, Any]]) -> "People":
        """Make the attributes of users from one mapping each, name -> text or number; None and "" are unknown."""
        names = sorted({str(name) for each in people for name in each})
        table = pl.DataFrame({name: [_cell(each.get(name)) for each in people] for name in names})
        return _coded(table, len(people))


def aligned(people: pl.DataFrame | None, user_ids: pl.Series) -> People | None:
    """Return the attributes of the users of a log, in their order; None without a table.

    Args:
        people: of `fedrec.data.people_tables.read_people`.
        user_ids: (users,) ascending.
    """
    if people is None:
        return None
    theirs = people.with_columns(pl.col("user").cast(user_ids.dtype, strict=False)).drop_nulls("user")
    theirs = theirs.with_columns(positions_of(theirs["user"], user_ids).alias("user")).drop_nulls("user")
    order = pl.DataFrame({"user": pl.int_range(len(user_ids), dtype=pl.Int64, eager=True)})
    return _coded(order.join(theirs, on="user", how="left", maintain_order="left").drop("user"), len(user_ids))


def _coded(table: pl.DataFrame, rows: int) -> People:
    labels, values = [], np.empty((rows, len(table.columns)))
    for place_, name in enumerate(table.columns):
        column = table[name]
        known = () if column.dtype != pl.String else tuple(column.drop_nulls().unique().sort().to_list())
        codes = column.cast(pl.Enum(known)).to_physical() if known else column
        values[:, place_] = codes.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        labels.append(known)
    return People(tuple(table.columns), tuple(labels), torch.from_numpy(values))


def _cell(value: Any) -> str | None:
    text = "" if value is None else number_text(value) if isinstance(value, float) else str(value).strip()
    return text or None


def number_text(number: float) -> str:
    """Return a number as text, without a fraction where it is whole."""
    return str(int(number)) if number == int(number) else repr(number)
