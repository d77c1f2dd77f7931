"""`words`: hashed words of a text, weighted by how rare they are. It needs no package and no weights.

Each word, and half as strongly its first five letters, adds signed entries at four places of the vector; places and
signs are hashes (Weinberger et al. 2009). Texts are alike where they share rare words. It reads no meaning: "film" and
"movie" are unlike. It is the fallback; `e5` and `minilm` are better.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from fedrec.encoders.base import Encoder, Identity, Kind

WIDTH = 512
PLACES = 4
STEM = 5


class Words(Encoder):
    """Hashed words with the inverse frequencies of this catalogue."""

    name: ClassVar[str] = "words"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"text"})

    def __init__(self, model: str = "", sha256: str = "") -> None:
        super().__init__(model, sha256)
        self._texts, self._frequency = 0, Counter[str]()

    def prepare(self, inputs: Iterable[Any]) -> None:
        for text in inputs:
            self._texts += 1
            self._frequency.update({word for word, _ in _terms(text)})

    @property
    def identity(self) -> Identity:
        table = "".join(f"{word} {count}\n" for word, count in sorted(self._frequency.items()))
        digest = hashlib.sha256(f"{WIDTH} {PLACES} {STEM} {self._texts}\n{table}".encode()).hexdigest()
        return Identity(self.name, "rule 1", digest)

    @property
    def width(self) -> int:
        return WIDTH

    def encode(self, inputs: Sequence[Any], kind: Kind) -> np.ndarray:
        found = np.zeros((len(inputs), WIDTH), np.float32)
        for row, text in enumerate(inputs):
            for word, times in Counter(_terms(text)).items():
                place, sign = _places(word[0])
                found[row, place] += sign * self._weight(word[0]) * word[1] * math.sqrt(times)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def _weight(self, word: str) -> float:
        return math.log((1 + self._texts) / (1 + self._frequency[word])) if self._texts else 1.0


def _terms(text: str) -> Iterator[tuple[str, float]]:
    """Yield the words of a text with their strength, and after a long word its beginning with half of it."""
    for word in re.findall(r"[^\W_]+", text.lower()):
        yield word, 1.0
        if len(word) > STEM:
            yield f"{word[:STEM]}*", 0.5


@lru_cache(maxsize=1 << 16)
def _places(word: str) -> tuple[np.ndarray, np.ndarray]:
    """Return places (PLACES,) and signs (PLACES,) of a word; two equal places count once."""
    numbers = np.frombuffer(hashlib.blake2b(word.encode(), digest_size=8 * PLACES).digest(), "<u8")
    places, first = np.unique(numbers % WIDTH, return_index=True)
    return places.astype(np.int64), np.where((numbers >> 63)[first] > 0, 1.0, -1.0).astype(np.float32)
