"""`text-convolution`: an item's vector from its own words in their order.

Words are hashed into a small table of vectors, filters slide over neighbouring words, and the largest answer of each
filter goes through one linear map (Kim 2014; for items, ConvMF, Kim et al. 2016). The words are those of the titles
and of all texts and labels of the catalogue. Different: hashed words, so that an item that comes later, with words that
no other item has, has a vector too; and hashing follows from the word alone, the same on every machine.
"""

import hashlib
import math
from functools import lru_cache
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from fedrec import draws
from fedrec.data.catalogue import Catalogue, Categories, Texts
from fedrec.errors import InputError
from fedrec.kernels.public import words_of
from fedrec.towers.base import ItemTower, TowerConfig
from fedrec.towers.features import ById

_BUCKETS: Final = 1 << 32


class TextConvolutionConfig(TowerConfig):
    """Settings of the text tower."""

    words: int = Field(12, ge=1, le=512)
    """Words of an item that are read, the first ones."""
    buckets: int = Field(256, ge=1, le=1 << 20)
    """Rows of the table into which words are hashed."""
    width: int = Field(8, ge=1, le=1024)
    """Length of a word's vector."""
    span: int = Field(3, ge=1, le=16)
    """Neighbouring words that a filter covers."""
    filters: int = Field(24, ge=1, le=4096)
    """Number of filters."""


class TextConvolutionTower(ItemTower):
    """output(largest over the places (relu(filters * words)))."""

    name: ClassVar[str] = "text-convolution"
    Config: ClassVar[type[TowerConfig]] = TextConvolutionConfig
    tokens: Tensor

    def __init__(self, config: TextConvolutionConfig, catalogue: Catalogue, seed: int) -> None:
        super().__init__(config, catalogue, seed)
        hashed = _hashed(ById(catalogue), config.words)
        self.register_buffer("tokens", torch.where(hashed < 0, -1, hashed % config.buckets), persistent=False)
        keys = draws.keys(seed, torch.arange(3, device="cpu"))
        reach = config.span * config.width
        self.table = nn.Parameter(draws.normal(keys[:1], 0, config.buckets * config.width).view(-1, config.width))
        self.filters = nn.Parameter(draws.normal(keys[1:2], 0, config.filters * reach).view(-1, reach))
        self.bias = nn.Parameter(torch.zeros(config.filters, device="cpu"))
        self.output = nn.Parameter(draws.normal(keys[2:], 0, config.dim * config.filters).view(config.dim, -1))
        self.table.data /= math.sqrt(config.width)
        self.filters.data /= math.sqrt(config.span)
        self.output.data /= config.filters

    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        span, tokens = self.config.span, self.tokens[items]  # (..., words)
        known = tokens >= 0
        words = self.table[tokens.clamp(min=0)] * known[..., None]  # (..., words, width)
        words = torch.nn.functional.pad(words, (0, 0, 0, span - 1))
        places = tokens.shape[-1]
        near = torch.cat([words[..., step : step + places, :] for step in range(span)], -1)  # (..., words, reach)
        found = torch.relu(near @ self.filters.mT + self.bias) * known[..., None]
        vectors: Tensor = found.amax(-2) @ self.output.mT
        return vectors


@lru_cache(maxsize=2)
def _hashed(key: ById, count: int) -> Tensor:
    """Return the hashes of each item's first words, (items, count) int64; -1 where there are fewer."""
    catalogue = key.catalogue
    texts: list[list[str]] = [[] for _ in range(len(catalogue))]
    if catalogue.titles is not None:
        for words, title in zip(texts, catalogue.titles, strict=True):
            words += words_of(title)
    for block in catalogue.blocks:
        if isinstance(block, Texts) and block.texts != catalogue.titles:
            for words, text in zip(texts, block.texts, strict=True):
                words += words_of(text)
        elif isinstance(block, Categories):
            for words, row in zip(texts, block.membership, strict=True):
                words += [f"{block.name}:{block.labels[label]}" for label in row.nonzero()[0]]
    if not any(texts):
        raise InputError("this tower needs words, and the catalogue has no title, text or label; use tower 'id'")
    found = torch.full((len(texts), count), -1, dtype=torch.int64, device="cpu")
    for item, words in enumerate(texts):
        for place, word in enumerate(words[:count]):
            digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
            found[item, place] = int.from_bytes(digest, "little") % _BUCKETS
    return found
