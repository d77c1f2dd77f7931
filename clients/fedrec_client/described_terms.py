"""The terms of a run without a run card: what its description states, and the node's own algorithm asks for."""

import math

from fedrec.algorithms.base import Algorithm
from fedrec.errors import InputError
from fedrec.federation.data_request import parse_data
from fedrec.federation.spec import RunSpec
from fedrec_client.consent.policy import MOST_ROUNDS
from fedrec_client.consent.spending import gaussian_epsilon
from fedrec_client.consent.terms import QueryTerms, RunTerms


def described_terms(spec: RunSpec, algorithm: Algorithm, delta: float, public: bool) -> RunTerms:
    """Return the run's terms.

    Args:
        spec: the run's description, which promises a total signal-to-noise at full participation.
        algorithm: built from it on this node.
        delta: at which epsilon is stated; a description has none.
        public: whether the users are a shard of the dataset that the run names.
    """
    mu = spec.mu
    rounds = tuple(
        tuple(
            QueryTerms(
                query.name,
                tuple(query.shape),
                query.clip_norm if mu is not None else None,
                noise := 0.0 if not mu else 1 / (mu * math.sqrt(query.budget_share)),
                noise * query.clip_norm,
                largest_factor=1.0 if query.factors is None else query.factors[1],
            )
            for query in algorithm.queries(number)
        )
        for number in range(min(algorithm.rounds, MOST_ROUNDS + 1))
    )
    return RunTerms(
        run=spec.fingerprint,
        algorithm=spec.algorithm,
        fingerprint=spec.fingerprint,
        rounds=rounds,
        sampling=spec.expected_cohort / spec.users,
        trust=spec.trust,
        minimum_cohort=spec.expected_cohort,
        epsilon=math.inf if mu is None else gaussian_epsilon(mu * mu, delta),
        delta=0.0 if mu is None else delta,
        users=spec.users,
        dataset=_dataset(spec) if public else "",
    )


def _dataset(spec: RunSpec) -> str:
    try:
        return parse_data(spec.data).data.name
    except InputError:  # a description without one, of data that the caller holds
        return ""
