"""The owner of the key can sign anything: a signed ledger must still be consistent, and mathematically right."""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fedrec.audit.entries.account import account
from fedrec.audit.verify import charges as spending
from fedrec.errors import VerificationError
from tests.core.audit.ledgers import long_payloads, payloads_of, plan_of

PAYLOADS = payloads_of(plan_of(epsilon=2.0))
SAMPLED = payloads_of(plan_of(epsilon=2.0, sampling=0.3))
Change = Callable[[list[dict[str, Any]]], Any]


def faults(payloads: list[dict[str, Any]]) -> list[str]:
    try:
        return [fault for group in spending.check(account(payloads)).faults for fault in group]
    except VerificationError as error:  # a record that is none
        return [str(error)]


def changed(payloads: list[dict[str, Any]], change: Change) -> list[dict[str, Any]]:
    edited = copy.deepcopy(payloads)
    change(edited)
    return edited


def test_what_a_plan_charges_is_sound() -> None:
    assert faults(PAYLOADS) == []
    assert faults(SAMPLED) == []


def test_a_cap_between_two_sixth_decimals_is_not_passed_by_rounding_up() -> None:
    assert faults(payloads_of(plan_of(epsilon=1 / 3))) == []


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every number in a payload, a text or not."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from numbers(inner, (*path, place))
    elif isinstance(value, int) or (isinstance(value, str) and value.replace(".", "").replace("e-", "").isdigit()):
        yield path


def scaled(payload: dict[str, Any], path: tuple[Any, ...], factor: float) -> None:
    *way, last = path
    for step in way:
        payload = payload[step]
    value = payload[last]
    payload[last] = value + (1 if factor > 1 else -1) if isinstance(value, int) else repr(float(value) * factor)


@pytest.mark.parametrize("payloads", [PAYLOADS, SAMPLED], ids=["full", "sampled"])
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_every_number_of_every_charge_is_pinned(payloads: list[dict[str, Any]], factor: float) -> None:
    """Epsilon, clip, noise, shape, event, delta, sampling, round: 5 % more or less of any one is noticed."""
    charges = [index for index, payload in enumerate(payloads) if payload["type"] == "charge"]
    tried = set()
    for index in charges:
        for path in numbers(payloads[index]):
            found = faults(changed(payloads, lambda edited, at=index, way=path: scaled(edited[at], way, factor)))
            assert found, (index, path)
            tried.add(path[0] if path[0] in ("epsilon", "delta", "sampling", "round") else path[-1])
    assert {"epsilon", "clip_norm", "noise_multiplier", "noise_std", "count", "delta", "round"} <= tried


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_the_terms_of_the_beginning_are_pinned_by_the_charges(factor: float) -> None:
    for path in numbers(PAYLOADS[0]["plan"]):
        assert faults(changed(PAYLOADS, lambda edited, way=path: scaled(edited[0]["plan"], way, factor))), path


def halve_noise(edited: list[dict[str, Any]]) -> None:
    """Consistent lies, from the terms to the events: only the mathematics is left to object."""
    queries = [query for group in edited[0]["plan"] for query in group["queries"]]
    queries += [query for payload in edited if payload["type"] == "charge" for query in payload["queries"]]
    for query in queries:
        query["noise_multiplier"] = repr(float(query["noise_multiplier"]) / 2)
        query["noise_std"] = repr(float(query["noise_multiplier"]) * float(query["clip_norm"]))
    for payload in edited:
        for event in payload.get("events", ()):
            event["noise_multiplier"] = repr(float(event["noise_multiplier"]) / 2)


LIES: dict[str, tuple[Change, str]] = {
    "half the noise": (halve_noise, "recorded epsilon .* is below the recomputed"),
    "a lower epsilon everywhere": (
        lambda p: [each["epsilon"].update(pld=f"{float(each['epsilon']['pld']) * 0.98:.6f}") for each in p[1:-1]],
        "is below the recomputed",
    ),
    "a charge less": (lambda p: p.pop(2), "not a round that comes next"),
    "the last charge less": (lambda p: p.pop(3), "finished rounds, 2 were charged"),
    "a charge that is free": (lambda p: p.insert(2, copy.deepcopy(p[2])), "is below the recomputed"),
    "a lower cap": (lambda p: p[0].update(target_epsilon="1.9"), "past the cap"),
    "an event that nobody can price": (lambda p: p[1]["events"][0].update(mechanism="magic"), "its event is not one"),
    "an event less": (lambda p: p[1].update(events=[]), "its event is not one"),
    "more sampling": (lambda p: p[1].update(sampling="0.5"), "sampling 0.5, record 0 says 1.0"),
    "no beginning": (lambda p: p.pop(0), "does not say what the run promises"),
    "two beginnings": (lambda p: p.insert(2, copy.deepcopy(p[0])), "second beginning"),
    "no noise": (lambda p: p[1]["queries"][0].update(noise_multiplier="0.0", noise_std="0.0"), "no bound or no noise"),
    "infinite noise": (
        lambda p: p[1]["queries"][0].update(noise_multiplier="inf", noise_std="inf"),
        "record 1 is no charge record: 'queries.0.noise_multiplier'",
    ),
    "no epsilon": (lambda p: p[1]["epsilon"].update(pld=None), "has no epsilon, and the run promises one"),
    "falling epsilon": (lambda p: p[3]["epsilon"].update(rdp="0.100000"), "falls"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_that_is_signed_is_still_a_lie(lie: str) -> None:
    change, message = LIES[lie]
    found = faults(changed(PAYLOADS, change))
    assert any(re.search(message, fault) for fault in found), found


def test_a_round_that_was_charged_twice_is_told_and_counts() -> None:
    plan = plan_of(epsilon=2.0)
    first = [plan.charge(number).payload() for number in (0, 1, 1)]
    found = spending.check(account([PAYLOADS[0], *first]))
    assert not any(found.faults)
    assert any("charged again" in note for note in found.notes)


@pytest.mark.parametrize("sampling", [1.0, 0.1])
def test_a_long_run_is_checked_between_the_places_too(sampling: float) -> None:
    payloads = long_payloads(600, sampling)
    assert faults(payloads) == []
    for place in (1, 333, 600):
        for name in ("pld", "rdp"):
            for factor in (0.95, 1.06) if place > 1 else (0.9,):
                edited = changed(
                    payloads, lambda p, at=place, which=name, by=factor: scaled(p[at], ("epsilon", which), by)
                )
                assert faults(edited), (place, name, factor)


def test_seeded_noise_and_no_guarantee_are_told() -> None:
    assert any("seed" in note for note in spending.check(account(payloads_of(plan_of(epsilon=2.0, seed=3)))).notes)
    none = payloads_of(plan_of(epsilon="none"))
    found = spending.check(account(none))
    assert not any(found.faults)
    assert any("promises nothing" in note for note in found.notes)
    claimed = changed(none, lambda p: p[1].update(epsilon={"pld": "1.000000", "rdp": "1.000000"}))
    assert "states an epsilon" in faults(claimed)[0]
