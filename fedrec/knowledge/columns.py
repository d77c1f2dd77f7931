"""Columns of a catalogue from public triples: labels, vectors of walks and TransE vectors, with what made each one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import polars as pl

from fedrec.errors import InputError
from fedrec.knowledge import transe
from fedrec.knowledge.triples import Triples
from fedrec.knowledge.walks import labels, spectral

Method = Literal["labels", "paths", "transe"]
VERSION: Final = "1"
"""Of the rules of labels and paths: it changes when equal triples would get other columns."""
METHODS: Final[tuple[Method, ...]] = get_args(Method)


@dataclass(frozen=True)
class Sizes:
    """How large the vectors are, and how long TransE trains.

    Attributes:
        paths: numbers of a vector of walks.
        transe: numbers of a TransE vector.
        epochs: passes of TransE over the triples.
        seed: of TransE; public.
    """

    paths: int = 64
    transe: int = 32
    epochs: int = 100
    seed: int = 0


def add_columns(
    table: pl.DataFrame,
    triples: Triples,
    methods: Collection[str] = METHODS,
    sizes: Sizes | None = None,
    before: Mapping[str, str] | None = None,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Add columns of facts to a catalogue.

    Args:
        table: the items, with a column `item`, in the order that `triples` was read for.
        triples: public facts.
        methods: which columns, of `METHODS`.
        sizes: of the vectors.
        before: vector columns of the table with what made them; a new one of the same name replaces it.

    Returns:
        The table, and column -> text that names method, version and triples, for file, digest and statement.

    Raises:
        InputError: for a graph that is too small or too large, or a column of the table that has the name of a new one.
    """
    sizes = sizes or Sizes()
    source = f"sha256 {triples.digest}, of {len(triples.facts)} public triples"
    new: dict[str, pl.Series] = {}
    about: dict[str, str] = {}
    if "labels" in methods:
        new |= labels(triples)
        about |= dict.fromkeys(new, f"graph-labels (rule {VERSION}), {source}")
    if "paths" in methods:
        rule = f"two steps, {sizes.paths} numbers"
        new["graph_paths"] = _vectors("graph_paths", spectral(triples, sizes.paths))
        about["graph_paths"] = f"graph-paths (rule {VERSION}; {rule}), {source}"
    if "transe" in methods:
        rule = f"rule {transe.VERSION}; {sizes.transe} numbers, {sizes.epochs} epochs, seed {sizes.seed}"
        found = transe.train(triples, sizes.transe, sizes.epochs, sizes.seed).entities[: triples.items]
        new["graph_transe"] = _vectors("graph_transe", np.where(triples.known[:, None], found, 0.0))
        about["graph_transe"] = f"transe ({rule}), {source}"
    if taken := [name for name in new if name in table.columns and name not in (before or {})]:
        raise InputError(f"the catalogue has a column '{taken[0]}' already; rename or drop it")
    joined = table.drop(*new, strict=False).with_columns(column.alias(name) for name, column in new.items())
    return joined, about


def _vectors(name: str, values: np.ndarray) -> pl.Series:
    """Return rows as a column of arrays, null in rows of zeros."""
    column = pl.Series(name, values.astype(np.float32), dtype=pl.Array(pl.Float32, values.shape[1]))
    return pl.select(pl.when(pl.Series(values.any(1))).then(column).alias(name)).to_series()
