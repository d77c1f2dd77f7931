"""Which algorithms a device trains with numpy; the others need torch."""

from collections.abc import Mapping
from typing import Any

from fedrec.errors import InputError
from fedrec.ondevice.training.als import ALSTraining
from fedrec.ondevice.training.base import RunFacts, Training
from fedrec.ondevice.training.kernel_rank import KernelRankTraining
from fedrec.ondevice.training.popularity import PopularityTraining

TRAININGS: dict[str, type[Training]] = {
    kind.algorithm: kind for kind in (PopularityTraining, ALSTraining, KernelRankTraining)
}
"""Name of an algorithm -> its device form."""


def training(algorithm: str, settings: Mapping[str, Any], facts: RunFacts) -> Training:
    """Return the device's side of an algorithm of `TRAININGS`.

    Args:
        algorithm: its name.
        settings: its own, as a run's description states them.
        facts: of the run.

    Raises: InputError for settings that it cannot use.
    """
    try:
        return TRAININGS[algorithm](settings, facts)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"the run's settings of '{algorithm}' cannot be used; install the server's fedrec") from None
