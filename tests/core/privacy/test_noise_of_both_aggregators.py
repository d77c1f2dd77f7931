"""Noise of server and helper: each adds all of it, so that each is protected from the other, and no user adds any."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedrec.audit.card import card
from fedrec.audit.entries import records
from fedrec.audit.entries.account import account
from fedrec.audit.statement.statement import statement
from fedrec.audit.verify import charges as spending
from fedrec.errors import PrivacyError
from fedrec.federation.spec import UsersNoise
from fedrec.privacy import recorded
from fedrec.privacy.description import describe
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.explanation import explain
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery
from tests.core.audit.ledgers import payloads_of, plan_of
from tests.core.audit.verify.test_charges import Change, changed, faults

TERMS: dict[str, Any] = {"epsilon": 2.0, "trust": "distributed", "noise_by": "aggregators"}
USERS = 200
QUERY = SumQuery("popularity", (4000,), 2.0, 0.3)
ROUNDS = [(QUERY,), (SumQuery("pairs", (140_000,), 1.0, 0.3), SumQuery("gram", (3, 6), 1.0, 0.2, packed=3))]
EVERYTHING = range(len(ROUNDS))


def plan(seed: int | None = 5, **changes: Any) -> PrivacyPlan:
    return PrivacyPlan.build(PrivacyConfig(**TERMS | changes), ROUNDS, USERS, seed, "public")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aggregator": "peers"}, "needs two that do not collude"),
        ({"trust": "local"}, "is for privacy.trust = distributed"),
        ({"trust": "central"}, "is for privacy.trust = distributed"),
        ({"colluding": 0.1}, "whatever users collude; leave it out"),
        ({"participation": "hidden", "sampling": 0.5}, "proven for noise that the users add"),
        ({"epsilon": "none"}, "needs an epsilon"),
    ],
)
def test_what_is_not_proven_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        PrivacyConfig(**TERMS | changes)


def test_a_sum_of_one_user_is_refused() -> None:
    with pytest.raises(PrivacyError, match="which is no sum"):
        PrivacyConfig(**TERMS | {"dropout": 0.9}).shares(10)


def test_the_setting_names_the_helper_and_comes_back_from_a_scenario() -> None:
    made = PrivacyConfig(**TERMS)
    assert made.helped
    assert PrivacyConfig(**made.resolved()) == made
    assert "noise_by" not in PrivacyConfig(trust="distributed").resolved(), "the text of older runs lacks it"
    given = UsersNoise(trust="distributed", epsilon=2.0, delta=1e-5, sampling=1.0, noise_by="aggregators")
    assert PrivacyConfig(**json.loads(given.model_dump_json(exclude_none=True))).helped


def test_each_adversary_meets_the_noise_of_those_whom_it_does_not_know() -> None:
    ours = plan()
    against = ours.discrete.adversaries(EVERYTHING)
    assert 2.0 * (1 - 1e-4) < against["server"] <= 2.0
    assert against["server"] == against["server_with_colluders"] == against["helper"]
    assert against["model_recipients"] == against["knows_the_cohort"] < 2.0 / 1.3
    assert against["server_and_helper"] == against["secure_aggregation_fails"] == math.inf
    ours.charge(0)
    assert describe(ours)["adversaries"]["server_and_helper"] is None


def test_the_price_is_the_square_root_of_two_whatever_users_collude_or_drop() -> None:
    """Noise of users costs more for every user who may collude or drop; this one does not."""
    ours, users = plan(), plan(noise_by="users", colluding=0.5, dropout=0.3)
    known, theirs = ours.discrete.query(0, QUERY.name), users.discrete.query(0, QUERY.name)
    assert known.multiplier == pytest.approx(theirs.multiplier, rel=1e-2)
    one = known.multiplier * QUERY.clip_norm * math.sqrt(known.encoding.squared) / known.encoding.length
    std = ours.discrete.read(0, QUERY, torch.zeros(known.encoding.dimension, dtype=torch.int64), 140).noise_std
    assert std == pytest.approx(math.sqrt(2) * one)
    assert ours.config.mu(USERS) == pytest.approx(plan(noise_by="users").config.mu(USERS) * math.sqrt(
        0.5 / (180 / 200)
    ))  # fmt: skip


@pytest.mark.parametrize("present", [USERS, 190])
def test_a_simulated_sum_has_two_whole_noises(present: int) -> None:
    """However many users are there; the test rejects 2/3 and 3/2 of it, and half of it: one noise alone."""
    ours = plan(seed=None)
    known = ours.discrete.query(0, QUERY.name)
    zeros = torch.zeros(known.encoding.dimension, dtype=torch.int64)
    sums = known.encoding.read(
        ours.discrete.with_shares(0, QUERY.name, zeros, present, WordStream.seeded(f"{present}")).numpy()
    )
    one = known.multiplier**2 * known.encoding.squared
    assert sums.mean() == pytest.approx(0, abs=5 * math.sqrt(2 * one / len(sums)))
    assert np.var(sums) / one == pytest.approx(2, rel=5 * math.sqrt(2 / len(sums)))
    assert 5 * math.sqrt(2 / len(sums)) < 1 / 4


def test_what_is_explained_names_both_and_their_price() -> None:
    rows = {row.name: row for row in explain(plan())}
    assert "server and helper, each all of it" in rows["trust"].why
    assert (rows["noise shares"].value, rows["colluding"].value) == ("1 of 2", "any")
    assert "1.4142" in rows["noise shares"].why
    assert rows["epsilon against server_and_helper"].value == "inf"


LEDGER = payloads_of(plan_of(**TERMS))


def test_what_a_plan_charges_is_sound_and_the_statement_has_a_row_for_each_party() -> None:
    found = spending.check(account(LEDGER))
    assert not any(found.faults)
    assert LEDGER[0]["mechanism"]["name"] == recorded.AGGREGATORS == records.AGGREGATORS == card.AGGREGATORS
    stated = statement(account(LEDGER), ["00"] * (len(LEDGER) + 1))
    rows = {row.adversary: row for row in stated.adversaries}
    known = plan_of(**TERMS).discrete.adversaries(range(3))
    assert list(rows) == list(known)
    for name, row in rows.items():
        bound = math.inf if row.epsilon is None else float(row.epsilon)
        assert bound == pytest.approx(known[name], rel=1e-2, abs=2e-4), name
    assert "of any number" in rows["server_with_colluders"].who
    musts = [f"{row.who} {row.must}" for row in stated.assumptions]
    for line in ("the server adds the whole noise", "the helper adds the whole noise", "the helper does not collude"):
        assert any(line in must for must in musts), line
    assert not any("the other clients" in must for must in musts)
    assert any("memory of server and helper" in line for line in stated.not_protected)


def users_noise(edited: list[dict[str, Any]]) -> None:
    """The same ledger as if its users had added the noise."""
    edited[0]["mechanism"]["name"] = recorded.SKELLAM
    for charge in edited:
        for event in charge.get("events", ()):
            event["mechanism"] = recorded.SKELLAM


def both_counted(edited: list[dict[str, Any]]) -> None:
    """Both noises counted against each party, which knows one of them."""
    for charge in edited:
        for query, event in zip(charge.get("queries", ()), charge.get("events", ()), strict=True):
            event["variance"] = repr(2 * float(query["discrete"]["share_variance"]))


LIES: dict[str, tuple[Change, str]] = {
    "users add it": (users_noise, "can be checked"),
    "both noises are counted": (both_counted, "another variance than 1 shares"),
    "coins": (lambda p: p[0]["mechanism"].update(name=recorded.HIDDEN), "where users add it"),
    "trust model local": (lambda p: p[0].update(trust="local"), "where users add it"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_that_is_signed_is_still_a_lie(lie: str) -> None:
    change, message = LIES[lie]
    found = faults(changed(LEDGER, change))
    assert any(re.search(message, fault) for fault in found), found


@pytest.mark.parametrize("shares", [{"colluding": 1}, {"aggregator": "peers"}])
def test_a_record_that_contradicts_itself_is_none(shares: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="server and helper"):
        records.Shares(**{**LEDGER[0]["shares"], **shares})
