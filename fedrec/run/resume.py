"""The start of a new or resumed run: its seeds, and checks of its folder, settings and data."""

import secrets
from collections.abc import Mapping
from typing import Any

from fedrec.errors import InputError
from fedrec.run.checkpoint import load_checkpoint
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import Scenario, difference, load_scenario


def open_run(scenario: Scenario, folder: RunDirectory, *, resume: bool) -> tuple[Scenario, int, bool]:
    """Check the folder and settle the seeds of a run.

    An unseeded run that was interrupted before its first checkpoint drew nothing yet, so it gets a new seed.

    Args:
        scenario: the scenario of the run.
        folder: the run's folder: free for a new run, with the same settings for a resumed one.
        resume: continue the run in the folder.
    Returns: the scenario with its seed, the public seed, and whether the run is resumed.
    Raises: InputError when the folder cannot take the run, or contains another one.
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
    began = _with_newer(began, began.algorithm_class.Config.older_values)
    if scenario.algorithm["name"] == began.algorithm["name"]:
        scenario = _with_newer(scenario, began.algorithm_config.model_dump(mode="json"))
    if scenario.seed is None and not scenario.privacy.private:
        scenario = _with_seed(scenario, began.seed)
    other = difference(began.resolved(), scenario.resolved())
    if other:
        raise InputError(f"--resume: {other}; a resumed run keeps the settings that it began with")
    if scenario.seed is not None:
        return scenario, scenario.seed, True
    if folder.checkpoint.is_file():
        return scenario, load_checkpoint(folder.checkpoint).run["public_seed"], True
    if folder.ledger.is_file() and folder.ledger.read_bytes().count(b"\n") > 1:  # more than the `begin` record
        raise InputError(f"--resume: {folder.path} has charges and lost its checkpoint; start anew elsewhere")
    return scenario, secrets.randbits(62), True


def _with_newer(scenario: Scenario, values: Mapping[str, Any]) -> Scenario:
    """Return the scenario with `values` for the algorithm's newer settings that its text lacks."""
    newer = [name for name in scenario.algorithm_class.Config.older_values if name not in scenario.algorithm]
    if not newer:
        return scenario
    made = scenario.model_copy(update={"algorithm": scenario.algorithm | {name: values[name] for name in newer}})
    made.__dict__.pop("algorithm_config", None)  # of the settings before
    return made


def same_data(before: dict[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a resumed run has the data that it began with.

    Args:
        before: JSON-able facts of the data at the begin.
        now: the same facts of the data now.
    Raises: InputError for the first difference.
    """
    other = difference(before, now, "data: ")
    if other:
        raise InputError(f"--resume: {other}; a resumed run keeps the data that it began with")


def _with_seed(scenario: Scenario, seed: int | None) -> Scenario:
    return scenario.model_copy(update={"seed": seed})
