"""Recordings: WAV files as mono samples, by the standard library."""

import io
import wave
from dataclasses import dataclass

import numpy as np

SECONDS = 60
"""The first seconds of a recording that count."""


@dataclass(frozen=True)
class Recording:
    """Mono sound.

    Attributes:
        samples: (n,) float32 between -1 and 1.
        rate: samples a second.
    """

    samples: np.ndarray
    rate: int


def read_wav(data: bytes) -> Recording:
    """Read PCM of 8, 16, 24 or 32 bits; channels are averaged.

    Args:
        data: bytes of a WAV file.

    Raises:
        ValueError: for another format, damage, or no sample.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, size = file.getframerate(), file.getnchannels(), file.getsampwidth()
            if not 1000 <= rate <= 400_000 or not 1 <= channels <= 64:
                raise ValueError(f"{rate} samples a second in {channels} channels")
            raw = file.readframes(SECONDS * rate)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"no WAV file in PCM ({error or 'it ends too early'})") from None
    raw = raw[: len(raw) // (size * channels) * size * channels]
    if not raw:
        raise ValueError("no sample")
    samples = _numbers(raw, size).reshape(-1, channels).mean(1)
    return Recording(samples.astype(np.float32), rate)


def _numbers(raw: bytes, size: int) -> np.ndarray:
    """Return PCM samples of `size` bytes as numbers between -1 and 1."""
    if size == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if size == 3:
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        padded = np.zeros((len(parts), 4), np.uint8)
        padded[:, 1:] = parts
        return padded.view("<i4")[:, 0].astype(np.float32) / 2**31
    if size not in (2, 4):
        raise ValueError(f"samples of {8 * size} bits")
    return np.frombuffer(raw, f"<i{size}").astype(np.float32) / 2 ** (8 * size - 1)
