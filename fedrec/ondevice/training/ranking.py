"""One person's gradient of the ranking loss of `kernel-rank`, see `fedrec.algorithms.kernel_rank_weights`.

Features and gradient are computed in float64, where the torch form has float32.
"""

from dataclasses import dataclass

import numpy as np

from fedrec.algorithms.kernel_rank_plan import FEWEST, GRADIENT_CLIP
from fedrec.ondevice import draws
from fedrec.ondevice.exact import distinct_of
from fedrec.ondevice.feature_maps import DeviceMap
from fedrec.ondevice.history import History, State
from fedrec.ondevice.kernel import POPULARITY_FEATURES, KernelForm, gated_columns
from fedrec.ondevice.local_training import uniform_negatives
from fedrec.ondevice.training.base import Part
from fedrec.privacy.fixed_point import Lattice

POPULAR, STREAM = 0.5, 1  # as in `fedrec.kernels.negatives` and `fedrec.algorithms.kernel_rank_weights`
WEIGHING = 7  # stream of the draw that chooses who teaches the weights, as in the torch form
KNOWN = 1e-5  # spread of the logarithm of popularity; below is rounding


def weighs(key: int, part: float) -> bool:
    """Return whether a person teaches the weights, as `fedrec.algorithms.kernel_rank_weights.weighing_users`."""
    return part == 1 or float(draws.uniform(np.array([key], np.uint64), WEIGHING, 1)[0, 0]) < part


class DensePart(Part):
    """values (n,) float64, at the first entries of a sum."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def norm(self) -> float:
        return float(np.sqrt(np.square(self.values).sum()))

    def add_to(self, total: np.ndarray, weight: float, lattice: Lattice) -> None:
        total[: len(self.values)] += np.trunc(weight * self.values / lattice.step).astype(np.int64)


def feature_space(
    maps: dict[str, DeviceMap],
    popularity: np.ndarray,
    numbers: np.ndarray,
    decays: tuple[float, ...],
    sizes: np.ndarray | None,
) -> KernelForm:
    """Return what computes features, as `fedrec.kernels.space.centred_space`; its weights are zeros.

    Args:
        maps: kernels by name, in the order of the features.
        popularity: (items,) float32.
        numbers: standard scores, (items, n) float32.
        decays: of each kernel.
        sizes: of each kernel, for its gate, (kernels,) float32; None without gates.
    """
    exact = popularity.astype(np.float64)
    weights, log = exact / exact.sum(), np.log(exact)
    spread = float(log.std(ddof=1)) if len(log) > 1 else 0.0
    standard = (log - log.mean()) / spread if spread > KNOWN else np.zeros(len(log))
    tensors = {"log_popularity": standard.astype(np.float32), "numbers": numbers, "popularity": popularity}
    each = len(decays) + (0 if sizes is None else len(gated_columns(decays)))
    tensors |= {} if sizes is None else {"sizes": sizes}
    tensors["weights"] = np.zeros(POPULARITY_FEATURES + 2 * numbers.shape[1] + len(maps) * each, np.float32)
    return KernelForm(maps, {name: map_.mean(weights) for name, map_ in maps.items()}, decays, tensors, {})


@dataclass(frozen=True)
class Negatives:
    """The draws of `fedrec.kernels.negatives.mixed_negatives` for one person.

    Attributes:
        items: (count,) int64.
        likely: probability of each item under popularity, (items,).
        own: probability of the person's own events.
        outside: number of items outside of these.
    """

    items: np.ndarray
    likely: np.ndarray
    own: float
    outside: int

    @classmethod
    def draw(cls, history: History, popularity: np.ndarray, count: int) -> "Negatives":
        """Draw half uniformly and half by popularity, from outside the history."""
        items = len(popularity)
        mass = np.cumsum(popularity.astype(np.float64))
        likely, known = popularity.astype(np.float64) / mass[-1], distinct_of(history.items)
        drawn = uniform_negatives(history, items, count, STREAM)
        key = np.array([history.key], np.uint64)
        place = draws.uniform(key, STREAM + 1, (count + 1) // 2)[0] * mass[-1]
        popular = np.searchsorted(mass, place, side="right").clip(max=items - 1)
        drawn[::2] = np.where(np.isin(popular, known), drawn[::2], popular)
        return cls(drawn, likely, float(likely[known].sum()), items - len(known))

    def log_ratio(self, candidates: np.ndarray) -> np.ndarray:
        """The logarithm of how much likelier each candidate is drawn than under uniform draws."""
        popular = self.likely[candidates] * self.outside + self.own if self.outside else np.ones(len(candidates))
        found: np.ndarray = np.log(POPULAR * popular + (1 - POPULAR))
        return found


@dataclass(frozen=True)
class Weights:
    """The state of the weights.

    Attributes:
        parameters: (P,) float64.
        scales: of the features, (K,) float64.
        hidden: units of the network.
        typical: length by which gradients are divided instead of cut, where it is above 0.
    """

    parameters: np.ndarray
    scales: np.ndarray
    hidden: int
    typical: float

    def gradient(self, features: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the gradient of the softmax loss of one target, (P,).

        Args:
            features: scaled, of the target and its negatives, (1 + negatives, K).
            offsets: of their scores, (1 + negatives,).
        """
        many, hidden = len(self.scales), self.hidden
        weights, wide, bias, output = np.split(self.parameters, np.cumsum([many, many * hidden, hidden]))
        wide = wide.reshape(many, hidden)
        before = features @ wide + bias
        active = np.maximum(before, 0)
        scores = features @ weights + active @ output + offsets
        error = np.exp(scores - scores.max())
        error /= error.sum()
        error[0] -= 1
        back = error[:, None] * output * (before > 0)
        return np.concatenate([error @ features, (features.T @ back).ravel(), back.sum(0), error @ active])

    def clipped(self, gradient: np.ndarray) -> np.ndarray:
        """Return the gradient cut to norm `GRADIENT_CLIP`, as the torch form does before the clip of the sum."""
        if self.typical > 0:
            return gradient / self.typical
        return gradient / max(float(np.sqrt(np.square(gradient).sum())) / GRADIENT_CLIP, 1.0)


def gradient_part(
    space: KernelForm, weights: Weights, popularity: np.ndarray, history: History, targets: int, negatives: int
) -> DensePart:
    """Return a person's mean gradient over the newest `targets` events that are targets, each with its negatives."""
    total, found, items = np.zeros(len(weights.parameters)), 0, history.items
    if len(items) > FEWEST:
        drawn = Negatives.draw(history, popularity, targets * negatives)
        sums = space.start(history)
        for place, item in enumerate(items.tolist()):
            lag = len(items) - 1 - place
            if place >= FEWEST and lag < targets:
                candidates = np.concatenate([items[place : place + 1], drawn.items[lag * negatives :][:negatives]])
                state = State(History(items[:place]), sums)
                features = space.features(state, candidates) / weights.scales
                total += weights.gradient(features, -drawn.log_ratio(candidates))
                found += 1
            space.add(sums, item, None)
    return DensePart(weights.clipped(total / max(found, 1)))
