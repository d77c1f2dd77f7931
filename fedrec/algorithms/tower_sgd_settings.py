"""Settings of `tower-sgd`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from fedrec.settings import Settings, parse
from fedrec.towers.base import ItemTower, TowerConfig, tower
from fedrec.towers.people import PeopleConfig


class TowerSGDConfig(Settings):
    """Settings of `tower-sgd`."""

    older_names: ClassVar[Mapping[str, str]] = {
        "optimiser": "optimizer",
        "clip": "clip_norm",
        "local_rate": "local_learning_rate",
    }

    tower: dict[str, Any] = Field(default_factory=lambda: {"name": "id"}, validate_default=True)
    """Which item tower: `name` (id, content, hybrid, fusion, mlp, text-convolution), and that tower's own settings."""
    rounds: int | None = Field(None, ge=1)
    """Gradient steps of the server; by default 60 without privacy and 6 with it, so that each may cost more."""
    loss: Literal["softmax", "bpr", "bce", "squared"] = "softmax"
    """Loss of the scores of a target and its negatives."""
    ratings: bool = False
    """Predict ratings instead of events: loss `squared`, no negatives, no popularity; needs a log with ratings. The
    tower learns what item biases and a user's own taste over public features leave (see `rating-biases`)."""
    rating_centre: float = 3.5
    """With `ratings`: what a user is expected to give an item that nothing is known of (the scale's public middle)."""
    rating_low: float | None = None
    """With `ratings`: lowest rating of the public scale; left out, 1."""
    rating_high: float | None = None
    """With `ratings`: highest rating of the public scale; left out, 5."""
    targets: int | None = Field(None, ge=1)
    """Events that each user holds out in a round; by default 8 without privacy, 2 with it."""
    negatives: int | None = Field(None, ge=1)
    """Local negatives for each target; by default 20 without privacy, 16 with it."""
    hold_out: Literal["random", "next"] = "random"
    """Targets are any events, or those that follow a random cut in the history's second half."""
    alpha0: float = Field(0.3, gt=0)
    """Weight of an item without an event in the solve of a user's vector (an event weighs 1)."""
    reg: float = Field(0.003, gt=0)
    """Ridge of that solve, times (weight of the events + alpha0 x items)."""
    decay: float = Field(1.0, gt=0, le=1)
    """Recency: an event weighs decay ** (events after it)."""
    solve_steps: int = Field(0, ge=0)
    """0 solves a user's vector exactly; else that many gradient steps from zero."""
    scale: float = Field(6.0, gt=0)
    """Factor on <vector, item> in a score, to which the popularity is added; 1 with `ratings`."""
    popularity_weight: float = Field(1.0, ge=0)
    """Factor on the logarithm of the released popularity in a score; 0 leaves it out, and its release too."""
    popularity_share: float | None = Field(None, gt=0, lt=1)
    """Part of the privacy budget for the popularity; left out, 0.1, and more where the budget cannot pay for the tower,
    which gets the rest."""
    local_steps: int = Field(1, ge=1)
    """Gradient steps of each user on a copy of the tower; 1 needs no copy."""
    local_learning_rate: float = Field(0.1, gt=0)
    """Step size of several local steps."""
    clip_norm: float = Field(1.0, gt=0)
    """L2 clip on a user's whole contribution to the tower in a round."""
    optimizer: Literal["sgd", "adam"] = "adam"
    """The server's step down the mean gradient."""
    learning_rate: float | None = Field(None, gt=0)
    """The server's step size; by default 0.02, and smaller where the noise is large compared with the signal."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of `sgd`, and the first decay rate of `adam`; 0 for none."""
    people: PeopleConfig | None = None
    """Private attributes of users that count, and how: a network from them to a shift of the user's vector; left out,
    none."""
    averaged: float = Field(0.0, ge=0, lt=1)
    """Part of the rounds, at the end, whose parameters are averaged in the release; 0 for the last ones."""

    @field_validator("tower")
    @classmethod
    def _known_tower(cls, value: dict[str, Any]) -> dict[str, Any]:
        kind, config = chosen_tower(value)
        written = config.model_dump(exclude_none=True)  # a scenario that is written out holds the defaults too
        return {"name": kind.name} | written

    @model_validator(mode="after")
    def _fits(self) -> "TowerSGDConfig":
        if self.ratings and self.loss != "squared":
            raise ValueError(f"ratings = true needs loss = 'squared', not '{self.loss}'")
        if self.ratings and self.people is not None:
            raise ValueError("people is for events; leave it out, or ratings = true")
        if self.people is not None and self.tower.get("adapter") is not None:
            raise ValueError("people is not for a tower with an adapter; leave one of them out")
        low, high = self.rating_scale
        if not low < self.rating_centre < high:
            raise ValueError(
                f"rating_low, rating_centre, rating_high = {low:g}, {self.rating_centre:g}, {high:g}: must ascend"
            )
        return self

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `people` out where it is None, so that the settings of a run without it are those of older versions."""
        return {name: value for name, value in written(self).items() if name != "people" or value is not None}

    @property
    def rating_scale(self) -> tuple[float, float]:
        """The ends of the public scale."""
        return (
            1.0 if self.rating_low is None else self.rating_low,
            5.0 if self.rating_high is None else self.rating_high,
        )


def chosen_tower(value: Mapping[str, Any]) -> tuple[type[ItemTower], TowerConfig]:
    """Return the item tower that the setting `tower` names, and its own settings."""
    kind = tower(str(value.get("name", "id")))
    own = {key: setting for key, setting in value.items() if key != "name"}
    return kind, parse(kind.Config, own, f"[algorithm.tower] of tower '{kind.name}'")
