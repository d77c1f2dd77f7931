"""How a run begins or goes on: which seeds it has, and whether the folder, the settings and the data are its own."""

import secrets
from collections.abc import Mapping
from typing import Any

from fedrec.errors import InputError
from fedrec.run.checkpoint import load_checkpoint
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import Scenario, difference, load_scenario


def open_run(scenario: Scenario, folder: RunDirectory, *, resume: bool) -> tuple[Scenario, int, bool]:
    """The scenario with its seed settled, the public seed, and whether the run was begun before.

    An unseeded run that was broken off before its first checkpoint drew nothing yet, so it begins with a new seed.
    Raises: InputError when the folder cannot take the run, or holds another one.
    """
    if not resume:
        folder.check_free()
        if scenario.seed is not None:
            return scenario, scenario.seed, False
        public_seed = secrets.randbits(62)
        return scenario if scenario.privacy.private else _with_seed(scenario, public_seed), public_seed, False
    if not folder.holds_run:
        raise InputError(f"--resume: {folder.path} holds no run; start one without --resume")
    began = load_scenario(str(folder.scenario), own_code=str(scenario.algorithm["name"]))
    if scenario.seed is None and not scenario.privacy.private:
        scenario = _with_seed(scenario, began.seed)
    other = difference(began.resolved(), scenario.resolved())
    if other:
        raise InputError(f"--resume: {other}; a run goes on with the settings that it began with")
    if scenario.seed is not None:
        return scenario, scenario.seed, True
    if folder.checkpoint.is_file():
        return scenario, load_checkpoint(folder.checkpoint).run["public_seed"], True
    if folder.ledger.is_file() and folder.ledger.read_bytes().count(b"\n") > 1:  # more than how the run began
        raise InputError(f"--resume: {folder.path} has charges and lost its checkpoint; start anew elsewhere")
    return scenario, secrets.randbits(62), True


def same_data(before: dict[str, Any], now: Mapping[str, Any]) -> None:
    """Raises: InputError when the data of a resumed run are not those that it began with (JSON-able facts each)."""
    other = difference(before, now, "data: ")
    if other:
        raise InputError(f"--resume: {other}; a run goes on with the data that it began with")


def _with_seed(scenario: Scenario, seed: int | None) -> Scenario:
    return scenario.model_copy(update={"seed": seed})
