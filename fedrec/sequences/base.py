"""The sequence encoder: a small network from the vectors of a user's events to a prediction after each of them.

Users train it together under privacy, so it is a function of one user's own events: no statistic over a batch, and
every operation works under `torch.func`. A new encoder is one new file in this folder with a `name`, a `Config` and
`encode`.
"""

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import fedrec.sequences
from fedrec.errors import InputError, nearest
from fedrec.settings import Settings


class EncoderConfig(Settings):
    """Settings of every encoder."""


class SequenceEncoder(nn.Module, ABC):
    """Vectors of events to predictions.

    Args:
        config: the encoder's own settings.
        dim: length d of a vector.
        length: most events of a history.
        seed: of random initial values, if any.
    """

    name: ClassVar[str]
    Config: ClassVar[type[EncoderConfig]]
    hides: ClassVar[bool] = False
    """Whether it also sees later events in training, and learns those that are hidden from it (`objective` masked)."""
    fill: ClassVar[float] = 0.75
    """Without privacy users train in padded groups; the shortest history is at least this part of the longest."""

    def __init__(self, config: Any, dim: int, length: int, seed: int) -> None:
        super().__init__()
        self.config, self.dim, self.length = config, dim, length

    @abstractmethod
    def encode(self, inputs: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        """Compute predictions at some positions; see `forward`."""

    def forward(self, inputs: Tensor, mask: Tensor, at: Tensor | None = None) -> Tensor:
        """Compute predictions. The one at position t depends on the events up to t alone.

        Args:
            inputs: (B, L, d) vectors of each user's events, oldest first, L at most `length`.
            mask: (B, L) bool, false after the user's last event.
            at: (B, T) int64 positions of the predictions; None for every position.

        Returns:
            (B, T, d); without events (B, L, d) zeros at the positions that `mask` leaves out.
        """
        inputs = inputs * mask[:, :, None]
        if at is not None:
            return self.encode(inputs, mask, at)
        every = torch.arange(inputs.shape[1], device=inputs.device).expand(len(inputs), -1)
        return self.encode(inputs, mask, every) * mask[:, :, None]

    def alone(self, inputs: Tensor, key: Tensor) -> Tensor:
        """Predict after every event of one user's history, in training.

        Args:
            inputs: (L, d) vectors of the events, oldest first, L at most `length`.
            key: (1,) int64, seed of the user's own randomness in this round, for dropout.

        Returns:
            (L, d), as from `forward` but for dropout.
        """
        return self.together(inputs[None], torch.ones(1, len(inputs), dtype=torch.bool, device=inputs.device), key)[0]

    def together(self, inputs: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        """Predict after every event of several users' histories, in training.

        Args:
            inputs: (B, L, d) vectors of the events, oldest first, L at most `length`.
            mask: (B, L) bool, false after a user's last event.
            keys: (B,) int64, as for `alone`.

        Returns:
            (B, L, d), as from `alone` at the positions of `mask`; the others mean nothing.
        """
        found: Tensor = self(inputs, mask)
        return found


def picked(values: Tensor, at: Tensor) -> Tensor:
    """Pick (B, T, d) at positions `at` (B, T) from values (B, L, d)."""
    return values.gather(1, at[:, :, None].expand(-1, -1, values.shape[2]))


def lags(at: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Steps back from each position `at` (B, T) to each event, (B, T, L) int64, at least 0; and which are back."""
    back = at[:, :, None] - torch.arange(length, device=at.device)
    return back.clamp(min=0), back >= 0


def encoders() -> dict[str, type[SequenceEncoder]]:
    """Return every encoder by its name."""
    found: dict[str, type[SequenceEncoder]] = {}
    for module in pkgutil.iter_modules(fedrec.sequences.__path__):
        for member in vars(importlib.import_module(f"fedrec.sequences.{module.name}")).values():
            if inspect.isclass(member) and issubclass(member, SequenceEncoder) and not inspect.isabstract(member):
                found[member.name] = member
    return found


def encoder(name: str) -> type[SequenceEncoder]:
    """Return the encoder called `name`.

    Raises:
        InputError: for an unknown one; the line names the nearest.
    """
    known = encoders()
    if name not in known:
        raise InputError(
            f"unknown sequence encoder '{name}'; there are {', '.join(sorted(known))}.{nearest(name, known)}"
        )
    return known[name]
