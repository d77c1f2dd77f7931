"""Whether a statement says what the ledger records: each number that it repeats or derives, made anew and compared."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedrec.audit.promise import rounded_up
from fedrec.audit.released import budget, releases, spent, stopped_early
from fedrec.audit.tradeoff import gaussian_delta, stated_tradeoff

SAME_AT_THE_BEGINNING = ("unit", "adjacency", "trust", "delta", "target_epsilon", "noise_source", "tuned_on")
"""What the ledger's first record fixes, where it has one."""


def contradictions(
    stated: Mapping[str, Any], payloads: Sequence[Mapping[str, Any]], heads: Sequence[str]
) -> Iterator[str]:
    """A line for each. payloads: the ledger's, oldest first. heads: the ledger's head after 0, 1, ... entries."""
    charges = [payload for payload in payloads if payload.get("type") == "charge"]
    if stated["rounds"] != len(charges):
        yield f"the statement counts {stated['rounds']} charged rounds, the ledger holds {len(charges)}"
    entries, head = stated["ledger"]["entries"], stated["ledger"]["head"]
    if not 0 <= entries < len(heads):
        yield f"the statement was drawn from {entries} entries, the ledger holds {len(heads) - 1}"
    elif heads[entries] != head:
        yield "the ledger is not the one that the statement was drawn from: it holds other records"
    for begin in payloads[:1]:
        for name in SAME_AT_THE_BEGINNING:
            if begin.get("type") == "begin" and name in begin and begin[name] != stated[name]:
                yield f"{name.replace('_', ' ')} is {stated[name]} in the statement and {begin[name]} in the ledger"
        scenario = begin.get("scenario")
        if scenario is not None and scenario != {
            "name": (stated["scenario"] or {}).get("name"),
            "sha256": (stated["scenario"] or {}).get("fingerprint"),
        }:
            yield "the ledger began with another scenario than the statement names"
    yield from _epsilon(stated, charges)
    released = releases(charges)
    for name, found in (("releases", released), ("budget", budget(released)), ("spent", spent(charges))):
        if stated[name] != found:
            yield f"the statement's '{name}' do not follow from the ledger's charges, which tell of other {name}"
    if stated["stopped"] != stopped_early(payloads):
        yield "the statement and the ledger differ on whether, where or why the run stopped early"
    yield from _curve(stated, charges)


def _epsilon(stated: Mapping[str, Any], charges: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    recorded: Mapping[str, Any] = charges[-1].get("epsilon", {}) if charges else {"pld": "0", "rdp": "0"}
    against = {row["adversary"]: row["epsilon"] for row in stated["adversaries"]}
    told = [
        ("epsilon", stated["epsilon"], "pld"),
        ("epsilon against who gets the model", against.get("model_recipients"), "pld"),
        *((f"epsilon by {name.upper()}", value, name) for name, value in stated["accountants"].items()),
    ]
    for what, value, name in told:
        if not _rounded(value, recorded.get(name)):
            yield f"{what} is {_bound(value)} in the statement and {_bound(recorded.get(name))} in the ledger"
    for row in stated["adversaries"]:
        if _number(row["epsilon"]) < _number(stated["epsilon"]):
            yield f"epsilon against {row['adversary'].replace('_', ' ')} is below that against who gets the model"
    known = against.get("knows_the_cohort")
    events = [event for charge in charges for event in charge.get("events", ())]
    if known is not None and stated["delta"] is not None:
        needed = gaussian_delta(_mu(events), float(known))
        if needed > 1.001 * float(stated["delta"]):
            yield f"epsilon {known} against who knows the cohort needs delta {needed:.1e} with the ledger's noise"
    if charges and "delta" in charges[-1] and charges[-1]["delta"] != stated["delta"]:
        yield f"delta is {stated['delta']} in the statement and {charges[-1]['delta']} in the ledger's charges"


def _curve(stated: Mapping[str, Any], charges: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the best attacker can do; a curve of sampled releases is compared with its own epsilon alone."""
    curve = stated["curve"]
    if (curve is None) != (stated["epsilon"] is None):
        yield "the attacker's curve and epsilon do not belong together"
        return
    if curve is not None and curve["mu"] is not None:
        events = [event for charge in charges for event in charge.get("events", ())]
        mu = _mu(events)
        if curve["mu"] != rounded_up(mu, 6) or any(float(event["sampling"]) != 1 for event in events):
            yield f"mu is {curve['mu']} in the statement and {rounded_up(mu, 6)} by the ledger's events"
    elif curve is not None and not any(
        float(pair["delta"]) <= float(stated["delta"]) * 1.001
        and float(pair["epsilon"]) <= 1.06 * _number(stated["epsilon"])
        for pair in curve["bounds"]
    ):
        yield "the attacker's curve does not reach the stated epsilon and delta"
    if stated["best_guess"] != rounded_up(stated_tradeoff(curve).best_guess()):
        yield f"the best guess is {stated['best_guess']} in the statement, which does not follow from its curve"


def _mu(events: Sequence[Mapping[str, Any]]) -> float:
    """Total signal-to-noise where everybody takes part, or who does is known."""
    return math.sqrt(math.fsum(int(event["count"]) / float(event["noise_multiplier"]) ** 2 for event in events))


def _rounded(told: str | None, recorded: str | None) -> bool:
    """Whether the statement's four decimals are the ledger's six, rounded up."""
    if told is None or recorded is None:
        return told is recorded
    return -1e-9 <= float(told) - float(recorded) <= 1e-4 + 1e-9


def _number(epsilon: str | None) -> float:
    return math.inf if epsilon is None else float(epsilon)


def _bound(value: str | None) -> str:
    return "no bound" if value is None else value
