"""Neighbours and two-step walks in a graph of public triples, as labels and as vectors of items.

An item's labels are its direct neighbours by relation. Its vector is its row in the spectrum of the table items x
entities within two steps (latent semantic analysis; Deerwester et al. 1990). A fact is walked in both directions. An
entity that nearly all items reach says little, so each counts by its rarity.
"""

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix, diags, hstack
from scipy.sparse.linalg import svds

from fedrec.errors import InputError
from fedrec.knowledge.triples import Triples

LEAST_ITEMS = 2
"""A neighbour of fewer items is no label: it says nothing about two items."""
MOST_LABELS = 2000
"""Labels of a column; the most frequent are kept."""
MOST_WALKS = 50_000_000
"""Two-step walks that memory holds."""
SMALL = 512
"""Tables with no longer side than this are factored whole, which is exact."""
SECOND = 0.5
"""Weight of what is two steps away."""


def labels(triples: Triples) -> dict[str, pl.Series]:
    """Return a column of labels for each relation and direction that has any, by name.

    An item that is the head of (item, `by`, x) has the label x in column `graph_by`; one that is the tail of
    (x, `by`, item) has it in `graph_by_of`.

    Returns:
        Column -> (items,) lists of text, sorted, empty where an item has no such neighbour.
    """
    names, found = np.array(triples.entities, object), {}
    for place, relation in enumerate(triples.relations):
        facts = triples.facts[triples.facts[:, 1] == place]
        for suffix, here, there in (("", 0, 2), ("_of", 2, 0)):
            pairs = facts[facts[:, here] < triples.items]
            column = _column(pairs[:, here], names[pairs[:, there]], triples.items)
            if column is not None:
                name = f"graph_{relation}{suffix}"
                if name in found:
                    raise InputError(f"relations '{relation}' and another both make column '{name}'; rename one")
                found[name] = column.alias(name)
    return found


def _column(item: np.ndarray, label: np.ndarray, items: int) -> pl.Series | None:
    table = pl.DataFrame({"item": item, "label": pl.Series(label.tolist(), dtype=pl.String)}).unique()
    counts = table["label"].value_counts().filter(pl.col("count") >= LEAST_ITEMS)
    kept = counts.sort(["count", "label"], descending=[True, False]).head(MOST_LABELS)["label"]
    if kept.is_empty():
        return None
    table = table.filter(pl.col("label").is_in(kept.implode()))
    grouped = table.group_by("item").agg(pl.col("label").sort())
    every = pl.DataFrame({"item": np.arange(items)})
    return every.join(grouped, on="item", how="left", maintain_order="left")["label"].fill_null([])


def reach(triples: Triples) -> csr_matrix:
    """Compute how items reach entities within two steps, (items, columns) float64; one row of no item is zero.

    Columns are the direct neighbours by relation and direction, then the entities (no items) that are two steps away.
    A walk over a neighbour of degree n counts 1/n, so a hub carries little.

    Raises:
        InputError: for a graph with more walks than memory holds.
    """
    count, items = len(triples.entities), triples.items
    head, relation, tail = triples.facts.T
    here, there = np.concatenate([head, tail]), np.concatenate([tail, head])
    kind = np.concatenate([relation, relation + len(triples.relations)])
    of_item = here < items
    direct = csr_matrix(
        (np.ones(int(of_item.sum())), (here[of_item], kind[of_item] * count + there[of_item])),
        shape=(items, 2 * len(triples.relations) * count),
    )
    edges = csr_matrix((np.ones(len(here)), (here, there)), shape=(count, count))
    edges.data[:] = 1.0
    onward = edges[:, items:]
    first = edges[:items]
    walks = int((np.asarray(first.sum(0)).ravel() * np.asarray(onward.sum(1)).ravel()).sum())
    if walks > MOST_WALKS:
        raise InputError(
            f"the graph has {walks:,} walks of two steps from items, at most {MOST_WALKS:,}; name relations with "
            "--relation"
        )
    degree = np.maximum(np.asarray(edges.sum(1)).ravel(), 1.0)
    second = first @ diags(1.0 / degree) @ onward
    second = second - second.multiply(first[:, items:] > 0)  # what is a direct neighbour is counted there
    return hstack([_weighted(direct), SECOND * _weighted(second.tocsr())]).tocsr()


def _weighted(table: csr_matrix) -> csr_matrix:
    """Weigh columns by rarity, drop those of fewer than `LEAST_ITEMS` items, and make rows of length 1."""
    table.eliminate_zeros()
    reached = table.getnnz(0)
    kept = np.flatnonzero(reached >= LEAST_ITEMS)
    table = table[:, kept] @ diags(np.log((1 + table.shape[0]) / reached[kept]))
    length = np.sqrt(np.asarray(table.multiply(table).sum(1)).ravel())
    return diags(1.0 / np.where(length > 0, length, 1.0)) @ table


def spectral(triples: Triples, width: int) -> np.ndarray:
    """Compute an item's vector from its walks, (items, width) float32, zeros for an item without any shared neighbour.

    Raises:
        InputError: for a graph that is too small for `width` numbers.
    """
    table = reach(triples)
    table = table[:, np.flatnonzero(table.getnnz(0))]
    rank = min(int((table.getnnz(1) > 0).sum()), table.shape[1])
    if rank <= width:
        raise InputError(
            f"the graph gives {rank} independent columns at most, too few for {width} numbers a vector; "
            "give a smaller --width"
        )
    if max(table.shape) <= SMALL:
        left, values, _ = np.linalg.svd(table.toarray(), full_matrices=False)
        left, values = left[:, :width], values[:width]
    else:  # its restarts are random draws, too
        left, values, _ = svds(table.tocsc(), k=width, v0=np.ones(min(table.shape)), random_state=0)
    order = np.argsort(-values, kind="stable")
    vectors = left[:, order] * values[order]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(width)])  # the same on every machine
    vectors = (vectors * np.where(signs == 0, 1.0, signs)).astype(np.float32)
    vectors[table.getnnz(1) == 0] = 0.0
    return vectors
