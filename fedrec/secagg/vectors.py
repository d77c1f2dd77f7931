"""Vectors of unsigned integers modulo 2**bits, and their form on the wire.

A vector is an array of uint32 (up to 32 bits) or uint64. On the wire an element takes `bits` bits: first its whole
bytes, one plane of bytes after the other, then a plane of packed bits for each bit that is left.
"""

import numpy as np
from numpy.typing import NDArray

from fedrec.errors import InputError
from fedrec.secagg.outcome import Malformed

LARGEST_BITS = 64


def word(bits: int) -> np.dtype:
    """Return the type of an element: little-endian uint32 up to 32 bits, else uint64.

    Raises: InputError for bits outside 1..64.
    """
    if not 1 <= bits <= LARGEST_BITS:
        raise InputError(f"{bits} bits: a vector for secure aggregation has 1 to {LARGEST_BITS}")
    return np.dtype("<u4") if bits <= 32 else np.dtype("<u8")


def checked(vector: NDArray, bits: int, length: int) -> NDArray:
    """Return the vector. Raises: InputError for another type or shape, or an element of 2**bits or more."""
    if vector.dtype != word(bits) or vector.shape != (length,):
        raise InputError(f"a vector of {vector.dtype}, shape {vector.shape}: must be {word(bits)}, shape ({length},)")
    if bits not in (32, 64) and length and int(vector.max()) >> bits:
        raise InputError(f"a vector with an element of 2**{bits} or more: reduce it modulo 2**{bits} first")
    return vector


def reduce(vector: NDArray, bits: int) -> NDArray:
    """Reduce modulo 2**bits in place, and return the vector."""
    if bits < 8 * vector.dtype.itemsize:
        np.bitwise_and(vector, vector.dtype.type((1 << bits) - 1), out=vector)
    return vector


def packed_size(bits: int, length: int) -> int:
    """Return the bytes of a packed vector."""
    return bits // 8 * length + bits % 8 * (-(-length // 8))


def pack(vector: NDArray, bits: int) -> bytes:
    """Return the vector's form on the wire. It must be reduced."""
    word_bytes = vector.dtype.itemsize
    if bits == 8 * word_bytes:
        return vector.tobytes()
    octets = vector.view(np.uint8).reshape(-1, word_bytes)  # (length, bytes of a word)
    parts = [octets[:, place].tobytes() for place in range(bits // 8)]
    if bits % 8:
        last = np.ascontiguousarray(octets[:, bits // 8])
        parts += [np.packbits(last & np.uint8(1 << bit)).tobytes() for bit in range(bits % 8)]
    return b"".join(parts)


def unpack(data: bytes, bits: int, length: int) -> NDArray:
    """Return the vector of a form on the wire. Raises: Malformed for another size or bits after the last element."""
    if len(data) != packed_size(bits, length):
        raise Malformed(f"a packed vector of {len(data)} bytes: must have {packed_size(bits, length)}")
    kind = word(bits)
    if bits == 8 * kind.itemsize:
        return np.frombuffer(data, kind).copy()
    vector = np.zeros(length, kind)
    octets = vector.view(np.uint8).reshape(-1, kind.itemsize)
    source = np.frombuffer(data, np.uint8)
    for place in range(bits // 8):
        octets[:, place] = source[place * length : (place + 1) * length]
    if bits % 8:
        planes = source[bits // 8 * length :].reshape(bits % 8, -1)
        last = np.zeros(length, np.uint8)
        for bit, plane in enumerate(planes):
            whole = np.unpackbits(plane)
            if whole[length:].any():
                raise Malformed("a packed vector with bits after its last element")
            last |= whole[:length] << np.uint8(bit)
        octets[:, bits // 8] = last
    return vector
