"""A ledger with secret coins: recomputed by other code, and every lie about who contributes is found."""

import re
from typing import Any

import pytest

from fedrec.audit.entries.account import account
from fedrec.audit.entries.records import HIDDEN
from fedrec.audit.statement.statement import statement
from fedrec.audit.verify import charges as spending
from fedrec.audit.verify import skellam
from tests.core.audit.ledgers import payloads_of, plan_of
from tests.core.audit.verify.test_charges import Change, changed, faults

TERMS: dict[str, Any] = {"epsilon": 2.0, "sampling": 0.1, "participation": "hidden"}
LEDGERS = {trust: payloads_of(plan_of(trust=trust, **TERMS)) for trust in ("distributed", "local")}


@pytest.mark.parametrize("trust", LEDGERS)
def test_what_a_plan_charges_is_sound(trust: str) -> None:
    found = spending.check(account(LEDGERS[trust]))
    assert not any(found.faults)
    assert found.facts["epsilon"]["method"].endswith("secret coins")
    assert float(found.facts["epsilon"]["recomputed"]["tight"]) <= 2.0
    assert LEDGERS[trust][0]["mechanism"]["name"] == HIDDEN


def mechanism(edited: list[dict[str, Any]], name: str) -> None:
    edited[0]["mechanism"]["name"] = name
    for charge in edited:
        for event in charge.get("events", ()):
            event["mechanism"] = name


def coins(edited: list[dict[str, Any]], probability: str) -> None:
    edited[0]["sampling"]["probability"] = probability
    for charge in edited:
        if charge["type"] == "charge":
            charge["sampling"] = probability
            for event in charge["events"]:
                event["sampling"] = probability


LIES: dict[str, tuple[Change, str]] = {
    "no coin was secret": (lambda p: mechanism(p, skellam.MECHANISM), "1000 users in a round, and 100 are expected"),
    "a mechanism that nobody knows": (lambda p: mechanism(p, "Skellam, shuffled"), "can be checked"),
    "events without coins": (lambda p: p[1]["events"][0].update(mechanism=skellam.MECHANISM), "is not priced as one"),
    "a likelier coin": (lambda p: coins(p, "0.2"), "is below the recomputed"),
    "coins that always fall on one side": (lambda p: coins(p, "1.0"), "everybody does in every round"),
    "an event of another probability": (lambda p: p[1]["events"][0].update(sampling="0.05"), "priced with sampling"),
    "more users than there are": (lambda p: p[0]["shares"].update(expected=1001), "1000 are expected"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_that_is_signed_is_still_a_lie(lie: str) -> None:
    change, message = LIES[lie]
    found = faults(changed(LEDGERS["distributed"], change))
    assert any(re.search(message, fault) for fault in found), found


def test_a_ledger_without_coins_cannot_be_priced_with_them() -> None:
    found = faults(changed(LEDGERS["local"], lambda edited: (mechanism(edited, skellam.MECHANISM), expect(edited))))
    assert any("is below the recomputed" in fault for fault in found), found


def expect(edited: list[dict[str, Any]]) -> None:
    edited[0]["shares"]["expected"] = 100


def test_a_ledger_whose_cohort_the_server_knew_cannot_claim_secret_coins() -> None:
    """The noise of a cohort is less than that of everybody; a server may not count the users whom it did not ask."""
    known = payloads_of(plan_of(epsilon=2.0, trust="distributed", sampling=0.1))
    found = faults(changed(known, lambda edited: mechanism(edited, HIDDEN)))
    assert any("far above the recomputed" in fault for fault in found), found


@pytest.mark.parametrize("trust", LEDGERS)
def test_the_statement_says_why_sampling_counts_against_the_server(trust: str) -> None:
    payloads = LEDGERS[trust]
    stated = statement(account(payloads), ["00"] * (len(payloads) + 1))
    ours = plan_of(trust=trust, **TERMS)
    known = ours.discrete.adversaries(range(3))
    rows = {row.adversary: row for row in stated.adversaries}
    for name, row in rows.items():
        assert float(row.epsilon or 0) == pytest.approx(known[name], rel=1e-2, abs=2e-4), name
        assert ("amplified by sampling" in row.why) == (name != "knows_the_cohort")
    assert float(rows["server"].epsilon or 9) <= 2.0 < float(rows["knows_the_cohort"].epsilon or 0)
    assert any("draws a new coin for every charge" in row.must for row in stated.assumptions)
