"""Device forms of the sequence encoders, and of `sequence`: what the newest events say about the next one.

Each computes the prediction after a person's last event in float64, as `fedrec.sequences` does for every event of a
batch; see the modules there for what is computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from fedrec.errors import InputError, nearest
from fedrec.ondevice.attribution import POPULARITY, TASTE, Attribution, spaced
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.factors import FactorModel
from fedrec.ondevice.history import History, State
from fedrec.ondevice.item_table import ItemTable
from fedrec.ondevice.source import Source
from fedrec.ondevice.transformers import masked, transformer

Parameters = Mapping[str, np.ndarray]
Predict = Callable[[Mapping[str, Any], Parameters, np.ndarray], np.ndarray]
"""(settings, parameters, events (n, d), n > 0) to the prediction after the last event, (d,); also complex."""

INTEGRAL = 1e-4
"""Largest gap between integrated gradients and the score, relative to the sizes of both."""
LINEAR = ("state-space", "convolution")
"""Encoders that are linear in the events."""


def state_space(settings: Mapping[str, Any], own: Parameters, events: np.ndarray) -> np.ndarray:
    """`fedrec.sequences.state_space`."""
    found = np.zeros(events.shape[1], events.dtype)
    for decay, mixing in zip(settings["decays"], own["mixing"], strict=True):
        powers = (np.float64(decay) ** np.arange(len(events))).astype(np.float32)  # rounded as the torch form's
        total = powers.astype(np.float64).sum().astype(np.float32)
        found += powers[::-1].astype(np.float64) @ events / np.float64(total) @ mixing
    return found


def attention(settings: Mapping[str, Any], own: Parameters, events: np.ndarray) -> np.ndarray:
    """`fedrec.sequences.attention`."""
    lags = np.arange(len(events))[::-1]
    logits = events @ own["key"] @ (events[-1] @ own["query"]) / np.sqrt(events.shape[1])
    logits += own["bias"][np.minimum(lags, int(settings["lags"]) - 1)]
    weights = np.exp(logits - logits.max())
    found: np.ndarray = weights / weights.sum() @ (events @ own["value"]) @ own["out"]
    return found


def gru(_settings: Mapping[str, Any], own: Parameters, events: np.ndarray) -> np.ndarray:
    """`fedrec.sequences.gru`."""
    state = np.zeros(events.shape[1])
    for given in events @ own["of_input"] + own["bias"]:
        update, reset, candidate = np.split(given, 3)
        old_update, old_reset, old = np.split(state @ own["of_state"], 3)
        gate = _sigmoid(update + old_update)
        state = (1 - gate) * state + gate * np.tanh(candidate + _sigmoid(reset + old_reset) * old)
    return state


def convolution(settings: Mapping[str, Any], own: Parameters, events: np.ndarray) -> np.ndarray:
    """`fedrec.sequences.convolution`."""
    newest = events[::-1][: int(settings["width"])]
    found: np.ndarray = (newest * own["filters"][: len(newest)]).sum(0) @ own["mixing"]
    return found


ENCODERS: dict[str, Predict] = {
    "state-space": state_space,
    "attention": attention,
    "gru": gru,
    "convolution": convolution,
    "transformer": transformer,
    "masked": masked,
}
"""Name of an encoder -> its form on a device."""


class NewestEvents(DeviceModel):
    """A state is the newest events, encoded anew after each event; no order: their mean counts as one event."""

    table: ItemTable

    def __init__(self, table: ItemTable, own: Parameters, settings: Mapping[str, Any]) -> None:
        """own: parameters of the encoder, by their names. settings: of the manifest."""
        self.table, self.n_items = table, table.items
        self.length, self.scale = int(settings["length"]), float(settings["scale"])
        self.own = {name: value.astype(np.float64) for name, value in own.items()}
        self.settings = settings["encoder"]
        name = str(self.settings["name"])
        if name not in ENCODERS:
            raise InputError(f"encoder '{name}': has no form for devices; use a newer fedrec.{nearest(name, ENCODERS)}")
        self.encode = ENCODERS[name]

    def start(self, history: History) -> dict[str, np.ndarray]:
        return {"window": np.zeros(0, np.int64)}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        sums["window"] = np.append(sums["window"], np.int64(item))[-self.length :]

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        window = sums["window"]
        if not len(window):
            return {"vector": np.zeros(self.table.dim)}
        return {"vector": self.encode(self.settings, self.own, self._inputs(window, history))}

    def vector(self, state: State) -> np.ndarray:
        """The prediction after the newest event, times the scale, (d,) float64."""
        found: np.ndarray = self.scale * state.sums["vector"]
        return found

    def item_rows(self, items: np.ndarray) -> np.ndarray | None:
        return self.table.rows(items)

    def ways(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """What is encoded (n, d), and how each event of the window moves it (events, n, d); these sum to it."""
        window, history = state.sums["window"], state.history
        inputs, rows = self._inputs(window, history), self.table.rows(window)
        moves = np.zeros((len(rows), *inputs.shape))
        if history.ordered:
            moves[np.arange(len(rows)), np.arange(len(rows))] = rows
        else:
            moves[:, 0] = rows.astype(np.float64) / max(1, len(rows))
        return inputs, moves

    def _inputs(self, window: np.ndarray, history: History) -> np.ndarray:
        events = self.table.rows(window).astype(np.float64)
        return events if history.ordered else events.mean(0, keepdims=True)


class SequenceForm(NewestEvents, FactorModel):
    """`sequence`: the score is a product of the prediction with the item's vector, plus the popularity."""

    kind: ClassVar[str] = "sequence"
    tables = {"items": False}
    bias: np.ndarray

    def __init__(self, table: ItemTable, bias: np.ndarray, own: Parameters, settings: Mapping[str, Any]) -> None:
        """bias: (items,) float32; the others as of `NewestEvents`."""
        super().__init__(table, own, settings)
        self.bias = bias

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "SequenceForm":
        return cls(source.table("items"), source.read("bias"), source.file.read_below("encoder."), settings)

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        return self.table.products(self.vector(state), items) + self.bias[items]

    # ---- reasons

    def shares(self, state: State, item: int) -> Attribution:
        """Exact for linear encoders; else integrated gradients on the way from events without content to the events.

        What the encoder says without any content is no event's share.
        """
        found = super().shares(state, item)
        if self.settings["name"] in LINEAR or not len(state.sums["window"]):
            return found
        rows = self.table.rows(np.array([item]))[0] - self.table.rows(spaced(self.n_items)).astype(np.float64).mean(0)
        nothing = self.encode(self.settings, self.own, np.zeros_like(self.ways(state)[0]))
        alone = found.rest.get(POPULARITY, 0.0) + self.scale * float(nothing @ rows)
        passing = float(found.events[TASTE].sum())
        return replace(found, rest={POPULARITY: alone}, attributed=passing, tolerance=INTEGRAL)

    def _pulls(self, state: State, way: np.ndarray) -> np.ndarray:
        inputs, moves = self.ways(state)
        found = np.zeros(len(state.history))
        if not len(moves):
            return found

        def along(events: np.ndarray) -> np.ndarray:
            return np.asarray(self.encode(self.settings, self.own, events) @ way)

        found[-len(moves) :] = self.scale * integrated_gradients(along, inputs, moves)
        return found


