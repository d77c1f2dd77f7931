"""Triples (head, relation, tail): public facts in which some heads or tails are items of a catalogue.

A head or tail whose text equals an item's id is that item; every other one is an entity. So entities need names that
no item has: prefix them (`person/12`) where ids are plain numbers.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from fedrec.data.places import place
from fedrec.data.tables import need_columns, read_table
from fedrec.errors import InputError, nearest

COLUMNS = ("head", "relation", "tail")
MOST_RELATIONS = 200
LONGEST = 500
"""Characters of a name."""
_HOSTILE = r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"


@dataclass(frozen=True)
class Triples:
    """Facts by number.

    Attributes:
        entities: names; the catalogue's items come first, in its order.
        relations: names, sorted.
        items: number of items.
        facts: (facts, 3) int64, head, relation and tail of each, sorted.
        digest: SHA-256 (hex) of the named facts, sorted: the same for every file format and order of lines.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    items: int
    facts: np.ndarray
    digest: str

    @property
    def known(self) -> np.ndarray:
        """(items,) bool: items that a fact names."""
        found = np.zeros(len(self.entities), bool)
        found[self.facts[:, 0]] = found[self.facts[:, 2]] = True
        return found[: self.items]

    def named(self) -> np.ndarray:
        """Return (facts, 3) of text."""
        names, relations = np.array(self.entities, object), np.array(self.relations, object)
        head, relation, tail = self.facts.T
        return np.stack([names[head], relations[relation], names[tail]], 1)


def read_triples(file: Path, items: pl.Series, relations: Sequence[str] = ()) -> Triples:
    """Read triples in any format of tables, with the columns `head`, `relation` and `tail`.

    Args:
        file: the table.
        items: (items,) the catalogue's ids.
        relations: those to use; none for all.

    Raises:
        InputError: one line that names the first row at fault.
    """
    table = read_table(file)
    need_columns(table, file, *COLUMNS, settings="")
    return typed_triples(table, file, items, relations)


def typed_triples(table: pl.DataFrame, file: Path, items: pl.Series, relations: Sequence[str] = ()) -> Triples:
    """Check and number a table of triples, which messages call `file`.

    Raises:
        InputError: as `read_triples`.
    """
    if nested := [name for name in COLUMNS if table[name].dtype.is_nested() or table[name].dtype == pl.Binary]:
        raise InputError(f"{file}: '{nested[0]}' holds {table[nested[0]].dtype}; give one name a cell")
    table = table.select(pl.col(name).cast(pl.String).str.strip_chars() for name in COLUMNS)
    for name in COLUMNS:
        column = table[name]
        faults = (
            ((column.is_null() | (column == "")).fill_null(True), "is empty; give each triple three names"),
            (column.str.contains(_HOSTILE).fill_null(False), "holds a control character; remove it"),
            ((column.str.len_chars() > LONGEST).fill_null(False), f"is longer than {LONGEST} characters; shorten it"),
        )
        for wrong, why in faults:
            if wrong.any():
                raise InputError(f"{place(file, wrong)}: '{name}' {why}")
    twice = ~table.select(pl.struct(COLUMNS).is_first_distinct()).to_series()
    if twice.any():
        raise InputError(f"{place(file, twice)}: this triple occurs before; keep each one once")
    known = table["relation"].unique().sort().to_list()
    for name in relations:
        if name not in known:
            raise InputError(f"--relation {name}: no triple of {file} has it.{nearest(name, known)}")
    if relations:
        table, known = table.filter(pl.col("relation").is_in(list(relations))), sorted(set(relations))
    if len(known) > MOST_RELATIONS:
        raise InputError(f"{file}: has {len(known):,} relations, at most {MOST_RELATIONS}; name some with --relation")
    ids = items.cast(pl.String)
    both = pl.concat([table["head"].alias("name"), table["tail"].alias("name")]).unique().sort()
    others = both.filter(~both.is_in(ids.implode()))
    if len(others) == len(both):
        raise InputError(
            f"{file}: no head or tail is an item of the catalogue, for example '{ids[0]}'; write items by id"
        )
    entities = pl.concat([ids.alias("name"), others])
    at = pl.DataFrame({"name": entities, "at": np.arange(len(entities))})
    found = {
        name: table.select(pl.col(name).alias("name")).join(at, on="name", how="left", maintain_order="left")["at"]
        for name in ("head", "tail")
    }
    relation = np.searchsorted(np.array(known, object), table["relation"].to_numpy().astype(object))
    facts = np.stack([found["head"].to_numpy(), relation, found["tail"].to_numpy()], 1).astype(np.int64)
    facts = facts[np.lexsort(facts.T[::-1])]
    lines = table.select(pl.concat_str(COLUMNS, separator="\t")).to_series().sort()
    digest = hashlib.sha256("\n".join(lines.to_list()).encode()).hexdigest()
    return Triples(tuple(entities.to_list()), tuple(known), len(ids), facts, digest)
