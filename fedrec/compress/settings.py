"""How a model is compressed, and the record of it."""

from typing import Literal

from pydantic import Field

from fedrec.record_parts import ClosedPart, Hash
from fedrec.settings import Settings


class Steps(Settings):
    """The steps, in this order."""

    distil: int | None = Field(None, ge=1, le=4096)
    """Length of the vectors of a smaller model that is fitted to this one on public histories; null for none."""
    histories: int = Field(2000, ge=10, le=1_000_000)
    """Public histories of the distillation, drawn by the released popularity."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Of these draws."""
    prune: float | None = Field(None, gt=0, lt=1)
    """Part of each table's entries, the smallest by magnitude, that becomes zero; null for none."""
    bits: Literal[4, 8] | None = None
    """Of a number; null for float32."""


class Source(ClosedPart):
    """The released model that another one was made of."""

    manifest: Hash
    """SHA-256 of its manifest.json."""
    model: Hash
    """SHA-256 of its model.safetensors."""


class Derivation(ClosedPart):
    """What a compressed model was made of and how: the same command makes the same files."""

    format: Literal["fedrec-derivation/1"] = "fedrec-derivation/1"
    source: Source
    """The released model."""
    steps: Steps
    """What was done to it."""
    version: str = Field(max_length=100)
    """Of fedrec."""
    manifest: Hash
    """SHA-256 of the compressed manifest.json, which names the other files by theirs."""
    model: Hash
    """SHA-256 of the compressed model.safetensors."""
