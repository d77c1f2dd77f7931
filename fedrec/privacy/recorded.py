"""The terms and events of a charge as a ledger records them: plain JSON, numbers that matter as exact strings."""

import math
from collections.abc import Mapping
from typing import Any

from fedrec.charge import Banded, Charge, ChargedEvent, ClipRange, Epsilons, QueryTerms
from fedrec.privacy.accounting import Event
from fedrec.privacy.config import PrivacyConfig
from fedrec.privacy.discrete.renyi import SkellamEvent
from fedrec.privacy.queries import SumQuery
from fedrec.privacy.skellam_noise import DiscreteQuery
from fedrec.rounding import rounded_up

MECHANISM = "Poisson-sampled Gaussian, add or remove one user"
"""The mechanism that the accountants assume for each event of trust model `central`."""

BANDED = "Gaussian, banded correlation over rounds, separated participation, add or remove one user"
"""What adds correlated noise. Its events are those of `MECHANISM` with sampling 1, step by step. A device that does not
know the name refuses the run."""

SKELLAM = "Skellam, known cohort, add or remove one user"
"""The mechanism of trust models `distributed` and `local`: one event a query, and no amplification by sampling."""

HIDDEN = "Skellam, one secret coin a user and round, add or remove one user"
"""The same with hidden participation: the events of a charge share one coin (`fedrec.privacy.discrete.hidden`)."""


AGGREGATORS = "Skellam of server and helper each, known cohort, add or remove one user"
"""The same where both aggregators add the whole noise, and users none. A device without the name refuses the run."""


def mechanism(config: PrivacyConfig) -> str:
    """Return the mechanism that the accountants assume for each event of a plan."""
    if config.trust == "central":
        return MECHANISM
    if config.noise_by == "aggregators":
        return AGGREGATORS
    return HIDDEN if config.hidden else SKELLAM


def terms(
    query: SumQuery,
    multiplier: float,
    discrete: DiscreteQuery | None,
    correlation: Banded | None = None,
    *,
    private: bool,
) -> QueryTerms:
    """Return the terms of one query.

    Args:
        query: the query.
        multiplier: standard deviation of the noise over the clip; 0 without privacy.
        discrete: its integers and noise, where users add the noise.
        correlation: of its noise over rounds; None for independent noise.
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
    if correlation is not None:
        where_given["banded"] = correlation
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


def charge(
    config: PrivacyConfig,
    round_index: int,
    queries: list[QueryTerms],
    events: list[ChargedEvent],
    epsilon: Mapping[str, float],
    step: int | None,
) -> Charge:
    """Return the charge of a round.

    Args:
        config: the privacy settings.
        round_index: position of the round, from 0.
        queries: its terms.
        events: what it releases.
        epsilon: cumulative, by accountant, this round included; infinite where nothing bounds it.
        step: of a stream with correlated noise; None for a round alone.
    """
    return Charge(
        type="charge",
        round=round_index,
        queries=queries,
        events=events,
        sampling=repr(config.sampling),
        delta=repr(config.delta) if config.private else None,
        epsilon=Epsilons(**{name: _rounded_up(value) for name, value in epsilon.items()}),
        **({} if step is None else {"step": step}),
    )


def _rounded_up(value: float) -> str | None:
    return rounded_up(value, 6) if math.isfinite(value) else None
