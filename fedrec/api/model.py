"""A released model as Python sees it: lists, likeness and reasons, with the items' own ids and titles."""

import json
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from fedrec.algorithms.discover import load_model as read_model
from fedrec.algorithms.discover import model_items
from fedrec.api.data import Data, item_positions
from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.data.spellings import canonical_id
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.evaluation.exposure import content_rows
from fedrec.model import ReleasedModel
from fedrec.recommend import ranking, reasons

ROWS_AT_ONCE = 8192
"""Items whose rows are held at a time."""


class Model:
    """A released model with the ids of its items.

    Args:
        released: the model itself; `fit`, `score` and `fold_in` work on positions.
        items: ids of the items, in catalogue order.
        data: gives the data that hold users and titles, None where there are none. Called when they are first needed.
    """

    def __init__(
        self,
        released: ReleasedModel,
        items: Sequence[str],
        data: Callable[[], Data] | None = None,
        where: str = "model",
    ) -> None:
        self.released, self.items, self.where = released, tuple(items), where
        self._data = data

    @property
    def algorithm(self) -> str:
        """The algorithm that released it."""
        return self.released.called

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Model({self.algorithm}, {len(self):,} items)"

    def recommend(
        self,
        *,
        user: str | int | None = None,
        history: Sequence[str | int] | None = None,
        k: int = 10,
        exclude: Sequence[str | int] = (),
        diversity: float = 0.0,
        seen: bool = False,
        why: bool = False,
    ) -> pl.DataFrame:
        """Rank the items for one person. The list is private to that person: nothing is sent or written.

        Args:
            user: an id of the run's log; the whole history of the log is used.
            history: ids of items instead, oldest first. Empty: the list of a newcomer.
            k: most places of the list.
            exclude: ids of items that are left out.
            diversity: 0 for the best scores, towards 1 for items that are unlike each other.
            seen: items of the history may be on the list.
            why: add the groups of features that carried a score, and the past items that it rests on.

        Returns: `item`, `title` where titles are known, `score`, and with `why` also `carried_by` and `because_of`.

        Raises:
            InputError: one line, for an unknown user or item, or a value out of range.

        >>> import fedrec
        >>> data = fedrec.load_dataset("quickstart", users=100, items=40)
        >>> run = fedrec.simulate("popularity", data, epsilon=4, seed=1, progress=False)
        >>> run.model.recommend(user=5, k=3).columns
        ['item', 'title', 'score']
        """
        person = self._person(user, history)
        left_out = torch.tensor(self._positions(exclude, "exclude"), dtype=torch.int64)
        rows = self._rows() if diversity else None
        found, scores = ranking.best(
            self.released, person, k, seen=seen, exclude=left_out, diversity=diversity, rows=rows
        )
        columns: dict[str, Any] = self._named(found.tolist()) | {"score": scores.tolist()}
        if why:
            carried = reasons.groups(self.released, person, found)
            columns["carried_by"] = pl.Series(
                [[name for name, _ in each] for each in carried], dtype=pl.List(pl.String)
            )
            past = reasons.past(self.released, person, found)
            columns["because_of"] = pl.Series(
                [[self.called(place) for place, _ in each] for each in past], dtype=pl.List(pl.String)
            )
        return pl.DataFrame(columns)

    def similar(self, item: str | int, k: int = 10) -> pl.DataFrame:
        """The items that are most alike to one, by the model's own rows of items, or by the catalogue's features.

        Args:
            item: its id.
            k: how many.

        Returns: `item`, `title` where titles are known, and `likeness`, a cosine.

        Raises:
            InputError: for an unknown item, or when nothing says how alike items are.
        """
        place = self._positions([item], "similar")[0]
        rows = self._rows()
        if rows is None:
            raise InputError(
                f"similar: '{self.algorithm}' holds no rows of items, and the catalogue no categories; use a model "
                "that learns items"
            )
        own = rows(torch.tensor([place]))
        parts = [torch.cosine_similarity(rows(some), own) for some in torch.arange(len(self)).split(ROWS_AT_ONCE)]
        likeness = torch.cat(parts)
        likeness[place] = -torch.inf
        best = likeness.topk(min(max(k, 0), len(self) - 1))
        return pl.DataFrame(self._named(best.indices.tolist()) | {"likeness": best.values.tolist()})

    def called(self, place: int) -> str:
        """The title of the item at a position, or its id where no title is known."""
        catalogue = self._catalogue
        return self.items[place] if catalogue is None else catalogue.title(place)

    @cached_property
    def data(self) -> Data | None:
        """The run's data; None for a model without them.

        Raises:
            InputError: when they are gone or others.
        """
        return None if self._data is None else self._data()

    @cached_property
    def _catalogue(self) -> Catalogue | None:
        try:
            return None if self.data is None else self.data.dataset.catalogue
        except InputError as error:
            warnings.warn(f"lists have no titles: {error}", stacklevel=4)
            return None

    def _person(self, user: str | int | None, history: Sequence[str | int] | None) -> UserBatch:
        if (user is None) == (history is None):
            raise InputError("recommend: give one of user and history")
        if user is not None:
            if self.data is None:
                raise InputError(
                    f"recommend: {self.where} is a model without its data, which hold the users; give a history, or "
                    "load it with data=..."
                )
            dataset = self.data.dataset
            batch = dataset.histories.batch(np.array([self.data.position(user)]), self.data.seed)
            return batch if dataset.keep_order else batch.unordered()
        if isinstance(history, str):
            raise InputError("recommend: history is a list of ids of items, oldest first, e.g. history=['12', '7']")
        places = np.array(self._positions(history or (), "history"), dtype=np.int32)
        one = Histories(np.array([0, len(places)], dtype=np.int64), places, len(self))
        return one.batch(np.array([0]), 0)

    def _positions(self, items: Sequence[str | int], what: str) -> list[int]:
        return item_positions(self.items, [canonical_id(item) for item in items], what)

    def _named(self, places: list[int]) -> dict[str, Any]:
        catalogue = self._catalogue
        titles = catalogue is not None and catalogue.titles is not None
        items = pl.Series([self.items[place] for place in places], dtype=pl.String)
        return {"item": items} | ({"title": [self.called(place) for place in places]} if titles else {})

    def _rows(self) -> ranking.Rows | None:
        if self.released.item_rows(torch.zeros(1, dtype=torch.int64)) is not None:
            return self._own_rows
        features = None if self._catalogue is None else content_rows(self._catalogue)
        return None if features is None else features.__getitem__

    def _own_rows(self, items: torch.Tensor) -> torch.Tensor:
        rows = self.released.item_rows(items)
        assert rows is not None
        return rows


def load_model(folder: str | Path, data: Data | None = None) -> Model:
    """Load the released model of a run; no private data are needed.

    Args:
        folder: a run, its `release/`, or the model's own folder.
        data: the data of the run, which hold titles and users; left out, lists have ids alone.

    Raises:
        InputError: when there is no model, or its items are not those of `data`.

    >>> import fedrec
    >>> data = fedrec.load_dataset("quickstart", users=100, items=40)
    >>> run = fedrec.simulate("popularity", data, seed=1, progress=False)
    >>> fedrec.load_model(run.folder).recommend(history=["3", "7"], k=2).columns
    ['item', 'score']
    """
    from fedrec.audit.evidence.layout import Layout

    place = Path(folder)
    if not (place / "manifest.json").is_file():
        place = Layout.of(place).release / "model"
    items = None if data is None else data.dataset.catalogue.ids
    released = read_model(place, items)
    manifest = json.loads((place / "manifest.json").read_bytes())
    if "items" not in manifest and data is None:
        raise InputError(f"{folder}: a model of an older version names no items; give data=...")
    ids = model_items(place) if "items" in manifest else list(items or ())
    return Model(released, ids, None if data is None else lambda: data, where=str(folder))
