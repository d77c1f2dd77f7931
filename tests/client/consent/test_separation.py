"""Correlated noise on a device: a user who is asked too early gives zero, and each participation pays its rows."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from fedrec_client.card_terms import card_terms
from fedrec_client.consent.answering import Answer, Reason
from fedrec_client.consent.objections import objections
from fedrec_client.consent.policy import Policy, RunPolicy
from fedrec_client.consent.spending import Cost
from fedrec_client.consent.terms import BANDED, RunTerms

from fedrec.audit.card.checks import check_card
from fedrec.audit.log.keys import SigningKey
from fedrec.errors import VerificationError
from tests.client.consent.test_device_ledger import ask, ledger, lines
from tests.core.audit.carded import NOW, begin, card, published, query
from tests.core.audit.carded import ledger as server_ledger

KEY = SigningKey.generate()
COEFFICIENTS = (1.0, 0.5, 0.4)
APART = 3
OPEN = Policy(run=RunPolicy(smallest_sum=1))
USERS = np.arange(100, 104)
CORRELATION = {"separation": APART, "coefficients": [repr(each) for each in COEFFICIENTS]}
STREAM = query(multiplier="9.0", std="18.0") | {"banded": CORRELATION}


def proof(folder: Path, correlation: object = CORRELATION, **changes: object) -> str:
    """Return a card: a round alone, a stream of 7 rounds, a round alone."""
    alone = query("evaluation", "1.0", "9.0", "9.0")
    plan = [
        {"rounds": [0, 0], "queries": [alone]},
        {"rounds": [1, 7], "queries": [STREAM | {"banded": correlation}]},
        {"rounds": [8, 8], "queries": [alone]},
    ]
    first = {"sampling": {"probability": "1.0"}, "mechanism": {"name": BANDED}, "rounds": 9, "plan": plan}
    return published(server_ledger(folder, KEY, begin(KEY, **(first | changes)))).card_text()


@pytest.fixture
def terms(tmp_path: Path) -> RunTerms:
    return card_terms(check_card(proof(tmp_path), [KEY.public], NOW))


def gave(made, terms: RunTerms, number: int, cohort: list[int], question: str = "q") -> list[bool]:
    verdict = ask(made, terms, number, question, identities=USERS, cohort=np.array(cohort))
    assert verdict.answer is Answer.GIVE, "the server sees no refusal"
    return list(map(bool, verdict.give))


def test_a_user_who_is_asked_too_early_contributes_zero_and_pays(tmp_path: Path, terms: RunTerms) -> None:
    made = ledger(tmp_path, OPEN)
    assert gave(made, terms, 0, [0, 1, 2, 3]) == [True] * 4
    assert gave(made, terms, 1, [0, 1]) == [True, True]
    assert gave(made, terms, 2, [0, 1, 2]) == [False, False, True], "a lying server asks everybody again"
    assert gave(made, terms, 3, [0, 3]) == [False, True]
    assert gave(made, terms, 4, [0, 2]) == [True, False]
    again = ledger(tmp_path, OPEN)
    assert gave(again, terms, 5, [0, 2]) == [False, True], "also after a restart"
    assert gave(again, terms, 3, [2, 3]) == [False, True], "an older round is too close to a later one"
    assert gave(again, terms, 5, [2], "anew") == [True], "a round that begins anew asks the same users"
    assert gave(again, terms, 8, [0, 1, 2, 3]) == [True] * 4, "a round alone is no part of the stream"
    assert lines(again, "charge")[2]["paid"] != lines(again, "charge")[2]["gave"]
    verdict = ask(again, terms, 7, identities=USERS, cohort=np.array([2]))
    assert verdict.reasons == {Reason.TOO_EARLY: 1}


def test_no_order_of_questions_takes_two_contributions_within_the_separation(tmp_path: Path, terms: RunTerms) -> None:
    made, draw, given = ledger(tmp_path, OPEN), np.random.default_rng(1), []
    for turn in range(30):
        number = int(draw.integers(1, 8))
        if ask(made, terms, number, f"{turn}-", identities=USERS[:1]).give.any():
            given.append(number)
    rounds = sorted(set(given))
    assert len(rounds) >= 1
    assert all(later - earlier >= APART for earlier, later in itertools.pairwise(rounds))


def test_a_participation_pays_for_all_rounds_that_see_it(terms: RunTerms) -> None:
    whole = math.sqrt(sum(each**2 for each in COEFFICIENTS))
    assert terms.cost(1) == Cost.of_gaussians([9.0 / whole])
    assert terms.cost(7) == Cost.of_gaussians([9.0]), "the last round sees no later one"
    assert terms.cost(0) == Cost.of_gaussians([9.0])
    most = [terms.cost(number).gaussian for number in (0, 1, 4, 7, 8)]
    assert terms.whole_cost().gaussian == sum(most)


def test_a_default_policy_lets_the_mechanism_in(terms: RunTerms) -> None:
    found = objections(Policy(), terms, users=4)
    assert not any("no price" in line for line in found), found


@pytest.mark.parametrize(
    ("correlation", "changes"),
    [
        ({"separation": 2, "coefficients": ["1.0", "0.5", "0.4"]}, {}),
        ({"separation": 3, "coefficients": ["1.0", "0.4", "0.5"]}, {}),
        ({"separation": 3, "coefficients": ["0.5", "0.4"]}, {}),
        ({"separation": 3, "coefficients": []}, {}),
        ({"separation": 0, "coefficients": ["1.0"]}, {}),
        ({"coefficients": ["1.0"]}, {}),
        (CORRELATION, {"sampling": {"probability": "0.5"}}),
        (CORRELATION, {"card": card(minimum_cohort=50)}),
    ],
)
def test_a_card_whose_guarantee_no_proof_covers_is_refused(
    tmp_path: Path, correlation: object, changes: dict[str, object]
) -> None:
    with pytest.raises(VerificationError):
        check_card(proof(tmp_path, correlation, **changes), [KEY.public], NOW)


def test_a_card_states_its_expected_cohort(tmp_path: Path) -> None:
    found = check_card(proof(tmp_path), [KEY.public], NOW)
    assert (found.separation, found.expected_cohort) == (APART, 100 * (1.0 / APART))
    assert [found.stream(number) for number in (0, 1, 7, 8)] == [None, (1, 7), (1, 7), None]
