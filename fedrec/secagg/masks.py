"""Masks: secrets become 256-bit seeds, and seeds become uniform vectors modulo 2**32 or 2**64.

HKDF-SHA256 (RFC 5869) derives each seed with the round's digest in `info`: parties with another card, model, round or
roster have other masks, which do not cancel (arXiv 2111.07380). AES-256 in counter mode expands a seed. A seed makes
one mask in its life, so the counter begins at zero.

Different from Flower 1.41's SecAgg+: nothing folds the seed to 32 bits.
"""

import hmac
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

SEED = 32
"""Bytes of a seed."""
_BLOCK = 1 << 18
"""Bytes of a vector that all masks are added to before the next: half of a small level-2 cache."""
_OPEN = 256
"""Ciphers that are open at the same time."""
_DOMAIN = b"fedrec/secagg/v1/"


def hkdf(secret: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA256 without a salt (RFC 5869)."""
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def info(purpose: str, digest: bytes, *parties: int) -> bytes:
    """Return the context of a derived key: its purpose, the digest of the round, and the parties, in this order."""
    return (
        _DOMAIN + purpose.encode("ascii") + b"\x00" + digest + b"".join(party.to_bytes(4, "big") for party in parties)
    )


def apply(total: NDArray, added: Sequence[bytes], subtracted: Sequence[bytes] = ()) -> None:
    """Add and subtract the masks of seeds, in place, modulo 2**32 or 2**64.

    Args:
        total: shape (length,), little-endian uint32 or uint64.
        added: seeds of 32 bytes.
        subtracted: the same.
    """
    signed = [(seed, True) for seed in added] + [(seed, False) for seed in subtracted]
    for first in range(0, len(signed), _OPEN):
        _apply(total, signed[first : first + _OPEN])


def _apply(total: NDArray, signed: Sequence[tuple[bytes, bool]]) -> None:
    if any(len(seed) != SEED for seed, _ in signed):
        raise ValueError(f"a seed has {SEED} bytes")
    ciphers = [(_expander(seed), plus) for seed, plus in signed]
    step = min(_BLOCK // total.itemsize, max(len(total), 1))
    zeros = memoryview(bytes(step * total.itemsize))
    room = bytearray(step * total.itemsize + 15)  # the cipher asks for a block more than it writes
    for first in range(0, len(total), step):
        part = total[first : first + step]
        mask = np.frombuffer(room, total.dtype, len(part))
        for cipher, plus in ciphers:
            cipher.update_into(zeros[: part.nbytes], room)
            if plus:
                np.add(part, mask, out=part)
            else:
                np.subtract(part, mask, out=part)


def _expander(seed: bytes) -> CipherContext:
    return Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
