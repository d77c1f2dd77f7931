"""The statement for a reader who is no expert, in Markdown.

Names come from the operator of the training. None of them can begin a line or a cell of its own.
"""

import math
from typing import Any

from pydantic import BaseModel

from fedrec.audit.entries.records import PopulationBudget
from fedrec.audit.statement.schema import DpFyRow, Participation, PrivacyStatement, PyramidRow
from fedrec.plain_text import plain

ADAPTIVE = (
    "A clip with a range adapts: in each round clip and noise are multiplied by one factor of that range, which is "
    "public and follows from earlier private sums alone. The noise in clips, and so every epsilon, is the same for "
    "each factor."
)


def as_text(stated: PrivacyStatement) -> str:
    """The statement as `statement.md` has it. stated: a whole statement."""
    stated = _inline(stated)
    data = stated.dataset
    counts = (("users", data.users), ("items", data.items))
    about = ", ".join(f"{count:,} {what}" for what, count in counts if count is not None)
    lines = ["# Privacy statement", "", " ".join(stated.promise), "", f"Precisely: {stated.precisely}", ""]
    lines += [f"Data: {data.name} ({about}).", ""]
    lines += _adversaries(stated)
    lines += [*shared_budget(stated.population_budget), *_participation(stated.participation)]
    if stated.stopped:
        left = len(stated.stopped.unrun)
        lines += [f"The run stopped early on its private metrics; {left} rounds that it left out are charged, too.", ""]
    lines += _assumptions(stated)
    lines += ["## What is not protected", "", *(f"- {what};" for what in stated.not_protected), ""]
    if stated.unprotected:
        lines += ["The run itself recorded that these are not protected:", ""]
        lines += [*(f"- {what};" for what in stated.unprotected), ""]
    if stated.not_recorded:
        lines += ["## What is not recorded", "", *(f"- {what};" for what in stated.not_recorded), ""]
    lines += _releases(stated)
    lines += ["## Checklists", "", "| item | answered | this run |", "|---|---|---|"]
    rows: list[DpFyRow | PyramidRow] = [*stated.checklists.how_to_dp_fy_ml, *stated.checklists.nist_sp_800_226]
    lines += [f"| {row.item} | {row.status} | {row.answer} |" for row in rows]
    scenario, software = stated.scenario, stated.software
    versions = ", ".join(f"{name} {version}" for name, version in software.items())
    lines += ["", f"To check the record: `{stated.verification.command}`.", ""]
    lines += [f"Scenario: {scenario.name}, algorithm {scenario.algorithm}, SHA-256 `{scenario.fingerprint}`."]
    lines += [f"Software: {versions}."]
    lines += [f"Noise: {stated.noise_source}. Ledger: {stated.ledger.entries} entries, head"]
    lines += [f"`{stated.ledger.head}`.", ""]
    return "\n".join(lines)


def shared_budget(budget: PopulationBudget | None) -> list[str]:
    """Lines of Markdown on the budget that the run draws from; none for a run on its own."""
    if budget is None:
        return []
    return [
        f"This run draws from the budget '{budget.name}' ({budget.id}) of the population '{budget.who}', "
        f"{budget.period}. All runs that draw from it, together, stay within epsilon {budget.epsilon} at delta "
        f"{budget.delta}, even where a later run was planned after seeing what an earlier one released, as long as "
        f"each run's noise is secret ({budget.theorem}). Of {budget.limit} {budget.unit}, this run reserved "
        f"{budget.reserved} as {budget.run}; all runs then counted {budget.all_runs}. These sums are no "
        f"epsilon, only the cap is one. Head of the budget file then: `{budget.head}`.",
        "",
    ]


def _inline(value: Any) -> Any:
    """The same, each text on one line and without the sign that parts the cells of a table."""
    if isinstance(value, str):
        return plain(value).replace("|", "\\|")
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: _inline(getattr(value, name)) for name in type(value).model_fields})
    if isinstance(value, dict):
        return {key: _inline(part) for key, part in value.items()}
    return [_inline(part) for part in value] if isinstance(value, list) else value


def _adversaries(stated: PrivacyStatement) -> list[str]:
    lines = ["## How much can be learned about one person", "", "| by whom | epsilon |", "|---|---|"]
    lines += [f"| {row.who} | {row.epsilon or 'no bound'} |" for row in stated.adversaries]
    lines += ["", f"A smaller epsilon is a stronger promise; 0 means nothing. Delta: {stated.delta or 'none'}.", ""]
    if stated.trust != "central":
        return [*lines, "Epsilon is by Renyi DP of Skellam noise, at whole orders: an upper bound.", ""]
    values = ", ".join(f"{name.upper()} {value or 'no bound'}" for name, value in stated.accountants)
    return [*lines, f"Two independent accountants priced the same releases: {values}. Both are upper bounds.", ""]


def _participation(rounds: Participation) -> list[str]:
    return [
        f"One person takes part in {rounds.expected_rounds:g} rounds on average and {rounds.most_rounds} at most "
        f"(limit: {rounds.limit}).",
        "",
    ]


def _assumptions(stated: PrivacyStatement) -> list[str]:
    if not stated.assumptions:
        return []
    lines = ["## It holds as long as", "", "| who | must keep | enforced |", "|---|---|---|"]
    lines += [f"| {row.who} | {row.must} | {row.enforced}: {row.how} |" for row in stated.assumptions]
    return [*lines, ""]


def _releases(stated: PrivacyStatement) -> list[str]:
    if not stated.releases:
        return []
    lines = ["## What was released", ""]
    lines += ["| sum | numbers | rounds | clip | noise, in clips |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {math.prod(row.shape):,} | {row.rounds} | {row.clip} | {float(row.noise_multiplier):.4g} |"
        for row in stated.releases
    ]
    if any(row.factors is not None for row in stated.releases):
        lines += ["", ADAPTIVE]
    return [*lines, ""]
