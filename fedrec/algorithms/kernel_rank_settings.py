"""Settings of `kernel-rank`, and the rules by which open ones follow from users and budget, which are public."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from fedrec.algorithms.kernel_rank_plan import FIRM_STRENGTH
from fedrec.kernels.space import Decays
from fedrec.settings import Settings

FAINT_STRENGTH = 0.07  # noise and signal of a gradient weigh the same (MovieLens-100K and generated `few-items`)
FAST_STRENGTH = 0.3  # below, larger steps of a linear head gain nothing on ML-1M and lose on ML-100K
SHARES = {  # strength: parts of mu^2 for popularity, weights, co-occurrence
    0.0200: (0.80, 0.10, 0.10),
    0.1422: (0.60, 0.10, 0.30),
    0.2681: (0.50, 0.10, 0.40),
    FIRM_STRENGTH: (0.20, 0.05, 0.75),
    1.6660: (0.10, 0.12, 0.78),  # hidden units need more of it than a linear head
}
BARE_SHARES = {  # without content, lists fall back to popularity until many users pay for pairs
    0.0200: (0.80, 0.10, 0.10),
    0.2681: (0.75, 0.06, 0.19),
    1.6660: (0.20, 0.03, 0.77),
}
PILOT_SHARE = 0.05  # most of the budget that a first look at the co-occurrence takes; a refused co-occurrence costs it
LEAST_LIFT = 0.1  # mean squared lift, half of it mutual information in nats, below which pairs teach nothing
MOST_LIFT = 1.0  # mean squared lift of a strong taste; a release that cannot show it teaches nothing


SHARE_NAMES = ("popularity_share", "weights_share", "cooccurrence_share")
"""Settings for the parts of the budget, in the order of `SHARES`."""


class KernelRankConfig(Settings):
    """Settings of `kernel-rank`."""

    older_names: ClassVar[Mapping[str, str]] = {"weight_rounds": "rounds", "head": "head_items"}

    decays: Decays = (1.0, 0.95, 0.8, 0.5, 0.02)
    """Recency weights per step back in a history; every kernel is averaged under each."""
    gates: bool = True
    """Whether a kernel counts for more where it predicted the person's own last events; it costs no budget."""
    stars: tuple[float, float] | None = None
    """Lowest and highest rating of the public scale, e.g. [1, 5]: the round of popularity releases each item's mean
    rating, too, under the same clip, for a kernel of its own. Given, never taken from the log; null for none."""
    kernel_rank: int = Field(default=128, ge=1, le=1024)
    """Features kept of a kernel that has no short exact feature map."""
    head_items: int | None = Field(default=None, ge=2)
    """Items of the co-occurrence release; by default grows with the root of the users and with epsilon."""
    pair_numbers: int | None = Field(default=None, ge=1)
    """Numbers that a device sends for all pairs of head items: a sketch of them where these are fewer. By default one
    for each pair, and fewer where the noise of the release hides the difference."""
    targets: int = Field(default=4, ge=1)
    """Newest training items of each user that the ranking weights are fitted to."""
    negatives: int = Field(default=30, ge=1)
    """Local negatives for each target."""
    weighing_users: int | None = Field(default=None, ge=1)
    """About how many users teach the weights. The public seed chooses them, and the others add zeros. By default
    50,000, and more where the budget is so small that their noise would show."""
    rounds: int | None = Field(default=None, ge=1)
    """Rounds of private gradient descent on the ranking weights; by default 40, with hidden units 80, and none where
    there is neither public content nor co-occurrence to weigh."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Step on the clipped mean gradient; by default 0.3 or 1, less with few users or budget; 4 with hidden units."""
    momentum: float = Field(default=0.8, ge=0, lt=1)
    """Momentum of the ranking weights."""
    hidden: int | None = Field(default=None, ge=0, le=256)
    """Units of a network on the features, learned with the weights; 0 for a linear head. By default 16 where
    budget and users can pay for it (6,000 users: about epsilon 6 and more; 5 users a weight), else 0."""
    cooccurrence: bool | None = None
    """False leaves the co-occurrence release out; its budget goes to the others. True asks for it in any case. By
    default it is left out where the budget and the users are too few for it, and where they are few, a first part of
    it decides whether the rest asks for popularity again."""
    popularity_share: float | None = Field(default=None, gt=0, lt=1)
    """Part of the privacy budget for popularity; by default chosen from epsilon and the users, like the next two."""
    weights_share: float | None = Field(default=None, gt=0, lt=1)
    """Part of the budget for the ranking weights, all rounds together."""
    cooccurrence_share: float | None = Field(default=None, gt=0, lt=1)
    """Part of the budget for the co-occurrence. Shares that are left open divide the rest in proportion to their
    defaults."""

    @model_validator(mode="before")
    @classmethod
    def _of_older_shares(cls, given: Any) -> Any:
        """Older versions had one setting `shares`, the parts for popularity, weights, co-occurrence."""
        if not isinstance(given, Mapping) or given.get("shares") is None:
            return given
        shares = given["shares"]
        if not isinstance(shares, list | tuple) or len(shares) != len(SHARE_NAMES):
            raise ValueError(
                f"shares = {shares!r}: must be a list of three numbers; set {', '.join(SHARE_NAMES)} instead"
            )
        if both := [name for name in SHARE_NAMES if name in given]:
            raise ValueError(f"shares: the older form of {both[0]}; leave one of them out")
        return {name: value for name, value in given.items() if name != "shares"} | dict(
            zip(SHARE_NAMES, shares, strict=True)
        )

    @field_validator("stars")
    @classmethod
    def _ascends(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not -math.inf < scale[0] < scale[1] < math.inf:
            raise ValueError(f"stars = [{scale[0]:g}, {scale[1]:g}]: give the ends of the scale, the lower one first")
        return scale

    @model_validator(mode="after")
    def _shares_fit(self) -> "KernelRankConfig":
        given = [getattr(self, name) for name in SHARE_NAMES]
        if math.fsum(share or 0.0 for share in given) > 1 + 1e-9:
            raise ValueError(f"{', '.join(SHARE_NAMES)}: must sum to 1 at most")
        if math.fsum(share or 0.0 for share in given) >= 1 and None in given:
            raise ValueError(f"{', '.join(SHARE_NAMES)}: leave a part of the budget for the open ones")
        return self


def default_shares(strength: float, *, content: bool = True) -> tuple[float, float, float]:
    """Parts of the budget for (popularity, weights, co-occurrence), interpolated in the logarithm of the strength."""
    shares = SHARES if content else BARE_SHARES
    points = sorted(shares)
    if strength >= points[-1]:
        return shares[points[-1]]
    if strength <= points[0]:
        return shares[points[0]]
    above = next(p for p in points if p >= strength)
    below = points[points.index(above) - 1]
    part = math.log(strength / below) / math.log(above / below)
    a, b, c = ((1 - part) * low + part * high for low, high in zip(shares[below], shares[above], strict=True))
    return a, b, c


def chosen_shares(config: KernelRankConfig, strength: float, *, content: bool = True) -> tuple[float, float, float]:
    """Parts of the budget for (popularity, weights, co-occurrence): those of the settings, the rest by default."""
    given, default = [getattr(config, name) for name in SHARE_NAMES], default_shares(strength, content=content)
    if given == [None] * len(given):
        return default
    rest = 1 - math.fsum(share for share in given if share is not None)
    weight = math.fsum(part for share, part in zip(given, default, strict=True) if share is None)
    a, b, c = (rest * part / weight if share is None else share for share, part in zip(given, default, strict=True))
    return a, b, c


def linear_rate(strength: float) -> float:
    """Step of a linear head. Noise moves the weights in proportion to the step, so the step shrinks with the share
    of noise in a gradient, as Wiener's filter does."""
    return (1.0 if strength >= FAST_STRENGTH else 0.3) / (1 + (FAINT_STRENGTH / strength) ** 2)
