"""The terms of a run with a run card, for the node's policy: every number is one that the ledger's key signed."""

import math
from collections.abc import Sequence

from fedrec.audit.card.card import QueryTerms as CardQuery
from fedrec.audit.card.card import RunCard
from fedrec.audit.log.keys import PublicKey
from fedrec.privacy.discrete.renyi import SkellamEvent
from fedrec_client.consent.policy import MOST_ROUNDS
from fedrec_client.consent.terms import QueryTerms, RunTerms, Stream


def card_terms(card: RunCard, witnesses: Sequence[PublicKey] = (), *, public: bool = False) -> RunTerms:
    """Return the run's terms.

    Args:
        card: a checked card.
        witnesses: keys whose cosignature counts; those that are there are named in the terms.
        public: whether the users are a shard of the dataset that the run names.
    """
    ends = (*card.starts[1:], card.rounds)
    rounds: list[tuple[QueryTerms, ...]] = []
    for start, end, row in zip(card.starts, ends, card.groups, strict=True):
        terms: dict[int, tuple[QueryTerms, ...]] = {}
        for number in range(start, min(end, MOST_ROUNDS + 1)):
            left = min(end - number, card.separation)  # rounds that see a participation in this one
            if left not in terms:
                terms[left] = tuple(_query(card, query, start, left) for query in row)
            rounds.append(terms[left])
    return RunTerms(
        run=card.digest,
        algorithm=card.algorithm,
        fingerprint=card.fingerprint,
        rounds=tuple(rounds),
        sampling=card.sampling,
        trust=card.trust if card.private else "none",
        minimum_cohort=card.minimum_cohort,
        epsilon=math.inf if card.epsilon is None else card.epsilon,
        delta=card.delta or 0.0,
        users=card.users,
        mechanism=card.mechanism,
        hidden=card.hidden,
        seeded=card.seeded,
        carded=True,
        expires=card.expires.timestamp(),
        ledger_key=card.key.text,
        ledger_head=card.checkpoint.root.hex(),
        ledger_size=card.checkpoint.size,
        witnesses=tuple(key.text for key in witnesses if card.checkpoint.cosigned_at(key) is not None),
        dataset=card.dataset if public else "",
        shares=card.shares,
        helper="" if card.helper is None else card.helper.key.text,
    )


def _query(card: RunCard, query: CardQuery, first: int, left: int) -> QueryTerms:
    """Return the terms of a query. left: rounds of its group from its own on, at most the separation."""
    stream = None
    if (made := query.correlation) is not None:
        column = math.sqrt(math.fsum(coefficient**2 for coefficient in made.coefficients[:left]))
        stream = Stream(first, made.separation, column)
    return QueryTerms(
        query.name,
        query.shape,
        query.clip_norm,
        query.noise_multiplier,
        query.noise_std,
        _skellam(card, query),
        1.0 if query.factors is None else query.factors[1],
        stream,
    )


def _skellam(card: RunCard, query: CardQuery) -> SkellamEvent | None:
    """Return the release as those see it who know every share of the noise but the honest users'."""
    sent = query.integers
    if sent is None or card.shares is None:
        return None
    return SkellamEvent(sent.share_variance * card.shares, sent.squared, sent.absolute)