def integrated_gradients(
    value: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, moves: np.ndarray
) -> np.ndarray:
    """Return what each move adds to a smooth function on the straight way from 0 to `inputs` (Sundararajan 2017).

    Slopes are exact: an imaginary step of 1e-30 (Squire and Trapp 1998) leaves no cancellation. The integral takes 1 to
    128 nodes (Gauss and Legendre), until the sum is complete.

    Args:
        value: from inputs (n, d), also complex, to a number.
        inputs: (n, d) float64.
        moves: (m, n, d) float64, whose sum is `inputs`.

    Returns:
        (m,) float64; `Attribution.checked` refuses a sum that is not complete.
    """

    def slopes(events: np.ndarray) -> np.ndarray:
        return np.array([float(np.imag(value(events + 1e-30j * move))) * 1e30 for move in moves])

    return integrated(slopes, inputs, float(value(inputs)) - float(value(np.zeros_like(inputs))))


def integrated(
    slopes: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, whole: float, gap: float = INTEGRAL / 10
) -> np.ndarray:
    """Return the integral of slopes on the straight way from 0 to `inputs`, until its sum is `whole`.

    Args:
        slopes: from a point of the way to the slope along each move, (m,).
        inputs: the end of the way.
        whole: the sum that is complete.
        gap: of the sum, relative to the sizes of both, at which it counts as complete.
    """
    for nodes in (1, 8, 32, 128):
        places, weights = np.polynomial.legendre.leggauss(nodes)
        parts = zip((places + 1) / 2, weights / 2, strict=True)
        found: np.ndarray = np.stack([weight * slopes(place * inputs) for place, weight in parts]).sum(0)
        if abs(found.sum() - whole) <= gap * max(np.abs(found).sum(), abs(whole)):
            break
    return found


def _sigmoid(value: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-value))
    return found
