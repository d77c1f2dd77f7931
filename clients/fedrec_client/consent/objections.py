"""What a policy has against a run's public terms, in one line each; an empty list lets the run in."""

import time
from collections.abc import Iterator

from fedrec.errors import PrivacyError
from fedrec_client.consent.policy import Policy
from fedrec_client.consent.spending import Totals
from fedrec_client.consent.terms import BANDED, GAUSSIAN, QueryTerms, RunTerms

MOST_MULTIPLIER = 1e8
"""Noise of more clips than this leaves nothing of a sum."""

_DAY = 86400.0
_ROUNDING = 1 + 1e-9


def objections(
    policy: Policy, terms: RunTerms, *, users: int, public: bool = False, now: float | None = None
) -> list[str]:
    """Compare a run's terms with a policy. All of it is public: the answer shows nothing of anybody's data.

    Args:
        users: the declared number of users that this node hosts.
        public: whether these users are a public dataset, which needs no privacy: then only what bounds a computation,
            the algorithm, the dataset, the expiry and the server's proofs are looked at.
        now: Unix seconds; the clock's if left out.
    """
    found = [*_proofs(policy, terms), *_size(policy, terms, users, time.time() if now is None else now)]
    return found if public else [*found, *_privacy(policy, terms, users)]


def _proofs(policy: Policy, terms: RunTerms) -> Iterator[str]:
    server = policy.server
    if policy.needs_card and not terms.carded:
        yield "the run shows no signed card, which server.ledger_keys or server.witnesses ask for"
        return
    if server.ledger_keys and terms.ledger_key not in server.ledger_keys:
        yield f"ledger key {terms.ledger_key or 'none'}: not among server.ledger_keys"
    if server.witnesses and not set(server.witnesses) & set(terms.witnesses):
        yield "no cosignature of a witness in server.witnesses"
    if terms.helper and terms.helper not in server.helpers:
        yield f"helper {terms.helper}: not among server.helpers; add it there if its operator and the server's are two"
    named, allowed = terms.dataset, policy.data.datasets
    if named and allowed and named not in allowed:
        yield f"dataset '{named}': not among data.datasets"


def _size(policy: Policy, terms: RunTerms, users: int, now: float) -> Iterator[str]:
    run = policy.run
    if run.algorithms and not any(_is(terms, name) for name in run.algorithms):
        yield f"algorithm '{terms.algorithm}': not among run.algorithms"
    if not 1 <= len(terms.rounds) <= run.rounds:
        yield f"{len(terms.rounds)} rounds: run.rounds allows 1 to {run.rounds}"
    if not users <= terms.users:
        yield f"a population of {terms.users} users: this node alone hosts {users}"
    if not terms.minimum_cohort <= terms.users * _ROUNDING:
        yield f"cohorts of {terms.minimum_cohort:g} users in a population of {terms.users}"
    if terms.expires is not None and not now < terms.expires:
        yield "the run has expired"
    elif terms.carded and (terms.expires is None or terms.expires > now + run.days * _DAY):
        yield f"the run ends later than in run.days = {run.days:g} days, or never"
    for number, queries in enumerate(terms.rounds):
        if sum(query.size for query in queries) > run.numbers or any(query.size < 0 for query in queries):
            yield f"round {number}: more than run.numbers = {run.numbers} numbers"
            return
        for fault in (_query(policy, query) for query in queries if terms.private):
            if fault:
                yield f"round {number}, {fault}"
                return


def _is(terms: RunTerms, allowed: str) -> bool:
    name, _, fingerprint = allowed.partition("@")
    if name != terms.algorithm:
        return False
    return not fingerprint or (len(fingerprint) >= 16 and terms.fingerprint.startswith(fingerprint))


def _privacy(policy: Policy, terms: RunTerms, users: int) -> Iterator[str]:
    run = policy.run
    if terms.trust not in run.trust:
        yield f"trust model '{terms.trust}': run.trust accepts {', '.join(run.trust) or 'none'}"
    if not 0 < terms.epsilon <= run.epsilon * _ROUNDING:
        yield f"epsilon {terms.epsilon:g}: run.epsilon allows {run.epsilon:g}"
    if not 0 < terms.delta <= run.delta * _ROUNDING:
        yield f"delta {terms.delta:g}: run.delta allows {run.delta:g}"
    if not 0 < terms.sampling <= 1:
        yield f"a sampling probability of {terms.sampling:g}"
    if not terms.minimum_cohort >= run.minimum_cohort:
        yield f"cohorts of {terms.minimum_cohort:g} users: run.minimum_cohort asks for {run.minimum_cohort}"
    if terms.by_aggregators and "aggregators" not in run.noise_by:
        yield "server and helper add the noise, and devices none: run.noise_by does not accept aggregators"
    if terms.trust == "distributed" and not terms.by_aggregators and "users" not in run.noise_by:
        yield "users add the noise: run.noise_by does not accept users"
    if terms.trust == "distributed" and not terms.by_aggregators:
        counted, least = terms.minimum_cohort if terms.shares is None else terms.shares, terms.minimum_cohort
        if not least - counted >= run.colluding * least:
            yield f"epsilon holds against {least - counted:g} colluding of {least:g} users: run.colluding = " + (
                f"{run.colluding:g} asks for more"
            )
    if terms.trust == "central" and users < run.smallest_sum:
        yield f"{users} users are here: run.smallest_sum asks for {run.smallest_sum} in a sum that a server sees"
    if terms.seeded:
        yield "the noise follows from a seed and protects nobody; the run must leave its seed out"
    if terms.mechanism not in (GAUSSIAN, BANDED) and any(
        query.skellam is None for queries in terms.rounds for query in queries
    ):
        yield f"mechanism '{terms.mechanism}': this node has no price for it; install the newest fedrec"
    if not terms.carded and terms.sampling < 1:
        yield "a run that samples users states its noise on a run card alone, and this one shows none"
    if terms.sampling == 1 or terms.hidden:
        yield from _cost(policy, terms)


def _query(policy: Policy, query: QueryTerms) -> str | None:
    run, clip = policy.run, query.largest_clip
    if clip is None or not 0 < clip <= run.clip_norm:
        shown = "none" if clip is None else f"{clip:g}"
        adapts = "" if query.largest_factor == 1 else f", to which {query.clip_norm:g} may grow"
        return f"query '{query.name}': clip {shown}{adapts}; run.clip_norm allows {run.clip_norm:g}"
    if not run.noise_multiplier <= query.noise_multiplier <= MOST_MULTIPLIER:
        return (
            f"query '{query.name}': noise of {query.noise_multiplier:g} clips; at least {run.noise_multiplier:g} "
            f"(run.noise_multiplier) and at most {MOST_MULTIPLIER:g} are accepted"
        )
    return None


def _cost(policy: Policy, terms: RunTerms) -> Iterator[str]:
    """A run in which everybody is asked in every round has one price, known before the first."""
    try:
        whole = terms.whole_cost()
    except PrivacyError as error:
        yield str(error)
        return
    if not policy.run_limit.allows(Totals(1), whole)[0]:
        yield f"all rounds together cost a user more than run.epsilon = {policy.run.epsilon:g} at delta {terms.delta:g}"
