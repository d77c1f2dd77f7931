"""Private attributes of the person under a model with a network for people, with numpy; see `fedrec.towers.people`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedrec.ondevice.source import Source


class AttributeNetwork:
    """From the person's attributes to a shift of the user's vector.

    Args:
        config: of the model's manifest: attributes with their public values, layers, events.
        hidden: weight (out, in) and bias (out,) of each hidden layer, float32.
        last: (d, in) weight of the last layer, float32.
    """

    def __init__(
        self, config: Mapping[str, Any], hidden: list[tuple[np.ndarray, np.ndarray]], last: np.ndarray
    ) -> None:
        self._attributes = dict(sorted(config["attributes"].items()))
        self._events = float(config["events"])
        self._hidden = [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in hidden]
        self._last = last.astype(np.float64)
        nobody = np.array([value for name in self._attributes for value in self._columns(name, "")])
        self._nobody = self._through(nobody)

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "AttributeNetwork | None":
        """Open the network of a model; None for a model without one."""
        config = settings.get("people")
        if config is None:
            return None
        *hidden, last = (f"people.layers.{2 * place}" for place in range(len(config["layers"]) + 1))
        pairs = [(source.read(f"{name}.weight"), source.read(f"{name}.bias")) for name in hidden]
        return cls(config, pairs, source.read(f"{last}.weight"))

    def shift(self, attributes: Mapping[str, str], weight: float) -> np.ndarray:
        """Return the shift (d,) of the vector of a person whose history weighs `weight`."""
        values = [value for name in self._attributes for value in self._columns(name, attributes.get(name, ""))]
        shift = self._through(np.array(values)) - self._nobody
        return np.asarray(shift * (self._events / (self._events + weight)))

    def _through(self, found: np.ndarray) -> np.ndarray:
        """Return the answer (d,) of the layers to columns (width,)."""
        for matrix, bias in self._hidden:
            found = np.maximum(matrix @ found + bias, 0)
        return np.asarray(self._last @ found)

    def _columns(self, name: str, value: str) -> list[float]:
        about = self._attributes[name]
        if about["values"] is not None:
            return [float(value == each) for each in about["values"]]
        number = _number(value)
        if about["limits"] is not None:
            group = -1 if math.isnan(number) else int(np.searchsorted(about["limits"], number, side="right"))
            return [float(place == group) for place in range(len(about["limits"]) + 1)]
        if math.isnan(number):
            return [0.0, 0.0]
        low, high = float(about["low"]), float(about["high"])
        return [1.0, 2 * (min(max(number, low), high) - low) / (high - low) - 1]


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
