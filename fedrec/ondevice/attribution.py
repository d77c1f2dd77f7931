"""Shares of one score: what each own event adds through each group of features, relative to the average item.

The average item has the mean features of `AVERAGED` items, evenly spaced in the catalogue. The person is the same for
both, so what raises every item alike is no reason. The shares sum to the score less that of the average item:

| model | how a score is split |
|---|---|
| `kernel-rank`, `content`, `spectral`, `popularity` | exactly: a sum into its terms |
| `als`, `fcf`, `tower-sgd` | exactly: the vector is a matrix times a sum over events (Hu et al. 2008, section 5) |
| `fedrecon`, `pfedrec` and their kin | exactly: the vector is a sum over the examples of the gradient steps |
| `sequence`, linear encoders | exactly: the prediction is a sum over events |
| `sequence`, attention and GRU | integrated gradients in steps, complete to `fedrec.ondevice.sequences.INTEGRAL` |
| `sequence`, objective `generative` | integrated gradients of a log-probability, complete to `generative.COMPLETE` |
| `sequence-residual` | the shares of its two parts, added |
| hidden units: `kernel-rank` with a network, `fedncf` | integrated gradients (Sundararajan et al. 2017), closed form |

A unit `relu(z)` along the straight way from `a` to `z` has the mean slope (relu(z) - relu(a)) / (z - a), so integrated
gradients through one layer of units need no steps, and their sum is complete up to rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedrec.errors import InputError

AVERAGED = 256
"""Items whose mean features are those of the average item."""
ROUNDING = 1e-9
"""Largest gap between shares and score, relative to the sizes of both, where the shares have a closed form."""
POPULARITY, NOT_CHOSEN, OWN_COPY, TASTE = "popularity", "not chosen", "own copy", "taste"
ATTRIBUTES = "attributes"
"""Groups that are no features of a catalogue: what holds for everybody; items that a device takes as negatives; a
device's own copy of an item's row; the vectors of items that a model learned from people; the person's attributes."""


@dataclass(frozen=True)
class Attribution:
    """The shares of one item's score.

    Attributes:
        score: of the item, float64.
        baseline: score of the average item for this person.
        events: group -> (n,) float64, the share of each event of the history, oldest first.
        rest: group -> the share that belongs to no event.
        attributed: the part of the shares that passes hidden units. Integrated gradients split it; the other part is
            split exactly. 0 for a model without hidden units.
        tolerance: largest gap that the method leaves, relative to the sizes of shares and scores.
    """

    score: float
    baseline: float
    events: Mapping[str, np.ndarray] = field(default_factory=dict)
    rest: Mapping[str, float] = field(default_factory=dict)
    attributed: float = 0.0
    tolerance: float = ROUNDING

    @property
    def total(self) -> float:
        """The sum of all shares."""
        return float(sum(float(part.sum()) for part in self.events.values()) + sum(self.rest.values()))

    @property
    def gap(self) -> float:
        """How far the shares are from score less baseline, relative to the sizes of all of them."""
        size = sum(float(np.abs(part).sum()) for part in self.events.values()) + sum(map(abs, self.rest.values()))
        return abs(self.total - (self.score - self.baseline)) / max(size, abs(self.score), abs(self.baseline), 1e-300)

    def checked(self, called: str) -> "Attribution":
        """Return these shares where they sum to the score.

        Args:
            called: the model's name.

        Raises:
            InputError: where they do not: no explanation is better than a wrong one.
        """
        if not self.gap <= self.tolerance:
            raise InputError(
                f"explain: the shares of '{called}' miss the score by {self.gap:.1e} of its size, more than "
                f"{self.tolerance:.0e}; this list has no exact reasons"
            )
        return self


def spaced(n_items: int) -> np.ndarray:
    """The items whose mean is the average item, (m,) int64."""
    return np.linspace(0, n_items - 1, min(n_items, AVERAGED)).astype(np.int64)


def popular(popularity: np.ndarray, item: int) -> Attribution:
    """The shares of a score that is the popularity (items,) of the item."""
    score, usual = float(popularity[item]), float(popularity[spaced(len(popularity))].astype(np.float64).mean())
    return Attribution(score, usual, {}, {POPULARITY: score - usual})


def mean_slope(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """The mean slope of relu on the straight way between two values, elementwise."""
    way = stop - start
    rise = np.maximum(stop, 0) - np.maximum(start, 0)
    slope = np.where(way == 0, (stop > 0).astype(np.float64), rise / np.where(way == 0, 1.0, way))
    return np.asarray(slope.clip(0, 1))  # outside by rounding alone, where the way is tiny
