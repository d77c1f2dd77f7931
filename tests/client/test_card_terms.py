"""What a policy judges of a run with a card is the card, number by number."""

from dataclasses import replace
from pathlib import Path

import pytest
from fedrec_client.card_terms import card_terms
from fedrec_client.consent.objections import objections
from fedrec_client.consent.policy import Policy, RunPolicy, ServerPolicy
from fedrec_client.consent.spending import Cost, epsilon

from fedrec.audit.card.card import AGGREGATORS, HIDDEN, CardRefused
from fedrec.audit.card.checks import check_card
from fedrec.audit.card.helper import seeds_text
from fedrec.audit.log.keys import SigningKey
from fedrec.privacy.discrete import hidden as coins
from fedrec.privacy.discrete import renyi
from fedrec.privacy.discrete.renyi import SkellamEvent
from tests.core.audit.carded import FINGERPRINT, NOW, begin, card, ledger, published, query

KEY, WITNESS, OTHER = (SigningKey.generate() for _ in range(3))


def test_every_number_of_the_card_reaches_the_policy(tmp_path: Path) -> None:
    made = published(ledger(tmp_path, KEY))
    assert made.cosigned([made.seal().cosigned("witness/1", WITNESS, 5)])
    found = check_card(made.card_text(), [KEY.public], NOW)
    terms = card_terms(found, [OTHER.public, WITNESS.public], public=True)
    assert (terms.run, terms.algorithm, terms.fingerprint) == (found.digest, "als", FINGERPRINT)
    assert (terms.trust, terms.epsilon, terms.delta, terms.sampling) == ("central", 2.0, 1e-5, 0.5)
    assert (terms.users, terms.minimum_cohort, terms.carded, terms.dataset) == (100, 20, True, "nodes")
    assert (terms.ledger_key, terms.ledger_size) == (KEY.public.text, 1)
    assert (terms.ledger_head, terms.witnesses) == (made._ledger.chain.roots[1].hex(), (WITNESS.public.text,))
    assert terms.expires == found.expires.timestamp()
    assert [row[0].name for row in terms.rounds] == ["items"] * 5 + ["evaluation"]
    row = terms.rounds[0][0]
    assert (row.shape, row.clip_norm, row.noise_multiplier, row.noise_std) == ((5, 2), 2.0, 3.0, 6.0)
    assert card_terms(found).dataset == ""
    assert card_terms(found).witnesses == ()


def test_a_card_without_privacy_promises_nothing(tmp_path: Path) -> None:
    open_query = query(std="0", multiplier="0") | {"clip_norm": None}
    first = begin(
        KEY, guarantee="none", target_epsilon=None, delta=None, plan=[{"rounds": [0, 5], "queries": [open_query]}]
    )
    terms = card_terms(check_card(published(ledger(tmp_path, KEY, first)).card_text(), [KEY.public], NOW))
    assert (terms.trust, terms.private, terms.delta) == ("none", False, 0.0)
    assert objections(Policy(), terms, users=20)


def test_a_card_with_an_unlimited_clip_meets_the_policy(tmp_path: Path) -> None:
    plan = [{"rounds": [0, 5], "queries": [query(clip="1e30", multiplier="3.0", std="3e30")]}]
    huge = begin(KEY, plan=plan, population={"users": 10_000_000}, card=card(minimum_cohort=10_000))
    terms = card_terms(check_card(published(ledger(tmp_path, KEY, huge)).card_text(), [KEY.public], NOW))
    found = objections(Policy(), terms, users=20, now=NOW.timestamp())
    assert any("clip 1e+30" in line for line in found)


SHARE = 3.0**2 * 10_000 / 40
INTEGERS = {
    "encoding": "rotated", "dimension": 16, "bits": 20, "length": "99.5", "squared": 10_000, "absolute": 400,
    "share_variance": repr(SHARE),
}  # fmt: skip
SHARES = {"expected": 60, "least": 50, "colluding": 10, "aggregator": "peers"}


def shared(**changes: object) -> dict:
    """The first record of a run whose users add the noise, with changes to the integers of its queries."""
    plan = [{"rounds": [0, 5], "queries": [query() | {"discrete": INTEGERS | changes}]}]
    return begin(KEY, trust="distributed", mechanism={"name": "Skellam, known cohort"}, shares=SHARES, plan=plan)


def test_a_card_whose_users_add_the_noise_is_priced_by_the_honest_users_shares(tmp_path: Path) -> None:
    found = check_card(published(ledger(tmp_path, KEY, shared())).card_text(), [KEY.public], NOW)
    terms = card_terms(found)
    event = terms.rounds[0][0].skellam
    assert event == SkellamEvent(SHARE * 40, 10_000, 400)
    assert event.noise_multiplier == pytest.approx(3.0)
    spent, theirs = epsilon(terms.whole_cost(), 1e-5), renyi.epsilon([event] * 6, 1e-5)
    assert theirs <= spent <= theirs * (1 + 1e-3)
    assert not any("mechanism" in line for line in objections(Policy(), terms, users=20, now=NOW.timestamp()))


def coined(**changes: object) -> dict:
    """The first record of a run with secret coins: 100 users are asked, and each contributes with probability 1/2."""
    shares = SHARES | {"expected": 100}
    return shared() | {"mechanism": {"name": HIDDEN}, "shares": shares, "card": card(minimum_cohort=90)} | changes


