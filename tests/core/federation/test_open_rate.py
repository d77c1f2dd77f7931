"""The rate of adaptive clips that is left open: it lets a clip travel over the rounds of its run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrec.federation.adaptive_clipping import AdaptiveClipping
from fedrec.privacy.adaptive import LEAST_RATE, MOST_RATE, TRAVEL, ClippingConfig
from fedrec.settings import Settings
from tests.core.federation.test_adaptive_clipping import Few, facts, lognormal


@given(st.integers(1, 400), st.floats(0.01, 0.99), st.sampled_from([0.0, 1.0]), st.floats(0.1, 1.0))
def test_an_open_rate_lets_a_clip_travel_over_the_run(rounds: int, quantile: float, within: float, part: float) -> None:
    """Everybody is above the clip, or within it: it is ten times as large, or as small, after the last round.

    The rate that the largest one cuts off, of few rounds and a quantile near 0 or 1, is the stated exception.
    """
    left_open = ClippingConfig(adaptive=True, quantile=quantile, smallest=1e-6, largest=1e6)
    config = left_open.moving(rounds)
    factor = 1.0
    for _ in range(rounds):
        factor = config.next_factor(factor, within - quantile, 1.0)
    moved = factor if within == 0 else 1 / factor
    assert moved >= TRAVEL * (1 - 1e-9) or config.rate == MOST_RATE
    assert LEAST_RATE <= config.rate <= MOST_RATE
    assert config.rate == LEAST_RATE or rounds * min(quantile, 1 - quantile) * config.rate <= math.log(TRAVEL) * (
        1 + 1e-9
    )
    assert config.moving(1) == config
    chosen = ClippingConfig(adaptive=True, rate=part)
    assert chosen.moving(rounds) == chosen, "a rate that is set stays"


def test_both_sides_derive_an_open_rate_from_the_rounds_and_it_is_in_no_text() -> None:
    algorithm = AdaptiveClipping(Few(Settings(), facts(), lognormal()), ClippingConfig(adaptive=True))
    assert algorithm.config.rate == pytest.approx(math.log(TRAVEL) / 1.5)
    assert algorithm.chosen["clipping_rate"] == algorithm.config.rate
    with pytest.raises(ValueError, match="without a rate"):
        ClippingConfig(adaptive=True).next_factor(1.0, 0.0, 1.0)
