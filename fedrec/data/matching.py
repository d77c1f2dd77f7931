"""Items of one catalogue in another: by public id, or by title and year.

Ids match where both catalogues number the same things alike. Where they do not, equal ids are other items, so titles
are compared as well: ids whose titles mostly differ are refused. A title and year of several items match nothing.
"""

import re
from typing import Literal

import numpy as np

from fedrec.data.catalogue import Catalogue, Numbers
from fedrec.errors import InputError

SAME_TITLES = 0.5
"""Least share of equal titles among items with equal ids."""
_ARTICLE = re.compile(r"^(.*), (the|a|an|le|la|les|il|el|der|die|das)$")

By = Literal["id", "title"]


def positions(items: Catalogue, others: Catalogue, by: By) -> np.ndarray:
    """Find each item in another catalogue.

    Args:
        items: the items to look up.
        others: the catalogue to look in.
        by: what must be equal.

    Returns:
        (items,) int64 positions in `others`, -1 where it has none.

    Raises:
        InputError: when nothing matches, when titles are missing, or when ids match and their titles differ.
    """
    ours, theirs = (_ids(items), _ids(others)) if by == "id" else (title_keys(items), title_keys(others))
    place = {key: position for position, key in enumerate(theirs) if key is not None}
    found = np.array([-1 if key is None else place.get(key, -1) for key in ours], dtype=np.int64)
    if (found < 0).all():
        raise InputError(f"no item matches by {by}; take {'title' if by == 'id' else 'id'}, or other data")
    if by == "id" and items.titles is not None and others.titles is not None:
        known = np.flatnonzero(found >= 0)
        equal = [_title(items.titles[item]) == _title(others.titles[found[item]]) for item in known]
        if np.mean(equal) < SAME_TITLES:
            item = int(known[int(np.argmin(equal))])
            raise InputError(
                f"item {items.ids[item]} is '{items.titles[item]}' here and '{others.titles[found[item]]}' there: the "
                "two catalogues number their items differently; match by title"
            )
    return found


def title_keys(catalogue: Catalogue) -> list[tuple[str, float] | None]:
    """Return each item's title, in lower case and without signs, with its year; None where it is not its own.

    Raises:
        InputError: for a catalogue without titles.
    """
    if catalogue.titles is None:
        raise InputError("a catalogue without titles matches by id alone")
    years = next((b.values for b in catalogue.blocks if isinstance(b, Numbers) and "year" in b.name), None)
    known = np.full(len(catalogue), np.nan) if years is None else years
    keys = [(_title(t), -1.0 if np.isnan(y) else float(y)) for t, y in zip(catalogue.titles, known, strict=True)]
    several = {key for key, count in _counts(keys).items() if count > 1}
    return [None if not key[0] or key in several else key for key in keys]


def _ids(catalogue: Catalogue) -> list[str | None]:
    return list(catalogue.ids)


def _title(text: str) -> str:
    plain = re.sub(r"\([^)]*\)", " ", text.lower()).strip()
    if found := _ARTICLE.match(plain):
        plain = f"{found[2]} {found[1]}"
    return " ".join(re.findall(r"[^\W_]+", plain))


def _counts(keys: list[tuple[str, float]]) -> dict[tuple[str, float], int]:
    found: dict[tuple[str, float], int] = {}
    for key in keys:
        found[key] = found.get(key, 0) + 1
    return found
