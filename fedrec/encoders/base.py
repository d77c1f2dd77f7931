"""Encoders: from an item's public text, picture or sound to a vector. They see the catalogue, and never a user.

A new encoder is one new file in this folder with a `name`, its `kinds` and `encode`. An encoder of another package is
an entry point of the group `fedrec.encoders`. What is heavy is imported when an encoder is made, not before.
"""

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np

import fedrec.encoders
from fedrec import plugins
from fedrec.errors import InputError

Kind = Literal["text", "image", "audio"]
KINDS: Final[tuple[Kind, ...]] = ("text", "image", "audio")
DEFAULTS: Final[dict[Kind, tuple[str, ...]]] = {
    "text": ("e5", "minilm", "words"),
    "image": ("efficientnet",),
    "audio": ("sound",),
}
"""Kind of input -> the encoders for it, the best first; the first one that can run here is the default."""


@dataclass(frozen=True)
class Identity:
    """Which encoder made a vector.

    Attributes:
        name: name of the encoder.
        version: the package and version of its weights, or the version of its rule.
        sha256: of the weights (hex), or of the table that the rule used.
    """

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} ({self.version}), sha256 {self.sha256}"


class Encoder(ABC):
    """Inputs of one kind to vectors.

    An input's vector is a function of that input, the weights and, where `prepare` says so, the texts of the whole
    catalogue. It does not depend on the other inputs of a batch.

    Args:
        model: file, folder or name of the weights, for encoders that ship none; empty for the encoder's own.
        sha256: the hash (hex) that the weights must have, in place of the pinned one; empty for the pinned one.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[Kind]]
    """Inputs: `text` is a str, `image` a `PIL.Image.Image` in RGB, `audio` a `fedrec.encoders.recordings.Recording`."""
    needs_model: ClassVar[bool] = False
    """Whether `model` must be given."""

    def __init__(self, model: str = "", sha256: str = "") -> None:
        if self.needs_model and not model:
            raise InputError(f"encoder '{self.name}' needs a model of yours: --encoder {self.name}=PATH")
        if model and not self.needs_model:
            raise InputError(f"encoder '{self.name}' has its own model; leave '={model}' out")
        self.model, self.sha256 = model, sha256

    @classmethod
    def lacking(cls) -> str:
        """Return why the encoder cannot run here, empty where it can: a package, a processor."""
        return ""

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """What names the encoder in files and statements. Valid after `prepare`."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Length of a vector."""

    def prepare(self, inputs: Iterable[Any]) -> None:
        """Look at all inputs of the catalogue once, before the first `encode`; most encoders need not.

        Args:
            inputs: the known ones.
        """
        del inputs

    @abstractmethod
    def encode(self, inputs: Sequence[Any], kind: Kind) -> np.ndarray:
        """Compute the vectors of known inputs.

        Args:
            inputs: n of one kind.
            kind: the kind.

        Returns:
            (n, width) float32; a row of zeros where an input holds nothing that the encoder reads.
        """


GROUP: Final = "fedrec.encoders"


def _built_in() -> dict[str, type[Encoder]]:
    found: dict[str, type[Encoder]] = {}
    for module in pkgutil.iter_modules(fedrec.encoders.__path__):
        for member in vars(importlib.import_module(f"fedrec.encoders.{module.name}")).values():
            if inspect.isclass(member) and issubclass(member, Encoder) and not inspect.isabstract(member):
                found[member.name] = member
    return found


def _unusable(found: Any, name: str) -> str | None:
    if not (inspect.isclass(found) and issubclass(found, Encoder)) or inspect.isabstract(found):
        return "is no concrete subclass of fedrec.encoders.base.Encoder"
    if getattr(found, "name", None) != name:
        return f"its class is named {getattr(found, 'name', None)!r}; entry point and class must have the same name"
    kinds = getattr(found, "kinds", None)
    return None if isinstance(kinds, frozenset) and kinds and kinds <= set(KINDS) else f"its kinds are not of {KINDS}"


def encoders() -> dict[str, type[Encoder]]:
    """Return every usable encoder by its name, those of other packages included."""
    return plugins.every(GROUP, _built_in(), _unusable)


def encoder(name: str) -> type[Encoder]:
    """Return the encoder called `name`, built in or installed.

    Raises:
        InputError: for an unknown encoder; the line names the nearest one.
    """
    return plugins.discover(GROUP, name, _built_in(), _unusable)


def default(kind: Kind) -> tuple[type[Encoder], str]:
    """Return the best encoder of a kind that can run here, and why the better ones cannot ("" where it is the best).

    Raises:
        InputError: when none can.
    """
    reasons: list[str] = []
    for name in DEFAULTS[kind]:
        found = encoder(name)
        lacking = found.lacking()
        if not lacking:
            return found, "; ".join(reasons)
        reasons.append(f"{name} {lacking}")
    raise InputError(f"no encoder for {kind} can run here: {'; '.join(reasons)}")