def test_a_card_with_secret_coins_is_priced_by_the_coin_and_in_every_round_alike(tmp_path: Path) -> None:
    found = check_card(published(ledger(tmp_path, KEY, coined())).card_text(), [KEY.public], NOW)
    terms = card_terms(found)
    assert (found.hidden, terms.hidden, terms.minimum_cohort, terms.sampling) == (True, True, 90, 0.5)
    event = terms.rounds[0][0].skellam
    spent, theirs = epsilon(terms.whole_cost(), 1e-5), coins.epsilon([[event]] * 6, 0.5, 1e-5)
    assert theirs <= spent * (1 + 1e-6) <= theirs * 1.02
    assert spent < epsilon(replace(terms, hidden=False).whole_cost(), 1e-5) * 0.7
    costly = replace(terms, sampling=0.999)
    policy = Policy(run=RunPolicy(epsilon=spent * 1.05))
    assert not any("together cost" in line for line in objections(policy, terms, users=20, now=NOW.timestamp()))
    assert any("together cost" in line for line in objections(policy, costly, users=20, now=NOW.timestamp()))


def test_two_queries_of_a_round_are_priced_under_one_coin(tmp_path: Path) -> None:
    terms = card_terms(check_card(published(ledger(tmp_path, KEY, coined())).card_text(), [KEY.public], NOW))
    (query,) = terms.rounds[0]
    both = replace(terms, rounds=((query, replace(query, name="other")),))
    apart = Cost.of_hidden([query.skellam], 0.5) + Cost.of_hidden([query.skellam], 0.5)
    assert both.cost(0) == Cost.of_hidden([query.skellam, query.skellam], 0.5)
    assert all(one > two for one, two in zip(both.cost(0).renyi, apart.renyi, strict=True))


def both_add(**changes: object) -> dict:
    """The first record of a run whose server and helper each add the whole noise, with changes to its shares."""
    seeds = bytes(range(32))
    proof = KEY.sign(seeds_text(seeds)).hex()
    helper = {"key": KEY.public.text, "seeds": seeds.hex(), "proof": proof, "address": "https://helper:9443"}
    shares = SHARES | {"colluding": 0, "aggregator": "helper", "noise_by": "aggregators"} | changes
    return shared(share_variance=repr(SHARE * 40)) | {
        "mechanism": {"name": AGGREGATORS},
        "shares": shares,
        "card": card(minimum_cohort=50, roster="ab" * 32, helper=helper),
    }


def test_a_policy_accepts_noise_of_server_and_helper_where_it_says_so(tmp_path: Path) -> None:
    """By default a device adds its own: one that adds none hangs on two parties alone."""
    terms = card_terms(check_card(published(ledger(tmp_path, KEY, both_add())).card_text(), [KEY.public], NOW))
    assert terms.by_aggregators
    assert terms.rounds[0][0].skellam == SkellamEvent(SHARE * 40, 10_000, 400)
    policy = Policy(server=ServerPolicy(helpers=(terms.helper,)))

    def against(policy: Policy, terms: object = terms) -> str:
        return "; ".join(objections(policy, terms, users=20, now=NOW.timestamp()))

    accepted = replace(policy, run=RunPolicy(noise_by=("aggregators",), colluding=0.9, epsilon=100))
    assert "run.noise_by does not accept aggregators" in against(policy)
    assert "noise_by" not in against(accepted)
    assert "colluding" not in against(accepted), "whatever users collude"
    theirs = card_terms(check_card(published(ledger(tmp_path / "b", KEY, shared())).card_text(), [KEY.public], NOW))
    assert "run.noise_by does not accept users" in against(accepted, theirs)


@pytest.mark.parametrize(
    "changed",
    [
        both_add(colluding=1),
        both_add(least=1),
        both_add(noise_by=None),
        both_add(noise_by="users"),
        both_add(aggregator="peers"),
        both_add() | {"trust": "local"},
        both_add() | {"mechanism": {"name": "Skellam, known cohort"}},
        both_add() | {"plan": shared(share_variance=repr(SHARE * 20))["plan"]},
        coined(sampling={"probability": "1.0"}),
        coined(card=card(minimum_cohort=101)),
        begin(KEY, mechanism={"name": HIDDEN}),
        shared() | {"card": card(minimum_cohort=90)},
        shared(share_variance=repr(SHARE * 2)),
        shared(squared=9_000, share_variance=repr(SHARE * 0.9)),
        shared(absolute=300),
        shared(absolute=20_000),
        shared(dimension=9),
        shared(share_variance="0"),
        shared(length="1e200"),
        shared() | {"shares": SHARES | {"colluding": 50}},
        shared() | {"shares": SHARES | {"least": 500}},
        shared() | {"shares": None},
        shared() | {"trust": "local"},
        shared() | {"trust": "central"},
        shared() | {"plan": begin(KEY)["plan"]},
    ],
)
def test_a_card_that_counts_more_noise_than_its_users_add_is_refused(changed: dict, tmp_path: Path) -> None:
    with pytest.raises(CardRefused) as caught:
        check_card(published(ledger(tmp_path, KEY, changed)).card_text(), [KEY.public], NOW)
    assert caught.value.code == "card"
