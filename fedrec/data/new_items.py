"""New items: those of a catalogue that training never had, and how positions before and after their arrival relate.

A new item enters a released model through its public features alone (`fedrec.model.ReleasedModel.with_new_items`).
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.errors import InputError


@dataclass(frozen=True)
class NewItems:
    """A catalogue that has grown since training.

    Attributes:
        catalogue: every item that may be ranked, with public features.
        trained: (n,) int64, ascending, the positions of the items that training had. All others are new.
    """

    catalogue: Catalogue
    trained: np.ndarray

    def __post_init__(self) -> None:
        if len(self.trained) and (np.diff(self.trained).min(initial=1) < 1 or self.trained[-1] >= len(self.catalogue)):
            raise InputError("new items: the positions of the trained items must ascend within the catalogue")

    @classmethod
    def of(cls, trained: tuple[str, ...], catalogue: Catalogue) -> "NewItems":
        """Find the items `trained` (ids in the model's order) in a larger catalogue.

        Raises:
            InputError: where one is missing, or their order differs.
        """
        place = {name: position for position, name in enumerate(catalogue.ids)}
        missing = [name for name in trained if name not in place]
        if missing:
            raise InputError(
                f"new items: the catalogue lacks item {missing[0]} of the model ({len(missing)} in all); give the "
                "items of the model and the new ones together"
            )
        found = np.array([place[name] for name in trained], dtype=np.int64)
        if np.diff(found).min(initial=1) < 1:
            raise InputError("new items: the model's items are in another order; give a catalogue sorted by id")
        return cls(catalogue, found)

    @cached_property
    def new(self) -> np.ndarray:
        """(items,) bool, True for a new item."""
        found = np.ones(len(self.catalogue), dtype=bool)
        found[self.trained] = False
        return found

    @cached_property
    def trained_catalogue(self) -> Catalogue:
        """The catalogue as training had it."""
        return self.catalogue.select(self.trained)

    def widened(self, values: Tensor, fill: Tensor | float) -> Tensor:
        """Place values (n, ...) of the trained items in the larger catalogue, (items, ...); new items get `fill`.

        Raises:
            InputError: for values of another number of items. A model with a place for a new item may have learned it.
        """
        if len(values) != len(self.trained):
            raise InputError(
                f"new items: the model holds {len(values)} items, and {len(self.trained)} were there in training; give "
                "the model of this split"
            )
        found = values.new_zeros(len(self.catalogue), *values.shape[1:])
        found[self._new] = fill.to(values) if isinstance(fill, Tensor) else fill
        found[self._trained] = values
        return found

    def at_median(self, values: Tensor) -> Tensor:
        """Place values (n,) in the larger catalogue, (items,); a new item gets the median: it is no item's favour."""
        return self.widened(values, values.median() if len(values) else 0.0)

    @property
    def _trained(self) -> Tensor:
        return torch.from_numpy(self.trained)

    @property
    def _new(self) -> Tensor:
        return torch.from_numpy(self.new)


def only(histories: Histories, items: np.ndarray) -> Histories:
    """Return the events of `items` (n,), ascending positions, as a log whose catalogue has no others."""
    there = np.zeros(histories.n_items, dtype=bool)
    there[items] = True
    kept = histories.keep(there[histories.items])
    known = kept.item_identities
    return replace(
        kept,
        items=np.searchsorted(items, kept.items).astype(np.int32),
        n_items=len(items),
        item_identities=np.arange(histories.n_items)[items] if known is None else known[items],
    )
