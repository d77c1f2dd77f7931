"""The device pays first, for each user by that user's own participation, and never past its limits."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fedrec_client.consent.answering import RULES, Answer, Asked, Reason
from fedrec_client.consent.device_ledger import DeviceLedger
from fedrec_client.consent.entries import packed, unpacked
from fedrec_client.consent.policy import DataPolicy, PeriodPolicy, Policy, RunPolicy
from fedrec_client.consent.spending import Cost, epsilon
from fedrec_client.consent.terms import RunTerms

from fedrec.errors import InputError, PrivacyError, VerificationError
from tests.client.consent.runs import query, run

ONE = np.array([7])
SMALL = Policy(run=RunPolicy(epsilon=2.0), period=PeriodPolicy(epsilon=2.0))


def ledger(folder: Path, policy: Policy = Policy()) -> DeviceLedger:
    return DeviceLedger(folder / "node" / "ledger.jsonl", policy)


def ask(made: DeviceLedger, terms: RunTerms, number: int, question: str = "q", **options):
    identities = options.pop("identities", ONE)
    cohort = options.pop("cohort", np.arange(len(identities)))
    return made.charge(terms, Asked(number, f"{question}{number}", identities, cohort, **{"public": False, **options}))


def lines(made: DeviceLedger, kind: str) -> list[dict]:
    found = map(json.loads, made.path.read_text().splitlines())
    return [line for line in found if line["kind"] == kind]


def test_a_charge_is_on_disk_and_counted_before_it_is_answered(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    assert ask(made, run(), 0).answer is Answer.GIVE
    charge = lines(made, "charge")[0]
    assert (charge["run"], charge["round"], charge["question"], charge["paid"]) == ("run-1", 0, "q0", "all")
    assert charge["epsilon"] == pytest.approx(epsilon(Cost.of_gaussians([4.0]), 1e-5), abs=1e-6)
    assert charge["epsilon"] >= epsilon(Cost.of_gaussians([4.0]), 1e-5)
    counter = json.loads((tmp_path / "node.counter").read_text())
    assert counter["n"] == charge["n"]
    assert made.path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "node.counter").stat().st_mode & 0o077 == 0
    assert lines(made, "accepted")[0]["algorithm"] == "popularity"


def test_the_limit_of_a_run_and_the_limit_of_all_runs_hold(tmp_path: Path) -> None:
    made = ledger(tmp_path, replace(SMALL, period=PeriodPolicy(epsilon=2.5)))
    terms = run(count=100, noise=6.0, carded=True)
    answers = [ask(made, terms, number).give[0] for number in range(25)]
    given = sum(answers)
    assert 0 < given < 25
    assert answers == [True] * given + [False] * (25 - given)
    assert (
        epsilon(Cost.of_gaussians([6.0] * given), 1e-5) <= 2.0 < epsilon(Cost.of_gaussians([6.0] * (given + 2)), 1e-5)
    )
    with made.reading() as again:
        assert again.accounts.runs["run-1"].rounds[0] == given
    more = sum(ask(made, replace(terms, run="run-2"), number).give[0] for number in range(25))
    assert 0 < more < given
    assert epsilon(Cost.of_gaussians([6.0] * (given + more)), 1e-5) <= 2.5
    assert not ask(made, run("run-3", noise=6.0), 0).give[0]


def test_a_new_process_knows_all_that_was_spent(tmp_path: Path) -> None:
    terms = run(count=200, noise=6.0, carded=True)
    whole = sum(ask(ledger(tmp_path / "a", SMALL), terms, number).give[0] for number in range(20))
    made = ledger(tmp_path / "b", SMALL)
    assert whole == sum(ask(made, terms, number).give[0] for number in range(20))


def test_each_user_of_a_hub_pays_for_its_own_rounds(tmp_path: Path) -> None:
    made = ledger(tmp_path, SMALL)
    hub = np.arange(100, 140)
    terms = run(count=100, noise=4.0, sampling=0.5, carded=True)
    often, rng = 0, np.random.default_rng(3)
    taken, cohorts = np.zeros(40, dtype=int), []
    for number in range(40):
        cohort = np.union1d([5], np.flatnonzero(rng.random(40) < 0.2))
        cohorts.append(cohort)
        verdict = ask(made, terms, number, identities=hub, cohort=cohort)
        taken[cohort] += verdict.give
        often += verdict.give[list(cohort).index(5)]
        assert all(verdict.give == (verdict.give | (taken[cohort] < often)))  # the others are not stopped before it is
    asked = sum(np.bincount(cohort, minlength=40) for cohort in cohorts)
    assert often < 40
    assert all(taken == np.minimum(asked, often))
    with made.reading() as again:
        rows = again.accounts.runs["run-1"]
        assert sorted(rows.rounds) == sorted(taken)
        assert rows.totals.epsilons(1e-5).max() <= 2.0


def test_users_keep_their_spending_when_the_log_of_a_hub_changes(tmp_path: Path) -> None:
    made, terms = ledger(tmp_path, SMALL), run(count=100, noise=4.0, carded=True)
    number = 0
    while ask(made, terms, number, identities=np.array([3, 9])).give.all():
        number += 1
    verdict = ask(made, terms, 90, identities=np.array([1, 3, 5, 9]))
    assert verdict.give.tolist() == [True, False, True, False]
    assert verdict.reasons == {Reason.EXHAUSTED: 2}
    assert not ask(made, terms, 91, identities=np.array([3])).give.any(), "a user who left and came back"
    assert "9" not in {line["keys"] for line in lines(made, "users")}
    assert len(lines(made, "users")) == 2


def test_zeros_are_charged_like_contributions_and_look_alike(tmp_path: Path) -> None:
    """What a server gets of a void, a withheld and a real contribution is one kind of answer; the charges are equal."""
    out = Policy(data=DataPolicy(opted_out=True))
    real, zero, void = ledger(tmp_path / "a"), ledger(tmp_path / "b", out), ledger(tmp_path / "c")
    verdicts = [ask(made, run(), 0) for made in (real, zero, void)]
    real.outcome("run-1", 0, "q0", "released")
    zero.outcome("run-1", 0, "q0", "zero")
    void.outcome("run-1", 0, "q0", "void")
    assert [verdict.answer for verdict in verdicts] == [Answer.GIVE] * 3
    assert [verdict.give.tolist() for verdict in verdicts] == [[True], [False], [True]]
    assert verdicts[1].reasons == {Reason.OPTED_OUT: 1}
    spent = []
    for made in (real, zero, void):
        ask(made, run(), 1)
        with made.reading() as again:
            spent.append(again.accounts.period.gaussian.tolist())
    assert spent[0] == spent[1] == spent[2] == [2 * Cost.of_gaussians([4.0]).gaussian]
    with pytest.raises(ValueError, match="released, empty, zero or void"):
        real.outcome("run-1", 0, "q0", "other")


def test_a_small_central_sum_is_zero_and_charged(tmp_path: Path) -> None:
    made, hub = ledger(tmp_path), np.arange(50)
    terms = run(trust="central", sampling=0.1)
    small = ask(made, terms, 0, identities=hub, cohort=np.array([4]))
    assert small.answer is Answer.GIVE
    assert small.give.tolist() == [False]
    assert small.reasons == {Reason.SMALL_SUM: 1}
    assert ask(made, terms, 1, identities=hub, cohort=np.arange(10)).give.all()
    assert not ask(made, terms, 2, identities=hub, cohort=np.arange(0)).give.size
    charges = lines(made, "charge")
    assert unpacked(charges[0]["paid"], 50).sum() == 1
    assert charges[0]["gave"] == "none"


def test_a_refusal_rests_on_public_terms_and_costs_nothing(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    for terms, number, reason in (
        (run(), 3, Reason.TERMS),
        (run(), -1, Reason.TERMS),
        (run(expires=1.0), 0, Reason.EXPIRED),
        (run(rounds=((query(noise=0.0),),)), 0, Reason.TERMS),
    ):
        verdict = ask(made, terms, number)
        assert verdict.answer is Answer.REFUSE
        assert list(verdict.reasons) == [reason]
        assert not verdict.give.any()
    assert not lines(made, "charge")
    assert len(lines(made, "refused")) == 4
    for _ in range(3):
        ask(made, run(), 3)
    assert len(lines(made, "refused")) == 4


def test_the_table_refuses_on_public_facts_alone() -> None:
    assert set(RULES) == {*Reason, None}
    for reason, rule in RULES.items():
        if not rule.public:
            assert rule.answer is Answer.ZERO, reason
        if rule.answer is Answer.REFUSE:
            assert rule.public
            assert not rule.charged


def test_the_same_question_of_a_carded_run_is_answered_as_before_without_a_charge(tmp_path: Path) -> None:
    policy = Policy(data=DataPolicy(opted_out=True))
    terms = run(carded=True)
    first = ask(ledger(tmp_path, policy), terms, 0)
    again = ask(ledger(tmp_path), terms, 0, held=True)  # the operator opted in between: the answer stays what it was
    assert (first.answer, again.answer) == (Answer.GIVE, Answer.REPEAT)
    assert again.give.tolist() == first.give.tolist() == [False]
    assert len(lines(ledger(tmp_path), "charge")) == 1


def test_an_answer_that_is_held_no_more_is_a_new_release(tmp_path: Path) -> None:
    """Data may have changed since: what is computed again is paid for again, and the round's end holds."""
    made, terms = ledger(tmp_path), run(carded=True)
    answers = [ask(made, terms, 0).answer for _ in range(4)]
    assert answers == [Answer.GIVE] * 3 + [Answer.REFUSE]
    assert len(lines(made, "charge")) == 3
    assert ask(made, terms, 0, held=True).answer is Answer.REPEAT


