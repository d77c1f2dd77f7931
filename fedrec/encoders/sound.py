"""`sound`: statistics of a recording's spectrum. It is no pretrained network and knows no words, voices or genres.

The power in 40 bands between 40 Hz and 8 kHz, equally wide on the mel scale, in windows of 64 ms: mean and standard
deviation of its logarithm, and the mean step between windows. Recordings are alike where their timbre, brightness and
rhythmic strength are. Melody, speech and meaning are not in it. It needs numpy alone.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fedrec.encoders.base import Encoder, Identity, Kind
from fedrec.encoders.recordings import Recording

BANDS, LOWEST, HIGHEST = 40, 40.0, 8000.0
WINDOW = 0.064
"""Seconds; windows overlap by half."""
FLOOR = 1e-6
"""Power, relative to the strongest, that counts as silence: 60 dB."""


class Sound(Encoder):
    """Vectors of 120 numbers: levels relative to the recording's mean, so that loudness does not count."""

    name: ClassVar[str] = "sound"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"audio"})

    @property
    def identity(self) -> Identity:
        rule = f"{BANDS} {LOWEST} {HIGHEST} {WINDOW} {FLOOR}"
        return Identity(self.name, "rule 1, log-mel statistics", hashlib.sha256(rule.encode()).hexdigest())

    @property
    def width(self) -> int:
        return 3 * BANDS

    def encode(self, inputs: Sequence[Any], kind: Kind) -> np.ndarray:
        return np.stack([_statistics(each) for each in inputs])


def _statistics(recording: Recording) -> np.ndarray:
    size = max(16, round(WINDOW * recording.rate))
    samples = np.pad(recording.samples, (0, max(0, size - len(recording.samples))))
    if not samples.any():
        return np.zeros(3 * BANDS, np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    filters = _filters(size, recording.rate)  # (bins, bands)
    power = np.concatenate(  # some windows at a time: (windows, bands)
        [
            np.abs(np.fft.rfft(part * np.hanning(size))) ** 2 @ filters
            for part in np.array_split(frames, -(-len(frames) // 256))
        ]
    )
    levels = np.log10(power / max(float(power.max()), 1e-30) + FLOOR)
    levels -= levels.mean()
    steps = np.abs(np.diff(levels, axis=0)).mean(0) if len(levels) > 1 else np.zeros(BANDS)
    return np.concatenate([levels.mean(0), levels.std(0), steps]).astype(np.float32)


def _filters(size: int, rate: int) -> np.ndarray:
    """Return triangles on the mel scale, (size // 2 + 1, BANDS); a band above half the rate is empty."""

    def mel(hertz: np.ndarray) -> np.ndarray:
        return 2595 * np.log10(1 + hertz / 700)

    edges = np.linspace(mel(np.array(LOWEST)), mel(np.array(HIGHEST)), BANDS + 2)
    bins = mel(np.fft.rfftfreq(size, 1 / rate))[:, None]
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    return np.clip(np.minimum(rising, falling), 0, None)
