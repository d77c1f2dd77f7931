"""Secret random words: a ChaCha20 key stream that is read on demand.

Source: ChaCha20 (RFC 8439), from `cryptography`. NumPy's own generators are not cryptographic: who sees some of their
output can compute the rest, and take the noise off.
"""

import hashlib
import hmac
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20


class WordStream:
    """Random words that only the holder of the key can repeat.

    Args:
        key: 32 bytes.
        label: selects one of the key's streams.

    Raises: ValueError for a key of another length.
    """

    def __init__(self, key: bytes, label: str) -> None:
        if len(key) != 32:
            raise ValueError(f"a ChaCha20 key has 32 bytes, got {len(key)}")
        derived = hmac.digest(key, label.encode(), "sha256")
        self._stream = Cipher(ChaCha20(derived, bytes(16)), mode=None).encryptor()

    @classmethod
    def fresh(cls) -> "WordStream":
        """Return a stream with a key from the operating system's CSPRNG that nobody keeps."""
        return cls(os.urandom(32), "fedrec fresh words")

    @classmethod
    def seeded(cls, text: str) -> "WordStream":
        """Return a stream that anyone who knows `text` can repeat: for simulation only."""
        return cls(hashlib.sha256(text.encode()).digest(), "fedrec seeded words")

    def __repr__(self) -> str:
        return "WordStream(key hidden)"

    def words(self, count: int) -> np.ndarray:
        """Return the next `count` words, (count,) uint64."""
        return np.frombuffer(self._stream.update(bytes(8 * count)), dtype="<u8")

    def uniforms(self, count: int) -> np.ndarray:
        """Return the next `count` uniforms with 53 bits, (count,) float64, strictly between 0 and 1."""
        return ((self.words(count) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
