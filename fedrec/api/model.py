"""A released model as Python sees it: lists, likeness and reasons, with the items' own ids and titles."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from fedrec.algorithms.discover import load_model as read_model
from fedrec.algorithms.discover import model_items
from fedrec.api.data import Data, catalogue_of, item_positions
from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.data.new_items import NewItems, only
from fedrec.data.people import People
from fedrec.data.spellings import canonical_id
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.evaluation.exposure import content_rows
from fedrec.model import ReleasedModel
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.explanation import Explanation, explanation
from fedrec.ondevice.likeness import alike
from fedrec.recommend import ranking, reasons
from fedrec.recommend.device_form import device_form
from fedrec.recommend.device_lists import history_of


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
        ratings: Sequence[float] | None = None,
        attributes: Mapping[str, str | float] | None = None,
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
            ratings: of the history, one an item; a model of ratings needs them, and its scores are stars.
            attributes: private attributes of the person of `history`, for a model with a network for people.
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
        person = self._person(user, history, ratings, attributes)
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

    def explain(
        self, item: str | int, *, user: str | int | None = None, history: Sequence[str | int] | None = None
    ) -> Explanation:
        """Return what each own past item and each group of features adds to an item's score, against the average item.

        The shares sum to the score. They are computed by the form of the model that a device has, on the same numbers.

        Args:
            item: its id.
            user: an id of the run's log; the whole history of the log is used.
            history: ids of items instead, oldest first.

        Raises:
            InputError: one line, for an unknown user or item, a model of another package without a form for devices,
                and shares that miss the score.

        >>> import fedrec
        >>> data = fedrec.load_dataset("quickstart", users=100, items=40)
        >>> run = fedrec.simulate("popularity", data, epsilon="none", seed=1, progress=False)
        >>> run.model.explain(2, user=5).words
        'Because it is popular with everybody (100 %).'
        """
        place = self._positions([item], "explain")[0]
        person = self._person(user, history)
        own = history_of(person, 0)
        found = self._form.attribute(self._form.fit(own), place)
        titles = {self.items[each]: self.called(each) for each in [place, *own.items.tolist()]}
        return explanation(
            found, self.items[place], [self.items[each] for each in own.items.tolist()], titles.__getitem__
        )

    @cached_property
    def _form(self) -> DeviceModel:
        return device_form(self.released)

    def similar(
        self, item: str | int, k: int = 10, measure: str = "cosine", threshold: float | None = None
    ) -> pl.DataFrame:
        """The items that are most alike to one, by the model's own rows of items, or by the catalogue's features.

        Args:
            item: its id.
            k: how many at most.
            measure: "cosine", "pearson", or "euclid", which is 1 / (1 + distance).
            threshold: least likeness; None for none.

        Returns: `item`, `title` where titles are known, and `likeness`, largest first.

        Raises:
            InputError: for an unknown item or measure, or when nothing says how alike items are.
        """
        place = self._positions([item], "similar")[0]
        rows = self._rows()
        if rows is None:
            raise InputError(
                f"similar: '{self.algorithm}' holds no rows of items, and the catalogue no categories; use a model "
                "that learns items"
            )

        def known(items: np.ndarray) -> np.ndarray:
            found: np.ndarray = rows(torch.from_numpy(items)).detach().double().numpy()
            return found

        places, likeness = alike(known, len(self), place, k, measure, threshold)
        return pl.DataFrame(self._named(places.tolist()) | {"likeness": likeness.tolist()})

    def with_new_items(self, catalogue: Any) -> "Model":
        """This model over a larger catalogue: new items are placed by their public features, at no cost of privacy.

        Args:
            catalogue: the items of training and the new ones, with the features that training had: a file or a table.

        Returns: a model whose lists may hold new items. It has no users of a log: give `recommend` a history.

        Raises:
            InputError: for a model or a catalogue that leaves no place for a new item.

        >>> import fedrec
        >>> films = {"item_id": list(range(30)), "kind": [["odd" if i % 2 else "even"] for i in range(30)]}
        >>> events = [(user, item) for user in range(60) for item in range(user % 2, 30, 2) if (user + item) % 5]
        >>> data = fedrec.read_log({"user_id": [u for u, _ in events], "item_id": [i for _, i in events]}, films)
        >>> run = fedrec.simulate("content", data, epsilon="none", seed=1, progress=False)
        >>> more = {"item_id": list(range(32)), "kind": [["odd" if i % 2 else "even"] for i in range(32)]}
        >>> wider = run.model.with_new_items(more)
        >>> {int(item) % 2 for item in wider.recommend(history=["3", "7", "9"], k=13)["item"]}
        {1}
        >>> len(wider) - len(run.model)
        2
        """
        found = catalogue_of(catalogue)
        released = self.released.with_new_items(NewItems.of(self.items, found))
        return Model(released, found.ids, where=self.where)

    def save(self, folder: str | Path) -> Path:
        """Write the model to a new folder, from which `load_model` and devices read it. It holds nothing private.

        No ledger goes with it: the proof of the run's privacy stays in the run's own release.

        Args:
            folder: must not exist, or be empty.

        Raises:
            InputError: when something is in that folder already.
        """
        from fedrec.run.directory import RunDirectory, make_folder

        target = RunDirectory(Path(folder))
        target.check_free()
        make_folder(target.model)
        target.write_model(self.released, self.items)
        return target.model

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
            if self.data is None:
                return None
            catalogue = self.data.dataset.catalogue
            return catalogue if self._places is None else catalogue.select(self._places)
        except InputError as error:
            warnings.warn(f"lists have no titles: {error}", stacklevel=4)
            return None

    @cached_property
    def _places(self) -> np.ndarray | None:
        """Positions of the model's items among those of the data; None where both have the same."""
        if self.data is None or self.data.dataset.catalogue.ids == self.items:
            return None
        return NewItems.of(self.items, self.data.dataset.catalogue).trained

    def _person(
        self,
        user: str | int | None,
        history: Sequence[str | int] | None,
        ratings: Sequence[float] | None = None,
        attributes: Mapping[str, str | float] | None = None,
    ) -> UserBatch:
        if ratings is not None and len(ratings) != len(history or ()):
            raise InputError(
                f"recommend: {len(ratings)} ratings for {len(history or ())} items of the history; give one an item"
            )
        if (user is None) == (history is None):
            raise InputError("give one of user and history")
        if attributes is not None and history is None:
            raise InputError("recommend: attributes go with a history; those of a user are in the log's people")
        if user is not None:
            if self.data is None:
                raise InputError(
                    f"recommend: {self.where} is a model without its data, which hold the users; give a history, or "
                    "load it with data=..."
                )
            dataset = self.data.dataset
            histories = dataset.histories if self._places is None else only(dataset.histories, self._places)
            batch = histories.batch(np.array([self.data.position(user)]), self.data.seed)
            return batch if dataset.keep_order else batch.unordered()
        if isinstance(history, str):
            raise InputError("recommend: history is a list of ids of items, oldest first, e.g. history=['12', '7']")
        places = np.array(self._positions(history or (), "history"), dtype=np.int32)
        stars = None if ratings is None else np.array(ratings, dtype=np.float32)
        people = None if attributes is None else People.of([attributes])
        one = Histories(np.array([0, len(places)], dtype=np.int64), places, len(self), ratings=stars, people=people)
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