def test_another_question_for_the_same_round_is_charged_and_ends(tmp_path: Path) -> None:
    made, terms = ledger(tmp_path), run(carded=True)
    answers = [ask(made, terms, 0, question).answer for question in "abcd"]
    assert answers == [Answer.GIVE] * 3 + [Answer.REFUSE]
    assert len(lines(made, "charge")) == 3


def test_public_data_are_written_down_and_not_limited(tmp_path: Path) -> None:
    made = ledger(tmp_path, SMALL)
    terms = run(trust="none", rounds=((query(noise=0.0),),) * 2)
    for _ in range(5):
        assert ask(made, terms, 0, public=True).give.all()
    assert lines(made, "charge")[0]["epsilon"] is None
    assert ask(made, run("other"), 0).give.all()
    with pytest.raises(PrivacyError):
        terms.cost(0)


def test_two_processes_on_one_ledger_share_one_limit(tmp_path: Path) -> None:
    """Eight threads with ledger objects of their own, as processes have them."""
    terms, given = run(count=400, noise=6.0, carded=True), []

    def work(first: int) -> None:
        made = ledger(tmp_path, SMALL)
        for number in range(first, 24, 8):
            given.append(bool(ask(made, terms, number).give[0]))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = ledger(tmp_path / "alone", SMALL)
    assert sum(given) == sum(bool(ask(alone, terms, number).give[0]) for number in range(24))
    ledger(tmp_path, SMALL).open()


def test_who_paid_is_written_as_a_bit_a_user() -> None:
    for who in ([True] * 9, [False] * 9, [True, False] * 9, [False] * 16 + [True]):
        bits = np.array(who)
        assert unpacked(packed(bits), len(bits)).tolist() == who
    assert packed(np.ones(5000, dtype=bool)) == "all"
    with pytest.raises(VerificationError):
        unpacked("AA==", 9)
    with pytest.raises(VerificationError):
        unpacked("not base64", 9)


def test_a_ledger_that_cannot_be_written_is_one_line_and_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("a file")
    with pytest.raises(InputError, match="cannot be used"):
        ask(ledger(tmp_path), run(), 0)
