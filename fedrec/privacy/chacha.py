"""The ChaCha20 key stream as tensor operations, so that a GPU draws the noise of a large sum where the sum lies.

Source: RFC 8439. Different here: blocks are computed at once instead of in turn, since a block depends on its number
alone. The bytes are those of `cryptography`.
"""

import torch
from torch import Tensor

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
_WORDS = 1 << 32


def key_stream(key: bytes, first: int, blocks: int, device: torch.device) -> Tensor:
    """Return blocks of 64 bytes of a key's stream with the nonce 0.

    Args:
        key: 32 bytes.
        first: number of the first block, from 0.
        blocks: how many.
        device: where they are computed.

    Returns: int32 (blocks, 16), little-endian words.
    Raises: ValueError where the numbers of blocks need more than the 32 bits that a nonce has for them.
    """
    if first + blocks > _WORDS:
        raise ValueError("a nonce of ChaCha20 has 2**32 blocks")
    numbers = torch.arange(first, first + blocks, dtype=torch.int64, device=device)
    words = [*_CONSTANTS, *(int.from_bytes(key[place : place + 4], "little") for place in range(0, 32, 4))]
    begin = torch.zeros(16, blocks, dtype=torch.int32, device=device)
    begin[:12] = torch.tensor([_signed(word) for word in words], dtype=torch.int32, device=device)[:, None]
    begin[12] = torch.where(numbers >= _WORDS // 2, numbers - _WORDS, numbers).int()
    a, b, c, d = (row.clone() for row in begin.view(4, 4, blocks))
    for _ in range(10):
        _quarter_rounds(a, b, c, d)
        b, c, d = b.roll(-1, 0), c.roll(-2, 0), d.roll(-3, 0)  # the diagonals become columns
        _quarter_rounds(a, b, c, d)
        b, c, d = b.roll(1, 0), c.roll(2, 0), d.roll(3, 0)
    return (torch.cat([a, b, c, d]) + begin).t().contiguous()


def uniforms(words: Tensor) -> Tensor:
    """Return one uniform with 53 bits for each two words, float64, above 0 and at most 1."""
    return ((words.view(torch.int64) >> 11) & ((1 << 53) - 1)).double().add_(1.0).mul_(2.0**-53)


def _quarter_rounds(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> None:
    """Change the four columns of the state; each argument is one row, int32 (4, blocks)."""
    for one, other, third, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        one += other
        third ^= one
        third.copy_((third << turn) | ((third >> (32 - turn)) & ((1 << turn) - 1)))


def _signed(word: int) -> int:
    return word - _WORDS if word >= _WORDS // 2 else word
