"""Counter-based random draws: a pure function of (key, stream, position), the same on every device and batch.

Source: SplitMix64 (Steele, Lea, Flood 2014) used as a hash of a counter. Not cryptographic: it serves the
randomness that privacy does not rest on (local negatives, initial values, synthetic data). Noise and cohort
sampling come from `fedrec.privacy.noise`.
"""

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_M1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_M2 = 0x94D049BB133111EB - (1 << 64)


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift: torch's own keeps the sign


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 tensors, element by element."""
    x = (x ^ _shift(x, 30)) * _M1
    x = (x ^ _shift(x, 27)) * _M2
    return x ^ _shift(x, 31)


def keys(seed: int, index: Tensor) -> Tensor:
    """One int64 key for each entry of `index` (int64), e.g. for each user of a federation."""
    return mix(mix(index * _GAMMA + (seed & 0x7FFFFFFFFFFFFFFF)) + _GAMMA)


def uniform(keys: Tensor, stream: int, count: int) -> Tensor:
    """Uniform draws in [0, 1), shape (len(keys), count), float64."""
    position = torch.arange(count, device=keys.device) + 1 + (stream << 32)
    bits = mix(keys[:, None] + position * _GAMMA)  # (B, count)
    return _shift(bits, 11).double() * 2.0**-53


def integers(keys: Tensor, stream: int, high: Tensor, count: int) -> Tensor:
    """Uniform integers in [0, high_b), shape (len(keys), count), int64; `high` has shape (len(keys),)."""
    drawn = (uniform(keys, stream, count) * high[:, None]).long()
    return torch.minimum(drawn, high[:, None] - 1)


def coins(keys: Tensor, stream: int, count: int, chance: float) -> Tensor:
    """Coins that are true with probability `chance` in (0, 1], in steps of 2^-16, shape (len(keys), count), bool."""
    position = torch.arange(-(-count // 4), device=keys.device) + 1 + (stream << 32)
    bits = mix(keys[:, None] + position * _GAMMA).view(torch.int16)[:, :count]  # four coins a draw
    return bits <= max(1, round(chance * 65536)) - 32769


def normal(keys: Tensor, stream: int, count: int) -> Tensor:
    """Standard normal draws, shape (len(keys), count), float32 (Box-Muller)."""
    u = uniform(keys, stream, 2 * count)
    radius = (-2.0 * torch.log1p(-u[:, :count])).sqrt()
    return (radius * torch.cos(2.0 * torch.pi * u[:, count:])).float()
