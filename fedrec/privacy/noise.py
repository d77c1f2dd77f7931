"""The secret randomness of a run: Gaussian noise and Poisson cohorts from a ChaCha20 key stream.

Sources: ChaCha20 (RFC 8439) as the generator; Box-Muller; the sum of four normals against attacks on floating-point
noise (Holohan & Braghin 2021, "Secure Random Sampling in Differential Privacy"). Different here: a draw is a pure
function of (key, round, name, time), made block by block, so that any size needs the same little memory; the release
is rounded to a grid of about a thousandth of the noise (see `PrivacyPlan.privatise`), which hides the low-order bits
that such attacks read. Uniforms have 53 bits, so a draw reaches 17 standard deviations at most.
"""

import hashlib
import hmac
import os
from collections.abc import Iterator

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from torch import Tensor

from fedrec.parallel import in_order
from fedrec.privacy import chacha
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.normals import SUMMED, normals_of, uniform

BLOCK = 1 << 16
"""Normals drawn at a time. A part of the stream's definition: changing it changes every seeded run."""

_TOGETHER = 64
"""Blocks that a GPU draws at once: some 4 million normals, 1 GB of memory."""


class NoiseSource:
    """Draws that only the holder of a 32-byte key can repeat.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError(f"a ChaCha20 key has 32 bytes, got {len(key)}")
        self._key = key

    @classmethod
    def from_seed(cls, seed: int | None) -> "NoiseSource":
        """Make a source.

        Args:
            seed: None takes the key from the operating system's CSPRNG. A number makes the run repeatable, and its
                noise known to anyone who knows the number: for simulation only.
        """
        if seed is None:
            return cls(os.urandom(32))
        return cls(hashlib.sha256(f"fedrec noise key from seed\0{seed}".encode()).digest())

    def __repr__(self) -> str:
        return "NoiseSource(key hidden)"

    def _words(
        self, purpose: str, round_index: int, name: str, time: int, counts: Iterator[int]
    ) -> Iterator[np.ndarray]:
        """Yield uint64 arrays of the lengths `counts` from the stream that the other arguments select."""
        key = self._derived(purpose, round_index, name, time)
        stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
        for count in counts:
            yield np.frombuffer(stream.update(bytes(8 * count)), dtype="<u8")

    def _derived(self, purpose: str, round_index: int, name: str, time: int) -> bytes:
        label = f"fedrec\0{purpose}\0{round_index}\0{name}" + (f"\0{time}" if time > 1 else "")
        return hmac.digest(self._key, label.encode(), "sha256")

    def skellam_words(self, round_index: int, name: str, time: int = 1) -> WordStream:
        """Return the random words of one query's Skellam noise.

        Args:
            round_index: number of the round_index, from 0.
            name: of the query.
            time: as in `normal_blocks`.
        """
        return WordStream(self._key, f"fedrec\0skellam\0{round_index}\0{name}\0{time}")

    def normal_blocks(self, round_index: int, name: str, size: int, time: int = 1) -> Iterator[np.ndarray]:
        """Yield standard normals, float64, `size` in all, in blocks of `BLOCK` (the last one shorter).

        Args:
            round_index: number of the round, from 0.
            name: of the query.
            size: how many normals.
            time: 2 for the second release of the same round, and so on: each has noise of its own.
        """
        blocks = -(-size // BLOCK)
        words = self._words("noise", round_index, name, time, iter([SUMMED * BLOCK] * blocks))
        for block, drawn in enumerate(in_order(normals_of, words, torch.device("cpu"))):
            yield drawn[: size - block * BLOCK]

    def normals_on(
        self, device: torch.device, round_index: int, name: str, size: int, time: int = 1
    ) -> Iterator[Tensor]:
        """Return the normals of `normal_blocks` as float64 tensors of a device; a GPU draws them itself.

        Both read the same words. The logarithm and the cosine of a GPU may differ in the last bit.
        """
        if device.type == "cpu":
            return map(torch.from_numpy, self.normal_blocks(round_index, name, size, time))
        return self._drawn_on(device, round_index, name, size, time)

    def _drawn_on(self, device: torch.device, round_index: int, name: str, size: int, time: int) -> Iterator[Tensor]:
        key, blocks = self._derived("noise", round_index, name, time), -(-size // BLOCK)
        keys = SUMMED * BLOCK // 8  # blocks of ChaCha20 for one of ours
        for start in range(0, blocks, _TOGETHER):
            count = min(_TOGETHER, blocks - start)
            words = chacha.key_stream(key, start * keys, count * keys, device)
            radius, angle = chacha.uniforms(words).view(count, 2, SUMMED, -1).unbind(1)  # each (blocks, 4, BLOCK / 2)
            radius, angle = radius.log_().mul_(-2.0).sqrt_(), angle.mul_(2.0 * np.pi)
            both = torch.cat([radius * angle.cos(), radius * angle.sin()], 2).sum(1).div_(np.sqrt(SUMMED))
            yield both.view(-1)[: size - start * BLOCK]

    def cohort(self, round_index: int, users: int, probability: float, time: int = 1) -> np.ndarray:
        """Draw a Poisson sample of 0..users-1: each with `probability` independently, int64, ascending.

        Args:
            round_index: number of the round, from 0.
            users: size of the population.
            probability: of each user, (0, 1].
            time: as in `normal_blocks`.
        """
        counts = [min(BLOCK, users - start) for start in range(0, users, BLOCK)]
        drawn = self._words("cohort", round_index, "", time, iter(counts))
        taken = [np.flatnonzero(uniform(words) <= probability) + i * BLOCK for i, words in enumerate(drawn)]
        return np.concatenate(taken).astype(np.int64) if taken else np.zeros(0, dtype=np.int64)
