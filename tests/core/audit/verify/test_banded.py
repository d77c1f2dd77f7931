"""A ledger of correlated noise that its owner signed must still be consistent, and mathematically right."""

import json
from typing import Any

import pytest

from fedrec.audit.accountant.recompute import gaussian_epsilon
from fedrec.audit.entries.account import account
from fedrec.audit.statement.statement import statement
from fedrec.audit.verify import charges as spending
from fedrec.privacy.queries import SumQuery
from tests.core.audit.ledgers import begun, plan_of
from tests.core.audit.verify.test_charges import Change, changed, faults

ROUNDS = [
    (SumQuery("popularity", (50,), 0.5, 0.4),),
    *[(SumQuery("tower", (4, 4), 2.0, 0.04), SumQuery("bias", (4,), 1.0, 0.06))] * 6,
]


def payloads(charged: list[int] | None = None, epsilon: float = 2.0) -> list[dict[str, Any]]:
    plan = plan_of(ROUNDS, epsilon=epsilon, noise="banded", separation=3)
    charges = [plan.charge(number).payload() for number in (charged or range(len(ROUNDS)))]
    return json.loads(json.dumps([begun(plan), *charges]))


LEDGER = payloads()


def test_what_a_plan_charges_is_sound_and_recomputed_without_its_code() -> None:
    found = spending.check(account(LEDGER))
    assert not any(found.faults)
    told = found.facts["epsilon"]
    assert told["method"] == "exact Gaussian"
    squared = 0.0
    for charge in LEDGER[1:]:
        for query in charge["queries"]:
            shift = float(query["banded"]["coefficients"][charge["step"] % 3]) if "banded" in query else 1.0
            squared += (shift / float(query["noise_multiplier"])) ** 2
    assert float(told["recomputed"]["tight"]) == pytest.approx(float(gaussian_epsilon(squared**0.5, 1e-5)), abs=1e-6)
    assert float(told["recorded"]["pld"]) == pytest.approx(2.0, abs=0.003)


def test_a_stream_that_began_anew_is_sound() -> None:
    assert faults(payloads([0, 1, 2, 2, 3])) == []


def test_the_statement_names_participation_and_what_nobody_counted() -> None:
    known = account(LEDGER)
    made = statement(known, ["0" * 64] * (len(LEDGER) + 1))
    assert made.participation.most_rounds == 3
    assert made.participation.expected_rounds == pytest.approx(3)
    assert made.participation.limit == "one of every 3 rounds that ask the same"
    assert any("at most one of every 3 rounds" in row.must for row in made.assumptions)
    assert [row.share for row in made.budget] == ["0.4000", "0.2400", "0.3600"]


def terms(edited: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the terms of every query, in record 0 and in the charges."""
    named = [query for group in edited[0]["plan"] for query in group["queries"]]
    return named + [query for charge in edited[1:] for query in charge["queries"]]


def each_factor(coefficients: list[str]) -> Change:
    def change(edited: list[dict[str, Any]]) -> None:
        for query in terms(edited):
            if "banded" in query:
                query["banded"]["coefficients"] = coefficients

    return change


def closer(edited: list[dict[str, Any]]) -> None:
    for query in terms(edited):
        if "banded" in query:
            query["banded"]["separation"] = 2


LIES: dict[str, tuple[Change, str]] = {
    "coefficients that rise": (each_factor(["1.0", "0.1", "0.2"]), "or that rise"),
    "a small first coefficient": (each_factor(["0.5", "0.4", "0.3"]), "do not begin with 1"),
    "more bands than rounds between participations": (closer, "users take part every 2"),
    "steps that pay less": (each_factor(["1.0", "0.1", "0.1"]), "does not follow from its queries"),
    "a step that is not the next": (lambda p: p[2].update(step=2), "is not the step before"),
    "a begin that pays as a later step": (lambda p: p[2].update(step=4), "is not the step before"),
    "a step left out": (lambda p: p[3].pop("step"), "without a step"),
    "a step of a round alone": (lambda p: p[1].update(step=0), "without correlated noise"),
    "two kinds of correlation": (lambda p: p[3]["queries"][0].pop("banded"), "in different ways"),
    "an event left out": (lambda p: p[3].update(events=[]), "its event is not one"),
    "less noise": (lambda p: p[3]["events"][0].update(noise_multiplier="99.0"), "does not follow from its queries"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_the_correlation_is_found(lie: str) -> None:
    change, line = LIES[lie]
    assert any(line in fault for fault in faults(changed(LEDGER, change))), faults(changed(LEDGER, change))
