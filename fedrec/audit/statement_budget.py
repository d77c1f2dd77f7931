"""What a statement says of the runs beside this one, and of how often a person takes part."""

from collections.abc import Mapping
from typing import Any


def shared_budget(budget: Mapping[str, Any] | None) -> list[str]:
    """Lines of Markdown on the budget that the run draws from; none for a run on its own."""
    if budget is None:
        return []
    return [
        f"This run draws from the budget '{budget['name']}' of the population '{budget['who']}', {budget['period']}. "
        f"All runs that draw from it, together, stay within epsilon {budget['epsilon']} at delta {budget['delta']}, "
        f"even where a later run was planned after seeing what an earlier one released, as long as each run's noise "
        f"is secret ({budget['theorem']}). Of {budget['limit']} {budget['unit']}, this run counts "
        f"{budget['this_run']} and all runs so far {budget['all_runs']}; these sums are no epsilon, only the cap is "
        f"one. Head of the budget file: `{budget['head']}`.",
        "",
    ]


def participation(rounds: Mapping[str, Any]) -> list[str]:
    """A line of Markdown on how often one person takes part."""
    return [
        f"One person takes part in {rounds['expected_rounds']:g} rounds on average and {rounds['most_rounds']} at most "
        f"(limit: {rounds['limit']}).",
        "",
    ]


def other_releases(budget: Mapping[str, Any] | None) -> str:
    """What is not protected: releases that nobody counted together with this one."""
    if budget is None:
        return "other releases from the same people: budgets of different runs add up, and this one counts only itself"
    return (
        f"releases from the same people that do not draw from the budget '{budget['name']}', those of other periods "
        f"included: they add up with its cap; and a choice that was made by anything but protected outputs"
    )
