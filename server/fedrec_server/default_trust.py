"""The trust model of a run over nodes whose scenario names none: `distributed`, and never a weaker one in silence."""

import contextlib
import tomllib
from collections.abc import Sequence
from pathlib import Path

from fedrec.errors import InputError, PrivacyError
from fedrec.privacy.config import check_over_nodes
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario, read_values

DEFAULT = "distributed"
NOTE = "trust model distributed: users add the noise, and the server sees noisy sums alone"
REMEDY = "or say that the server may see sums without noise: --set privacy.trust=central"


def with_trust(name: str, changes: Sequence[str], out: Path | None, *, resume: bool) -> list[str]:
    """Return the changes of a run, with its trust model where nobody named one.

    Args:
        name: of the scenario, or its file.
        changes: `key=value` texts.
        out: the run's folder.
        resume: whether the run in it continues; then its own trust model does.

    Raises: InputError for a run that cannot have the default, with what to do.
    """
    if any(change.partition("=")[0].strip() == "privacy.trust" for change in changes):
        return list(changes)
    if resume and out is not None and RunDirectory(out).holds_run:
        return [*changes, f"privacy.trust={_begun(RunDirectory(out).scenario)}"]
    chosen = [*changes, f"privacy.trust={DEFAULT}"]
    try:
        privacy = load_scenario(name, changes).privacy
    except InputError as error:  # of a setting of `distributed` alone, as the scenario names no trust model?
        if not _names_one(name):
            with contextlib.suppress(InputError, PrivacyError):
                load_scenario(name, chosen)
                return chosen
        raise error
    if "trust" in privacy.model_fields_set or not privacy.private:
        return list(changes)
    try:
        scenario = load_scenario(name, chosen)
        check_over_nodes(scenario.privacy, scenario.engine.nodes, scenario.seed, "fedrec server", helper=True)
    except (InputError, PrivacyError) as error:
        raise InputError(f"{error}; {REMEDY}") from None
    return chosen


def _names_one(name: str) -> bool:
    table = read_values(name).get("privacy")
    return not isinstance(table, dict) or "trust" in table


def _begun(scenario: Path) -> str:
    """Return the trust model of a run's own scenario, which has every setting that is not the default."""
    try:
        values = tomllib.loads(scenario.read_text(encoding="utf-8"))
        return str(values.get("privacy", {}).get("trust", "central"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{scenario}: cannot be read ({type(error).__name__}); restore it from a copy") from None
