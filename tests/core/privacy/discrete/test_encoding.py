"""From a clipped vector to integers modulo 2^b and back: no vector exceeds the bound that is accounted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import hadamard as slow_hadamard

from fedrec.privacy.discrete import encoding
from fedrec.privacy.discrete.encoding import Encoding, plain, plain_steps, rotated
from fedrec.privacy.discrete.modulus import centred, log_tail, wrapped
from fedrec.privacy.discrete.rotation import hadamard, rotate, signs, unrotate
from fedrec.privacy.discrete.rounding import rounded_within, squared_bound, users_draws
from fedrec.privacy.discrete.skellam import skellam
from fedrec.privacy.discrete.stream import WordStream

LONGEST = 2.0**30
"""Steps of the fine lattice that stand for the clip."""


def draws(user: int = 0) -> np.random.Generator:
    return users_draws(1, 2, "q", user)


def on_lattice(direction: np.ndarray, length: float = 1.0) -> np.ndarray:
    """Whole numbers in the direction, with an L2 norm of at most `length` clips."""
    norm = float(np.linalg.norm(direction))
    return np.trunc(direction / (norm or 1.0) * LONGEST * length * (1 - 2**-20))


@pytest.mark.parametrize("size", [1, 2, 8, 16, 64, 512, 1024])
def test_the_fast_transform_is_the_slow_one_exactly(size: int) -> None:
    values = np.random.default_rng(size).integers(-(2**36), 2**36, (3, size)).astype(float)
    assert np.array_equal(hadamard(values), values @ slow_hadamard(size))
    one_by_one = np.concatenate([hadamard(row[None]) for row in values])
    assert np.array_equal(hadamard(values), one_by_one)


def test_the_rotation_has_an_inverse_and_public_signs() -> None:
    sign = signs("round 3", 1024)
    values = np.random.default_rng(0).integers(-1000, 1000, (2, 1000)).astype(float)
    turned = rotate(values, sign)
    assert np.array_equal(unrotate(turned[1], sign, 1000), values[1])
    assert np.array_equal((turned**2).sum(1), (values**2).sum(1) * 1024)
    assert set(sign) == {-1.0, 1.0}
    assert abs(sign.sum()) < 200
    assert not np.array_equal(sign, signs("round 4", 1024))
    with pytest.raises(ValueError, match="power of two"):
        hadamard(np.zeros((1, 12)))


ADVERSARIAL = {
    "one entry": lambda size: np.eye(size)[0],
    "the last entry": lambda size: np.eye(size)[-1],
    "all equal": lambda size: np.ones(size),
    "alternating": lambda size: np.arange(size) % 2 * 2.0 - 1,
    "just below a step": lambda size: hadamard(np.full((1, size), 0.999999))[0] * signs("q", size),
    "half steps": lambda size: hadamard(np.full((1, size), 0.5) + np.arange(size) % 3)[0] * signs("q", size),
    "a ramp": lambda size: np.arange(size, dtype=float),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize(("users", "bits"), [(100, 14), (6000, 18), (100, None), (10, 12)])
def test_no_vector_exceeds_the_bound(name: str, users: int, bits: int | None) -> None:
    made = rotated(64, users, 2.0, bits, label="q")
    whole = on_lattice(ADVERSARIAL[name](64))
    sent = made.rotated(np.tile(whole, (50, 1)), LONGEST, [draws(user) for user in range(50)])
    assert ((sent**2).sum(1) <= made.squared).all()
    assert (np.abs(sent).sum(1) <= made.absolute).all()
    assert made.squared >= made.length**2


@settings(max_examples=150, deadline=None)
@given(
    values=arrays(np.float64, 32, elements=st.floats()),
    bits=st.integers(10, 20),
    user=st.integers(0, 2**62),
)
def test_whatever_a_device_computes_the_integers_keep_the_bound(values: np.ndarray, bits: int, user: int) -> None:
    try:
        made = rotated(32, 20, 1.0, bits, label="q")
    except ValueError:
        return  # too few bits for any step
    with np.errstate(all="ignore"):
        sent = made.rotated(values[None], LONGEST, [draws(user)])
    assert int((sent[0] ** 2).sum()) <= made.squared


@settings(max_examples=150, deadline=None)
@given(
    length=st.floats(0.01, 40),
    direction=arrays(np.float64, 16, elements=st.floats(-1, 1, width=32)),
    user=st.integers(0, 2**62),
)
def test_rounding_keeps_its_bound_and_moves_less_than_a_step(length: float, direction: np.ndarray, user: int) -> None:
    values = direction / max(float(np.linalg.norm(direction)), 1e-9) * length
    most = squared_bound(length, 16)
    rounded = rounded_within(values, most, draws(user))
    assert int((rounded**2).sum()) <= most
    assert np.abs(rounded - values).max() < 1


def test_the_fallback_keeps_the_bound_too() -> None:
    class AlwaysUp:
        def random(self, size: int) -> np.ndarray:
            return np.zeros(size)

    values = np.full(100, 0.3)  # length 3; always rounded up it is 10
    rounded = rounded_within(values, squared_bound(3.0, 100), AlwaysUp())  # type: ignore[arg-type]
    assert int((rounded**2).sum()) == 0
    too_long = rounded_within(np.full(4, 9.5), 100, draws())
    assert too_long.tolist() == [0, 0, 0, 0]


def test_rounding_is_unbiased_and_goes_by_the_user() -> None:
    values = np.random.default_rng(3).normal(0, 0.2, 64)
    most = squared_bound(float(np.linalg.norm(values)), 64)
    mean = np.mean([rounded_within(values, most, draws(user)) for user in range(4000)], axis=0)
    assert np.abs(mean - values).max() < 0.05
    assert np.array_equal(rounded_within(values, most, draws(5)), rounded_within(values, most, draws(5)))


def test_a_total_comes_back_whatever_the_batch() -> None:
    rng = np.random.default_rng(0)
    made = rotated(300, 40, 0.5, label="q")
    whole = np.stack([on_lattice(rng.normal(size=300), rng.random()) for _ in range(40)])
    keys = [draws(user) for user in range(40)]
    together = made.rotated(whole, LONGEST, keys)
    alone = np.concatenate([made.rotated(whole[[user]], LONGEST, [draws(user)]) for user in range(40)])
    assert np.array_equal(together, alone)
    sent = [made.sent(row, skellam(4.0, made.dimension, WordStream.fresh())) for row in together]
    total = wrapped(np.sum(sent, axis=0), made.bits)
    found = made.decoded(made.read(total))
    noise = math.sqrt(40 * (4.0 + 0.25)) / made.length
    assert np.abs(found - whole.sum(0) / LONGEST).max() < 6 * noise
    assert all(((row >= 0) & (row < 1 << made.bits)).all() for row in sent)


@pytest.mark.parametrize("wrong", [1.0, 2 / 3, 3 / 2])
def test_the_noise_of_the_recovered_sum_has_the_variance(wrong: float) -> None:
    made = rotated(1000, 100, 3.0, label="q")
    variance = 9.0 * made.squared
    shares = sum(skellam(variance / 100, made.dimension, WordStream(bytes(32), str(user))) for user in range(100))
    noise = made.decoded(made.read(wrapped(np.asarray(shares), made.bits)))
    ratio = noise.var() / (wrong**2 * variance / made.length**2)
    assert (0.8 < ratio < 1.25) == (wrong == 1.0)


def test_wrap_around_is_as_rare_as_stated_and_not_much_rarer() -> None:
    made = rotated(1024, 50, 4.0, 16, label="q")
    assert made.log_wrap(50, 16.0 * made.squared) <= math.log(encoding.WRAP)
    assert made.log_wrap(50, 16.0 * made.squared * 4) > math.log(encoding.WRAP)
    variance, t = 400.0, 100.0
    drawn = np.abs(skellam(variance, 200_000, WordStream(bytes(32), "tail")))
    seen, bound = float((drawn >= t).mean()), math.exp(log_tail(t, variance, 0.0, 0.0))
    assert seen <= bound < 1e-4
    assert log_tail(-1.0, variance, 0.0, 0.0) == 0.0
    assert log_tail(5.0, 0.0, 1.0, 4.0) == -math.inf


def test_values_beyond_the_room_wrap() -> None:
    values = np.array([-9, -8, -1, 0, 7, 8, 2**40])
    assert centred(wrapped(values, 4), 4).tolist() == [7, -8, -1, 0, 7, -8, 0]


def test_a_plain_query_keeps_the_clip_and_all_users_fit() -> None:
    steps = plain_steps(30.0)
    made = plain(1000, 6000, 30.0, 3.0 * 2.0**-steps, 3.0)
    assert made.squared <= made.length**2
    worst = np.full(6000, math.floor(made.length))
    assert made.read(np.array([wrapped(worst.sum(), made.bits)]))[0] == worst.sum()
    assert made.log_wrap(6000, 900.0 * made.squared) <= math.log(encoding.WRAP)
    with pytest.raises(ValueError, match="more than exact integers hold"):
        plain_steps(2.0**20)


def test_a_modulus_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bits has no room"):
        rotated(1000, 1_000_000, 5.0, 16)
    assert rotated(1000, 1_000_000, 5.0).bits > 20
    assert isinstance(rotated(3, 6000, 100.0), Encoding)
