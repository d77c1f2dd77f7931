"""The terms and events of a charge as a ledger records them: plain JSON, numbers that matter as exact strings."""

from fedrec.charge import ChargedEvent, QueryTerms
from fedrec.privacy.accounting import Event
from fedrec.privacy.discrete.renyi import SkellamEvent
from fedrec.privacy.queries import SumQuery
from fedrec.privacy.skellam_noise import DiscreteQuery

MECHANISM = "Poisson-sampled Gaussian, add or remove one user"
"""The mechanism that the accountants assume for each event of trust model `central`."""

SKELLAM = "Skellam, known cohort, add or remove one user"
"""The mechanism of trust models `distributed` and `local`: one event a query, and no amplification by sampling."""


def terms(query: SumQuery, multiplier: float, discrete: DiscreteQuery | None, *, private: bool) -> QueryTerms:
    """Return the terms of one query.

    Args:
        query: the query.
        multiplier: standard deviation of the noise over the clip; 0 without privacy.
        discrete: its integers and noise, where users add the noise.
        private: whether there is any guarantee.
    """
    made = QueryTerms(
        name=query.name,
        shape=list(query.shape),
        clip_norm=repr(float(query.clip_norm)) if private else None,
        noise_multiplier=repr(multiplier),
        noise_std=repr(multiplier * query.clip_norm),
    )
    return made if discrete is None else made.model_copy(update={"discrete": discrete.terms()})


def gaussian(event: Event) -> ChargedEvent:
    """Return a Gaussian event."""
    return ChargedEvent(
        mechanism=MECHANISM,
        sampling=repr(event.sampling),
        noise_multiplier=repr(event.noise_multiplier),
        count=event.count,
    )


def skellam(event: SkellamEvent, sampling: float) -> ChargedEvent:
    """Return a Skellam event.

    Args:
        event: the release as the plan's epsilon counts it.
        sampling: probability of each user to take part, which lowers nothing.
    """
    return ChargedEvent(
        mechanism=SKELLAM,
        sampling=repr(sampling),
        noise_multiplier=repr(event.noise_multiplier),
        variance=repr(event.variance),
        squared=event.squared,
        absolute=event.absolute,
        count=event.count,
    )
