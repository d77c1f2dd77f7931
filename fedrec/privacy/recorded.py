"""The terms and events of a charge as a ledger records them: plain JSON, numbers that matter as exact strings."""

from typing import Any

from fedrec.charge import ChargedEvent, ClipRange, QueryTerms
from fedrec.privacy.accounting import Event
from fedrec.privacy.config import PrivacyConfig
from fedrec.privacy.discrete.renyi import SkellamEvent
from fedrec.privacy.queries import SumQuery
from fedrec.privacy.skellam_noise import DiscreteQuery

MECHANISM = "Poisson-sampled Gaussian, add or remove one user"
"""The mechanism that the accountants assume for each event of trust model `central`."""

SKELLAM = "Skellam, known cohort, add or remove one user"
"""The mechanism of trust models `distributed` and `local`: one event a query, and no amplification by sampling."""

HIDDEN = "Skellam, one secret coin a user and round, add or remove one user"
"""The same with hidden participation: the events of a charge share one coin (`fedrec.privacy.discrete.hidden`)."""


def mechanism(config: PrivacyConfig) -> str:
    """Return the mechanism that the accountants assume for each event of a plan."""
    if config.trust == "central":
        return MECHANISM
    return HIDDEN if config.hidden else SKELLAM


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
    where_given: dict[str, Any] = {}
    if discrete is not None:
        where_given["discrete"] = discrete.terms()
    if query.factors is not None and private:
        smallest, largest = map(repr, map(float, query.factors))
        where_given["factors"] = ClipRange(smallest=smallest, largest=largest)
    return made.model_copy(update=where_given) if where_given else made


def gaussian(event: Event) -> ChargedEvent:
    """Return a Gaussian event."""
    return ChargedEvent(
        mechanism=MECHANISM,
        sampling=repr(event.sampling),
        noise_multiplier=repr(event.noise_multiplier),
        count=event.count,
    )


def skellam(event: SkellamEvent, config: PrivacyConfig) -> ChargedEvent:
    """Return a Skellam event.

    Args:
        event: the release as if every user who is asked contributed.
        config: the privacy settings. Sampling lowers nothing unless it is hidden.
    """
    return ChargedEvent(
        mechanism=mechanism(config),
        sampling=repr(config.sampling),
        noise_multiplier=repr(event.noise_multiplier),
        variance=repr(event.variance),
        squared=event.squared,
        absolute=event.absolute,
        count=event.count,
    )
