"""Settings of `sequence`, and the choice of those that are left open."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from fedrec.algorithms.base import PublicFacts
from fedrec.sequences.base import EncoderConfig, SequenceEncoder, encoder
from fedrec.sequences.items import ItemsOf
from fedrec.settings import Settings, parse

TUNED_STRENGTH = 1.666 * 6040  # epsilon 8 on MovieLens-1M, where rounds and steps under privacy were chosen
LEAST_SHARE = 0.1  # of a budget, for the popularity
DIMS = (32, 16, 8, 4)  # lengths of vectors that are tried, the largest first


class SequenceConfig(Settings):
    """Settings of `sequence`."""

    encoder: dict[str, Any] = Field(default_factory=lambda: {"name": "state-space"}, validate_default=True)
    """The encoder: `name` (state-space, attention, gru, convolution, transformer, masked), and its own settings."""
    items: ItemsOf = "features"
    """What an item's vector is made of: its public `features`, its own row (`ids`), `both`, or the rows of its semantic
    ids (`codes`). Under privacy all but `features` need more users: the plan must pay for every row."""
    codes: int = Field(64, ge=2, le=65536)
    """With items `codes` or objective `generative`: different codes of a level."""
    levels: int = Field(3, ge=1, le=16)
    """With these: codes of an item, each level for what the ones before leave."""
    dim: int | None = Field(None, ge=1, le=1024)
    """Length of vectors; by default 32, or with items' own rows the most of 32, 16, 8, 4 that the plan can pay for."""
    columns: int = Field(130, ge=1, le=4096)
    """Public feature columns: the leading directions of the public kernels."""
    whitening: float = Field(0.5, ge=0, le=1)
    """Columns are divided by (their spread)^whitening: 0 keeps the kernels' shares, 1 makes all columns alike."""
    init_std: float = Field(0.1, gt=0)
    """Initial entries of items' own rows are normal with standard deviation init_std / sqrt(dim)."""
    length: int = Field(200, ge=1, le=4096)
    """Newest events of a history that are used."""
    rounds: int | None = Field(None, ge=1)
    """Steps of the server; left open, they follow from the budget."""
    objective: Literal["sampled", "full", "masked", "generative"] = "sampled"
    """What a user learns from in a round: some events against negatives; `full`, every event of the window against all
    items; `masked`, events hidden from an encoder that sees the others, against all items; `generative`, the semantic
    ids of some events, code by code, each against the codes that may follow."""
    hidden: float = Field(0.2, gt=0, lt=1)
    """Part of the events that `objective` masked hides, and the newest one always."""
    targets: int = Field(16, ge=1)
    """Most events of a user that are predicted in a round, each from the events before it."""
    newest: int = Field(4096, ge=1)
    """These events are drawn from so many of the newest ones."""
    negatives: int = Field(256, ge=1)
    """Negatives of a user in a round, for all its targets."""
    shared_negatives: bool = True
    """All users have the same draws in a round, less each user's own items; false: each user draws its own."""
    negatives_from: Literal["uniform", "mixed"] = "uniform"
    """Uniform draws, or half of them by released popularity."""
    correction: bool = False
    """Take the logarithm of an item's chance to be drawn off its score in training (importance correction)."""
    loss: Literal["softmax", "bpr", "bce"] = "softmax"
    """Loss of the scores of a target and the negatives."""
    scale: float = Field(6.0, gt=0)
    """Factor on <prediction, item> in a score, to which the popularity is added."""
    popularity_weight: float = Field(1.0, ge=0)
    """Factor on the logarithm of the released popularity in a score; 0 leaves it out, and its release too."""
    popularity_share: float | None = Field(None, gt=0, lt=1)
    """Part of the privacy budget for the popularity; left out, 0.1, and more where the budget cannot pay for the tower,
    which gets the rest."""
    clip_norm: float = Field(0.3, gt=0)
    """L2 clip on a user's whole contribution in a round, over all parameters."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size of the server's Adam; left open, it follows from privacy."""
    warmup: int = Field(0, ge=0)
    """First rounds, in which the step size rises from zero."""
    decay: Literal["none", "cosine"] = "none"
    """Whether the step size falls to zero at the last round, as half a wave of the cosine."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Rate at which Adam's first moment forgets."""
    spread: Literal["entry", "tensor"] | None = None
    """Adam divides a step by the spread of each entry's gradients, or by one spread for each parameter; by default the
    latter under privacy."""
    averaged: float = Field(0.4, ge=0, lt=1)
    """Part of the rounds, at the end, whose parameters are averaged in the release; 0 for the last ones."""

    @model_validator(mode="after")
    def _fits(self) -> "SequenceConfig":
        kind, _ = encoder_config(self.encoder)
        if kind.hides != (self.objective == "masked"):
            raise ValueError("objective = 'masked' and encoder.name = 'masked' belong together; set both or neither")
        return self

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, value: dict[str, Any]) -> dict[str, Any]:
        return encoder_settings(value)


def encoder_config(value: Mapping[str, Any]) -> tuple[type[SequenceEncoder], EncoderConfig]:
    """Return the class of an encoder and its own settings, from `name` and these settings."""
    kind = encoder(str(value.get("name", "state-space")))
    own = {key: setting for key, setting in value.items() if key != "name"}
    return kind, parse(kind.Config, own, f"[algorithm.encoder] of encoder '{kind.name}'")


def encoder_settings(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an encoder, with the open ones filled in."""
    kind, config = encoder_config(value)
    return {"name": kind.name} | config.model_dump(mode="json", exclude_none=True)


class Chosen(NamedTuple):
    """Settings that may be left open, chosen from users and budget alone (both public)."""

    rounds: int
    learning_rate: float
    spread: str

    @classmethod
    def of(cls, config: SequenceConfig, facts: PublicFacts) -> "Chosen":
        """Return the settings of `config`, with the open ones chosen. With less budget, fewer and smaller steps."""
        part = math.sqrt(min(1.0, facts.strength / TUNED_STRENGTH))
        if not facts.private:
            return cls(config.rounds or 60, config.learning_rate or 0.005, config.spread or "entry")
        rounds = config.rounds or max(6, round(30 * part))
        return cls(rounds, config.learning_rate or 0.006 * part, config.spread or "tensor")
