"""A ledger of Skellam noise that its owner signed must still be consistent, and mathematically right."""

import copy
import re
from typing import Any

import pytest

from fedrec.audit.entries.account import account
from fedrec.audit.entries.events import charges, events_of
from fedrec.audit.statement.statement import statement
from fedrec.audit.verify import charges as spending
from fedrec.errors import VerificationError
from tests.core.audit.ledgers import payloads_of, plan_of
from tests.core.audit.verify.test_charges import Change, changed, faults, numbers, scaled

TRUSTS = ("distributed", "local")
LEDGERS = {trust: payloads_of(plan_of(epsilon=2.0, trust=trust)) for trust in TRUSTS}
SAMPLED = payloads_of(plan_of(epsilon=2.0, trust="distributed", sampling=0.3))


def charged(payloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [payload for payload in payloads if payload["type"] == "charge"]


@pytest.mark.parametrize("trust", TRUSTS)
def test_what_a_plan_charges_is_sound(trust: str) -> None:
    found = spending.check(account(LEDGERS[trust]))
    assert not any(found.faults)
    assert found.facts["epsilon"]["recorded"]["pld"] is None
    assert faults(SAMPLED) == []


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_every_number_of_every_charge_is_pinned(factor: float) -> None:
    payloads = LEDGERS["distributed"]
    tried = set()
    for index in (number for number, payload in enumerate(payloads) if payload["type"] == "charge"):
        for path in numbers(payloads[index]):
            found = faults(changed(payloads, lambda edited, at=index, way=path: scaled(edited[at], way, factor)))
            assert found, (index, path)
            tried.add(path[-1])
    assert {"variance", "squared", "absolute", "share_variance", "length", "bits", "rdp"} <= tried


def everywhere(edited: list[dict[str, Any]], change: Any) -> None:
    """Change the terms, the queries and the events alike, so that only mathematics is left to object."""
    queries = [query for group in edited[0]["plan"] for query in group["queries"]]
    for query in queries + [query for charge in charged(edited) for query in charge["queries"]]:
        change(query, query["discrete"])
    for charge in charged(edited):
        for event in charge["events"]:
            change(event, event)


def half_the_noise(part: dict[str, Any], integers: dict[str, Any]) -> None:
    for name in ("share_variance", "variance"):
        if name in integers:
            integers[name] = repr(float(integers[name]) / 4)
    part["noise_multiplier"] = repr(float(part["noise_multiplier"]) / 2)
    if "clip_norm" in part:
        part["noise_std"] = repr(float(part["noise_multiplier"]) * float(part["clip_norm"]))


def shorter_integers(part: dict[str, Any], integers: dict[str, Any]) -> None:
    integers["squared"] //= 4
    integers["absolute"] = max(1, integers["absolute"] // 2)
    part["noise_multiplier"] = repr(float(part["noise_multiplier"]) * 2)


def no_length(part: dict[str, Any], integers: dict[str, Any]) -> None:
    integers["absolute"] = int(integers["squared"] ** 0.5) + 1


LIES: dict[str, tuple[Change, str]] = {
    "half the noise": (lambda p: everywhere(p, half_the_noise), "is below the recomputed"),
    "integers shorter than the clip": (lambda p: everywhere(p, shorter_integers), "below the clip"),
    "a small L1 bound": (lambda p: everywhere(p, no_length), "below what their L2 norm allows"),
    "more honest users": (lambda p: p[0]["shares"].update(colluding=0), "another variance than"),
    "more users than are asked": (lambda p: p[0]["shares"].update(expected=10**6), "are expected"),
    "no user who gets the model": (lambda p: p[0]["shares"].update(colluding=0), "may be a user who knows its own"),
    "a lower cap": (lambda p: p[0].update(target_epsilon="1.9"), "past the cap"),
    "a lower epsilon": (lambda p: p[2]["epsilon"].update(rdp="0.100000"), "is below the recomputed"),
    "an epsilon by PLD": (lambda p: p[1]["epsilon"].update(pld="1.000000"), "none is known"),
    "a Gaussian event": (
        lambda p: p[1]["events"][0].update(mechanism="Poisson-sampled Gaussian, add or remove one user"),
        "is not priced as one",
    ),
    "an event less": (lambda p: p[2]["events"].pop(), "1 events for 2 queries"),
    "no integers": (lambda p: p[1]["queries"][0].pop("discrete"), "has no integers"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_that_is_signed_is_still_a_lie(lie: str) -> None:
    change, message = LIES[lie]
    found = faults(changed(LEDGERS["distributed"], change))
    assert any(re.search(message, fault) for fault in found), found


def test_local_cannot_count_the_noise_of_others() -> None:
    def many(edited: list[dict[str, Any]]) -> None:
        edited[0]["shares"]["least"] = 100

    assert any("each hides alone" in fault for fault in faults(changed(LEDGERS["local"], many)))


@pytest.mark.parametrize(
    ("trust", "shares"),
    [
        ("central", {"expected": 9, "least": 9, "colluding": 0, "aggregator": "peers"}),
        ("distributed", None),
        ("distributed", {"expected": 9, "least": 9, "colluding": 9, "aggregator": "peers"}),
        ("distributed", {"expected": 8, "least": 9, "colluding": 0, "aggregator": "peers"}),
        ("nobody", None),
    ],
)
def test_a_beginning_without_an_honest_user_is_refused(trust: str, shares: dict[str, Any] | None) -> None:
    edited = copy.deepcopy(LEDGERS["distributed"])
    edited[0] |= {"trust": trust, "shares": shares}
    with pytest.raises(VerificationError, match="record 0 is no begin record"):
        account(edited)


def test_the_statement_gives_epsilon_against_each_adversary() -> None:
    ours = plan_of(epsilon=2.0, trust="distributed", aggregator="helper", dropout=0.1, colluding=0.05)
    payloads = payloads_of(ours)
    stated = statement(account(payloads), ["00"] * (len(payloads) + 1))
    known = ours.discrete.adversaries(range(3))
    rows = {row.adversary: row for row in stated.adversaries}
    assert set(rows) == set(known)
    for name, row in rows.items():
        assert float(row.epsilon or 0) == pytest.approx(known[name], rel=1e-2, abs=2e-4), name
        assert float(row.epsilon or 0) >= known[name] * (1 - 1e-2)
    assert stated.epsilon == rows["server_with_colluders"].epsilon
    assert stated.accountants.pld is None
    assert "50 other users" in rows["server_with_colluders"].who
    alone = statement(account(LEDGERS["local"]), ["00"] * 9)
    assert {row.epsilon for row in alone.adversaries} == {alone.epsilon}


def test_skellam_events_are_not_added_up_as_gaussian_ones() -> None:
    with pytest.raises(VerificationError, match="not Gaussian"):
        events_of(charges(LEDGERS["distributed"]))
