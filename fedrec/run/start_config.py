"""The `[start]` table of a scenario: the run whose release another one starts from."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from fedrec.algorithms.base import Algorithm
from fedrec.algorithms.discover import algorithms
from fedrec.data.matching import By
from fedrec.errors import InputError
from fedrec.settings import Settings


class StartConfig(Settings):
    """The release of another run, as the start of this one."""

    run: Path | None = None
    """A run's folder, or its release/; None: the algorithm's own start."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """SHA-256 of its model file, which a run writes into its own scenario; given, the model must be that one."""
    public: bool = False
    """Declare the log of a run without privacy public. Nothing is promised to its people."""
    people: Literal["other", "same"] | None = None
    """Whether the people of a private run are others, or the same; left out, runs on one dataset are of the same."""
    match: By = "id"
    """Whether items match by their public id, or by title and year, which the data of both runs must have."""

    @model_validator(mode="after")
    def _of_a_run(self) -> "StartConfig":
        if self.run is None and self != type(self).model_construct():
            raise ValueError("public, people, match and sha256 belong to a run; give run (--init RUN) as well")
        return self


def check_start(config: StartConfig, kind: type[Algorithm], name: str) -> None:
    """Check that an algorithm can start from another run.

    Args:
        config: the `[start]` table.
        kind: the algorithm.
        name: the scenario's name, for the message.

    Raises:
        InputError: naming the algorithms that can.
    """
    if config.run is not None and not kind.begins:
        able = sorted(each for each, other in algorithms().items() if other.begins)
        raise InputError(
            f"scenario '{name}': '{kind.name}' learns no item vectors that it could start from another run (--init, "
            f"[start]); these do: {', '.join(able)}"
        )
