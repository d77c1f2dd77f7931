"""The item tower: a network from an item to its vector. Users train it together, and it contains no user's history.

A tower works item by item (no statistic over a batch), so a user's gradient is a function of that user's own items.
A new tower is one new file in this folder with a `name`, a `Config` and `encode`. A tower of another package is an
entry point of the group `fedrec.towers`.
"""

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final, Literal

from pydantic import Field
from torch import Tensor, nn

import fedrec.towers
from fedrec import plugins
from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError
from fedrec.settings import Settings


class TowerConfig(Settings):
    """Settings of every tower."""

    dim: int = Field(64, ge=1, le=1024)
    """Length of an item's vector."""
    max_norm: float = Field(3.0, gt=0)
    """Longer item vectors are scaled down to it, so that noise cannot build up over rounds."""
    adapter: Literal["lora", "map"] | None = None
    """Train a low-rank correction alone, and freeze the start: `lora` of each weight matrix and table, `map` of the
    vectors (`fedrec.towers.adapters`)."""
    adapter_rank: int | None = Field(None, ge=1, le=1024)
    """Rank of the correction; left out, the largest that users x mu can pay for."""


class ItemTower(nn.Module, ABC):
    """Item positions to vectors."""

    name: ClassVar[str]
    Config: ClassVar[type[TowerConfig]]
    tables: ClassVar[tuple[str, ...]] = ()
    """The parameters that have one row an item."""
    table_scale: float = 1.0
    """Factor on the rows of `tables` in a vector."""
    corrected: ClassVar[bool] = False
    """Whether its vectors are linear maps of features plus scaled rows, which is what the adapter `lora` corrects."""

    def __init__(self, config: Any, catalogue: Catalogue, seed: int) -> None:
        super().__init__()
        self.config = config
        self.items = len(catalogue)

    @abstractmethod
    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        """Compute the vectors of items.

        Args:
            items: (...), int64, positions.
            rows: (...), int64, the place of each item's row in the `tables`.

        Returns:
            (..., d) vectors.
        """

    def begin(self, vectors: Tensor, known: Tensor) -> None:
        """Start at item vectors of another run, in place of the tower's own start.

        Args:
            vectors: (items, d), in the order of the catalogue.
            known: (items,) bool, which of them the other run has; the others keep the tower's own start.

        Raises:
            InputError: for a tower that cannot.
        """
        raise InputError(f"tower '{self.name}' cannot start from item vectors of another run; leave [start] out")

    def forward(self, items: Tensor, rows: Tensor | None = None) -> Tensor:
        """Compute vectors (..., d), none longer than `max_norm`.

        Args:
            items: (...), int64, positions.
            rows: as for `encode`; None where the tables have a row for every item.
        """
        vectors = self.encode(items, items if rows is None else rows)
        longest = self.config.max_norm
        squares = vectors.square().sum(-1, keepdim=True).clamp(min=longest**2)
        return vectors * (longest * squares.rsqrt())


GROUP: Final = "fedrec.towers"


def _built_in() -> dict[str, type[ItemTower]]:
    found: dict[str, type[ItemTower]] = {}
    for module in pkgutil.iter_modules(fedrec.towers.__path__):
        for member in vars(importlib.import_module(f"fedrec.towers.{module.name}")).values():
            concrete = inspect.isclass(member) and issubclass(member, ItemTower) and not inspect.isabstract(member)
            if concrete and hasattr(member, "name"):  # a tower around another one has none
                found[member.name] = member
    return found


def _unusable(found: Any, name: str) -> str | None:
    if not (inspect.isclass(found) and issubclass(found, ItemTower)) or inspect.isabstract(found):
        return "is no concrete subclass of fedrec.towers.base.ItemTower"
    if getattr(found, "name", None) != name:
        return f"its class is named {getattr(found, 'name', None)!r}; entry point and class must have the same name"
    config = getattr(found, "Config", None)
    return None if inspect.isclass(config) and issubclass(config, TowerConfig) else "its Config is no TowerConfig"


def towers() -> dict[str, type[ItemTower]]:
    """Return every usable tower by its name, those of other packages included."""
    return plugins.every(GROUP, _built_in(), _unusable)


def tower(name: str) -> type[ItemTower]:
    """Return the tower called `name`, built in or installed.

    Raises:
        InputError: for an unknown tower; the line names the nearest one.
        PluginRefused: when this process does not allow it.
    """
    return plugins.discover(GROUP, name, _built_in(), _unusable)
