"""The item tower: a network from an item to its vector. It is what users train together; nobody's history is in it.

A tower works item by item (no statistic over a batch), so a user's gradient is a function of that user's own items.
A new tower is one new file in this folder with a `name`, a `Config` and `encode`; it is found by its name.
"""

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

import fedrec.towers
from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError, nearest
from fedrec.settings import Settings


class TowerConfig(Settings):
    """Settings of every tower."""

    dim: int = Field(64, ge=1, le=1024)
    """Length of an item's vector."""
    max_norm: float = Field(3.0, gt=0)
    """Longer item vectors are scaled down to it, so that noise cannot build up over rounds."""


class ItemTower(nn.Module, ABC):
    """Item positions to vectors."""

    name: ClassVar[str]
    Config: ClassVar[type[TowerConfig]]
    tables: ClassVar[tuple[str, ...]] = ()
    """The parameters that have one row an item."""

    def __init__(self, config: Any, catalogue: Catalogue, seed: int) -> None:
        super().__init__()
        self.config = config
        self.items = len(catalogue)

    @abstractmethod
    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        """Vectors (..., d) of items (...), int64. rows: where each item's row lies in the `tables`."""

    def forward(self, items: Tensor, rows: Tensor | None = None) -> Tensor:
        """Vectors (..., d), none longer than `max_norm`. rows: as for `encode`; left out, tables hold every item."""
        vectors = self.encode(items, items if rows is None else rows)
        longest = self.config.max_norm
        squares = vectors.square().sum(-1, keepdim=True).clamp(min=longest**2)
        return vectors * (longest * squares.rsqrt())


def towers() -> dict[str, type[ItemTower]]:
    """Every tower by its name."""
    found: dict[str, type[ItemTower]] = {}
    for module in pkgutil.iter_modules(fedrec.towers.__path__):
        for member in vars(importlib.import_module(f"fedrec.towers.{module.name}")).values():
            if inspect.isclass(member) and issubclass(member, ItemTower) and not inspect.isabstract(member):
                found[member.name] = member
    return found


def tower(name: str) -> type[ItemTower]:
    """The tower called `name`. Raises: InputError that names the nearest."""
    known = towers()
    if name not in known:
        raise InputError(f"unknown tower '{name}'.{nearest(name, known)}")
    return known[name]
