"""The code of a run that is not fedrec's, as its ledger names it: kind, name, origin, and what it must keep."""

from collections.abc import Mapping

from fedrec.data.readers import reader_of
from fedrec.evaluation.metrics import metric_of
from fedrec.plugins import Origin, origin
from fedrec.run.scenario import Scenario
from fedrec.towers.base import tower

_PART = "Clip and noise are fedrec's; that a user's part depends on that user alone is for that code to keep"
_LEFT = {
    "algorithm": _PART,
    "tower": _PART,
    "reader": "It says which events are whose; the guarantee is for users as it names them",
    "metric": "It sees what was held out of each user; the guarantee does not cover its values",
    "encoder": "Its vectors count as public, as the catalogue does; what it was trained on is for its publisher to say",
}
"""Kinds of code that others may bring -> what the guarantee leaves to that code."""


def code_of_others(scenario: Scenario, *, measured: bool) -> dict[str, Origin]:
    """The code of others that a run of `scenario` uses, by kind and name ("algorithm mine").

    Args:
        scenario: the run's settings.
        measured: whether the true metrics are computed; a deployment has none.
    """
    found: dict[str, Origin | None] = {f"algorithm {scenario.algorithm_called}": origin(scenario.algorithm_class)}
    tower_table = getattr(scenario.algorithm_config, "tower", None)
    if isinstance(tower_table, Mapping) and "name" in tower_table:
        found[f"tower {tower_table['name']}"] = origin(tower(str(tower_table["name"])))
    if (reader := reader_of(scenario.data.name)) is not None:
        found[f"reader {scenario.data.name}"] = origin(reader)
    for kind in (name.partition("@")[0] for name in scenario.evaluation.metrics if measured):
        found[f"metric {kind}"] = origin(metric_of(kind))
    return {what: where for what, where in found.items() if where is not None}


def of_encoder(column: str, encoder: str) -> str:
    """The ledger's note on a column of vectors in the catalogue, for people."""
    return f"the catalogue's column '{column}' is said to come from the encoder {encoder}. {_LEFT['encoder']}"


def remark(what: str, where: Origin) -> str:
    """The ledger's note on one of them, for people."""
    return f"the {what} is code of others, not of fedrec: {where.text}. {_LEFT[what.partition(' ')[0]]}"


def named_in(software: Mapping[str, str]) -> dict[str, str]:
    """The entries of a ledger's `software` that name code of others."""
    return {what: text for what, text in software.items() if what.partition(" ")[0] in _LEFT and " " in what}
