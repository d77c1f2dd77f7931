"""Device forms of the sequence encoders `transformer` and `masked`: blocks of attention over the newest events."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Parameters = Mapping[str, np.ndarray]

_FLOOR = 1e-5  # under the variance of a layer norm, as in torch


def transformer(settings: Mapping[str, Any], own: Parameters, events: np.ndarray) -> np.ndarray:
    """`fedrec.sequences.transformer`: the prediction (d,) after the last of the events (n, d)."""
    causal = np.tril(np.ones((len(events), len(events)), bool))
    return _run(settings, own, events, causal)


def masked(settings: Mapping[str, Any], own: Parameters, events: np.ndarray) -> np.ndarray:
    """`fedrec.sequences.masked`: that of a hidden event behind the last one."""
    given = np.vstack([events, own["hidden"]])
    return _run(settings, own, given, np.ones((len(given), len(given)), bool))


def _run(settings: Mapping[str, Any], own: Parameters, events: np.ndarray, use: np.ndarray) -> np.ndarray:
    gain = settings.get("gain") or math.sqrt(events.shape[1])
    hidden = gain * events + own["positions"][: len(events)]
    for place in range(int(settings["blocks"])):
        start = f"blocks.{place}."
        block = {name.removeprefix(start): value for name, value in own.items() if name.startswith(start)}
        hidden = _block(int(settings["heads"]), block, hidden, use)
    return _normal(own, "after", hidden[-1:])[0]


def _block(heads: int, own: Parameters, given: np.ndarray, use: np.ndarray) -> np.ndarray:
    asked = _linear(own, "asked", _normal(own, "before", given))
    query, key, value = asked.reshape(len(given), 3, heads, -1).transpose(1, 2, 0, 3)  # (heads, n, d / heads)
    logits = np.where(use, query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[2]), -np.inf)
    weights = np.exp(logits - logits.max(2, keepdims=True))
    found = weights / weights.sum(2, keepdims=True) @ value
    middle = given + _linear(own, "mixed", found.transpose(1, 0, 2).reshape(given.shape))
    inner = np.maximum(_linear(own, "wide", _normal(own, "between", middle)), 0)
    result: np.ndarray = middle + _linear(own, "narrow", inner)
    return result


def _linear(own: Parameters, name: str, given: np.ndarray) -> np.ndarray:
    result: np.ndarray = given @ own[f"{name}.weight"].T + own[f"{name}.bias"]
    return result


def _normal(own: Parameters, name: str, given: np.ndarray) -> np.ndarray:
    centred = given - given.mean(1, keepdims=True)
    spread = np.sqrt((centred**2).mean(1, keepdims=True) + _FLOOR)
    result: np.ndarray = centred / spread * own[f"{name}.weight"] + own[f"{name}.bias"]
    return result
