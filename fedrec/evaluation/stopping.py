"""Early stopping: a rule over private looks, and over nothing else.

Every look is a release with noise of known size, priced before the first round. The rule is a function of those
releases and of public settings, so stopping is post-processing and reveals nothing more about any user. It saves no
budget. The run's own outputs decide on its length, and plain composition does not cover the epsilon of the completed
rounds alone (that would need an odometer). A stopped run therefore costs the whole plan.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from fedrec.settings import Settings


class StoppingConfig(Settings):
    """The [stopping] table of a scenario: private looks between training rounds, and their consequences."""

    every: int | None = Field(default=None, ge=1)
    """Training rounds between two private looks, which share `privacy.evaluation_share`; left out: one look at the end,
    and no stopping."""
    patience: int = Field(default=3, ge=1)
    """Looks in a row without an improvement after which the run stops."""
    metric: Literal["hr@10", "ndcg@10"] = "ndcg@10"
    """The private metric that must improve."""
    min_improvement: float = Field(default=1.0, ge=0)
    """Smallest improvement over the last look that counted, in standard deviations of a look's noise."""
    release: Literal["best", "last"] = "best"
    """The model to keep when the run is over: that of the look with the highest value, or that of the last look."""

    @field_validator("metric", mode="before")
    @classmethod
    def _private(cls, value: Any) -> Any:
        if value not in ("hr@10", "ndcg@10"):
            raise ValueError(
                "must be hr@10 or ndcg@10 of the private looks; a run never stops on true metrics, which no budget "
                "pays for"
            )
        return value


def stalled(values: Sequence[float], stds: Sequence[float], config: StoppingConfig) -> str | None:
    """Return why to stop after the looks so far; None to continue.

    The first look always counts as an improvement. Later ones are compared with the last that did, so that many small
    steps count once they add up.

    Args:
        values: of the metric, one a look.
        stds: standard deviation of the noise of each.
        config: the rule.
    """
    reference, waited, needed = float("-inf"), 0, 0.0
    for value, std in zip(values, stds, strict=True):
        needed = config.min_improvement * std
        reference, waited = (value, 0) if value > reference + needed else (reference, waited + 1)
    if waited < config.patience:
        return None
    looks = "look" if waited == 1 else f"{waited} looks in a row"
    return (
        f"private {config.metric} of {reference:.4f} was not exceeded by more than {needed:.4f} "
        f"({config.min_improvement:g} standard deviations of the noise) in {looks}"
    )


def best(values: Sequence[float]) -> int:
    """Return the place of the look with the highest value, the first of equals.

    Looks have equal noise, so the highest value is the likeliest best. As the highest of several it flatters its model.
    """
    return max(range(len(values)), key=lambda place: (values[place], -place))
