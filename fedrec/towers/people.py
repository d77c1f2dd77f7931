"""A tower for people: from private attributes to a shift of the user's vector. Attributes stay on the device.

A user's vector is the one that is solved from the history, plus shrink * network(attributes), with
shrink = events / (events + weight of the history). So a person without events is ranked by attributes and popularity
alone, and attributes fade as events come. The network is shared: users train it with the item tower, in one
contribution with one clip. It starts at zero, where attributes change nothing, and they never change anything for
somebody of whom nothing is known.

The values that count are public and named by the run. Anything else that a user has, and everything unknown, is zeros.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from fedrec import draws
from fedrec.data.people import People, number_text
from fedrec.settings import Settings
from fedrec.towers.base import ItemTower

MOST_VALUES = 4096


def _as_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


class AttributeConfig(Settings):
    """The public values of one attribute: one of three forms."""

    values: tuple[str, ...] | None = None
    """Labels that count, e.g. F and M; a number is written without a fraction."""
    limits: tuple[float, ...] | None = None
    """Of a number, ascending: the first number of each group but the lowest, e.g. 18, 25, 35."""
    low: float | None = None
    """Of a number, with `high`: it counts as it is, clipped to this range."""
    high: float | None = None
    """The end of the range."""

    @model_validator(mode="after")
    def _one_form(self) -> "AttributeConfig":
        ranged = self.low is not None or self.high is not None
        if (self.values is not None) + (self.limits is not None) + ranged != 1:
            raise ValueError("give one of values, limits, or low and high")
        if ranged and (self.low is None or self.high is None or not self.low < self.high):
            raise ValueError("give low and high, the lower one first")
        many = self.values if self.values is not None else self.limits
        if many is not None and (not 1 <= len(many) <= MOST_VALUES or len(set(many)) < len(many)):
            raise ValueError(f"give 1 to {MOST_VALUES} different values")
        if self.limits is not None and list(self.limits) != sorted(self.limits):
            raise ValueError("limits must ascend")
        return self

    @property
    def width(self) -> int:
        """Columns of the attribute."""
        return len(self.columns(""))

    def columns(self, value: str) -> list[float]:
        """Code one user's value, text or a number as text; all zeros where it is none of the public ones."""
        if self.values is not None:
            return [float(value == each) for each in self.values]
        number = _as_number(value)
        if self.limits is not None:
            group = -1 if math.isnan(number) else bisect_right(self.limits, number)
            return [float(place == group) for place in range(len(self.limits) + 1)]
        if self.low is None or self.high is None or math.isnan(number):
            return [0.0, 0.0]
        return [1.0, 2 * (min(max(number, self.low), self.high) - self.low) / (self.high - self.low) - 1]


class PeopleConfig(Settings):
    """The table `[algorithm.people]`: how private attributes of users count."""

    attributes: dict[str, AttributeConfig] = Field(min_length=1, max_length=100)
    """Attribute -> its public values: `values` (labels), `limits` (groups of a number), or `low` and `high`."""
    layers: tuple[int, ...] = ()
    """Units of hidden layers, the first one first; none for a linear map."""
    events: float = Field(10.0, gt=0)
    """Events of a history at which attributes count half of what they do without any."""
    cold: float = Field(0.5, ge=0, lt=1)
    """Part of the users, drawn anew each round, who train as if their history were empty."""

    @field_validator("attributes", mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """A list of labels stands for `values`. The order is that of the names, as in every file and message."""
        if not isinstance(given, Mapping):
            return given
        named = sorted(given.items(), key=lambda each: str(each[0]))
        return {name: {"values": value} if isinstance(value, list | tuple) else value for name, value in named}

    @field_validator("layers")
    @classmethod
    def _have_units(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= units <= 1024 for units in value):
            raise ValueError("layers are numbers of units, each from 1 to 1024")
        return value

    @property
    def width(self) -> int:
        """Columns of all attributes together."""
        return sum(each.width for each in self.attributes.values())


def columns(people: People | None, config: PeopleConfig, users: int, device: torch.device) -> Tensor:
    """Code attributes as columns, (users, width) float64; rows of zeros for users of whom nothing is known."""
    parts = []
    for name, attribute in config.attributes.items():
        part = torch.zeros(users, attribute.width, dtype=torch.float64, device=device)
        if people is not None and name in people.names:
            place = people.names.index(name)
            _fill(part, people.values[:, place], people.labels[place], attribute)
        parts.append(part)
    return torch.cat(parts, 1)


def _fill(part: Tensor, values: Tensor, labels: tuple[str, ...], attribute: AttributeConfig) -> None:
    """Write the columns of one attribute into `part` (users, width); values: (users,), of `People`."""
    known = (~values.isnan()).nonzero()[:, 0]
    distinct, which = values[known].unique(return_inverse=True)
    texts = [labels[int(value)] if labels else number_text(value) for value in distinct.tolist()]
    coded = torch.tensor([attribute.columns(text) for text in texts], dtype=part.dtype, device=part.device)
    if len(texts):
        part[known] = coded[which]


class PeopleNetwork(nn.Module):
    """From columns of attributes (..., width) to a shift (..., d): layers(columns) - layers(0).

    So somebody of whom nothing is known has no shift.
    """

    def __init__(self, layers: tuple[int, ...], width: int, dim: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for units in layers:
            parts += [nn.Linear(width, units, device="cpu"), nn.ReLU()]
            width = units
        self.layers = nn.Sequential(*parts, nn.Linear(width, dim, bias=False, device="cpu"))

    @classmethod
    def start(cls, config: PeopleConfig, dim: int, seed: int) -> "PeopleNetwork":
        """Make the network whose shift is zero for everybody.

        Args:
            config: widths.
            dim: numbers of a user's vector.
            seed: of the hidden layers.
        """
        made = cls(config.layers, config.width, dim)
        *hidden, last = (layer for layer in made.layers if isinstance(layer, nn.Linear))
        keys = draws.keys(seed ^ 0x50, torch.arange(len(hidden), device="cpu"))
        for place, layer in enumerate(hidden):
            drawn = draws.normal(keys[[place]], 0, layer.weight.numel()).view(layer.weight.shape)
            # About one column of each attribute is 1; the units of a later layer all count.
            layer.weight.data = drawn * math.sqrt(2 / (layer.in_features if place else len(config.attributes)))
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(last.weight)
        return made

    def forward(self, people: Tensor) -> Tensor:
        shift: Tensor = self.layers(people) - self.layers(torch.zeros_like(people))
        return shift


class TowerWithPeople(nn.Module):
    """An item tower and a network for people, as one set of parameters with one clip."""

    def __init__(self, items: ItemTower, people: PeopleNetwork) -> None:
        super().__init__()
        self.item_tower, self.people = items, people
        self.items = items.items
        self.tables = tuple(f"item_tower.{name}" for name in items.tables)

    def forward(self, items: Tensor, rows: Tensor | None = None, people: Tensor | None = None) -> Any:
        """Return item vectors (..., d), and with columns of attributes (width,) the shift (d,) of their user, too."""
        vectors = self.item_tower(items, rows)
        return vectors if people is None else (vectors, self.people(people))
