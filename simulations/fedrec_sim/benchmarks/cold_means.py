"""Means over seeds of the figures of cold start, for its table and its picture."""

from collections.abc import Sequence
from typing import Any


def means(results: Sequence[dict[str, Any]], keys: Sequence[str]) -> dict[tuple[Any, ...], dict[str, float | None]]:
    """Average the figures of all seeds, by the values of `keys`; None where a model has no answer."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(tuple(result[key] for key in keys), []).append(result)
    found = {}
    for place, group in groups.items():
        row: dict[str, float | None] = {}
        for protocol in ("new", "full"):
            for metric in ("hr@10", "ndcg@10"):
                values = [result[protocol][metric] for result in group if result.get(protocol)]
                row[f"{protocol} {metric}"] = sum(values) / len(values) if values else None
        found[place] = row
    return found
