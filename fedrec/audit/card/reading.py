"""The fields of a run card, read from the ledger's first record: each has its type and lies within its bounds."""

import hashlib
import itertools
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fedrec.audit.card import fields
from fedrec.audit.card.card import AGGREGATORS, HIDDEN, TIME, CardRefused, Correlation, Integers, QueryTerms, RunCard
from fedrec.audit.card.fields import FieldError
from fedrec.audit.card.helper import CardHelper, read_helper
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.envelope import SignedRecord
from fedrec.audit.log.keys import PublicKey

MOST_ROUNDS = 1_000_000
MOST_GROUPS = 20_000
"""Groups of rounds with the same terms."""
MOST_QUERIES = 64
"""Queries of a round."""
MOST_SIDES = 8
MOST_BANDS = 10_000
"""Coefficients of correlated noise, and rounds between two participations."""
LARGEST = 1e150
"""Clip norm, noise multiplier."""
MOST_SQUARED = 2**62
"""Squared L2 norm of a user's integers."""
TRUST = ("central", "distributed", "local")
MOST_BITS = 62
"""Of a modulus."""
CLOSE = 1e-9
"""Relative error between a noise and the product of its multiplier and clip."""


def read_card(record: SignedRecord, checkpoint: Checkpoint, key: PublicKey) -> RunCard:
    """Read the first record of a ledger as a card.

    Args:
        record: number 0, whose signature was checked.
        checkpoint: the signed checkpoint that it is under.
        key: the key that signed it.
    Raises: CardRefused when it has no card, or a field is wrong.
    """
    begin = record.payload
    try:
        if begin.get("type") != "begin" or "card" not in begin:
            raise FieldError("the ledger's first record has no run card")
        return _read(begin, record, checkpoint, key)
    except FieldError as error:
        raise CardRefused("card", f"run card: {error}") from None


def _read(begin: Mapping[str, Any], record: SignedRecord, checkpoint: Checkpoint, key: PublicKey) -> RunCard:
    own = fields.table(begin, "card")
    (party,) = fields.items(begin, "parties", 1) or [None]
    if not isinstance(party, dict) or party.get("key") != key.text:
        raise FieldError("'parties' does not name the key that signs the ledger")
    trust, private = fields.text(begin, "trust"), fields.text(begin, "guarantee") != "none"
    if trust not in TRUST:
        raise FieldError(f"'trust' is none of {', '.join(TRUST)}")
    epsilon, delta = fields.decimal_or_none(begin, "target_epsilon"), fields.decimal_or_none(begin, "delta")
    if (epsilon is not None) != private or (delta is not None) != private:
        raise FieldError("'guarantee', 'target_epsilon' and 'delta' contradict each other")
    if delta is not None and not 0 < delta < 1:
        raise FieldError("'delta' is not between 0 and 1")
    sampling = fields.decimal(fields.table(begin, "sampling"), "probability")
    if not 0 < sampling <= 1:
        raise FieldError("'probability' is not above 0 and at most 1")
    rounds = fields.count(begin, "rounds", MOST_ROUNDS)
    starts, groups = _plan(begin, rounds, private)
    users = fields.count(fields.table(begin, "population"), "users")
    least, shares = _shares(begin, trust, users) if private and trust != "central" else (0, None)
    _check_noise(groups, shares)
    mechanism = fields.text(fields.table(begin, "mechanism"), "name")
    if mechanism == HIDDEN and (shares is None or sampling == 1):
        raise FieldError("'mechanism' hides who contributes, where the server adds the noise or everybody contributes")
    _check_aggregators(begin, mechanism, trust, private)
    roster = "" if own.get("roster") is None else fields.digest(own, "roster")
    apart = check_correlation(groups, sampling, trust)
    minimum = fields.count(own, "minimum_cohort")
    if minimum > max(1.0, users * (1.0 if mechanism == HIDDEN else sampling / apart)):
        raise FieldError("'minimum_cohort' exceeds the number of users who are expected in a round")
    return RunCard(
        run=record.run,
        key=key,
        serial=fields.count(own, "serial"),
        expires=_time(own, "expires"),
        fingerprint=fields.digest(own, "fingerprint"),
        algorithm=fields.text(begin, "algorithm"),
        dataset=fields.text(begin, "dataset"),
        trust=trust,
        private=private,
        epsilon=epsilon,
        delta=delta,
        sampling=sampling,
        users=users,
        minimum_cohort=minimum,
        nodes=fields.count(own, "nodes", MOST_ROUNDS),
        receipts=fields.flag(own, "receipts"),
        seeded=fields.flag(begin, "seeded"),
        rounds=rounds,
        starts=starts,
        groups=groups,
        mechanism=mechanism,
        shares=shares,
        digest=hashlib.sha256(record.text).hexdigest(),
        checkpoint=checkpoint,
        roster=roster,
        helper=_helper(begin, own, roster),
        least=least,
    )


def _plan(
    begin: Mapping[str, Any], rounds: int, private: bool
) -> tuple[tuple[int, ...], tuple[tuple[QueryTerms, ...], ...]]:
    starts, groups, next_round = [], [], 0
    for group in fields.items(begin, "plan", MOST_GROUPS):
        if not isinstance(group, dict):
            raise FieldError("'plan' has a group that is no object")
        span = fields.items(group, "rounds", 2)
        if len(span) != 2 or any(type(each) is not int for each in span) or span[0] != next_round or span[1] < span[0]:
            raise FieldError("'plan' does not cover every round once, in order")
        starts.append(next_round)
        groups.append(read_queries(group, private))
        next_round = span[1] + 1
    if next_round != rounds:
        raise FieldError("'plan' does not cover every round once, in order")
    return tuple(starts), tuple(groups)


def read_queries(values: Mapping[str, Any], private: bool) -> tuple[QueryTerms, ...]:
    """Read the field `queries` of a group of rounds, or of a charge. Raises: FieldError."""
    found = [_query(each, private) for each in fields.items(values, "queries", MOST_QUERIES)]
    if len({query.name for query in found}) < len(found):
        raise FieldError("'queries' names one query twice")
    return tuple(found)


def _query(values: Any, private: bool) -> QueryTerms:
    if not isinstance(values, dict):
        raise FieldError("'queries' has an entry that is no object")
    shape = fields.items(values, "shape", MOST_SIDES)
    if any(type(side) is not int or not 0 <= side <= fields.MOST_COUNT for side in shape):
        raise FieldError("'shape' is no list of whole numbers")
    clip, std = fields.decimal_or_none(values, "clip_norm"), fields.decimal(values, "noise_std")
    multiplier = fields.decimal(values, "noise_multiplier")
    if (clip is not None) != private:
        raise FieldError("'clip_norm' is there without privacy, or missing with it")
    if clip is not None and not (0 < clip <= LARGEST and 0 < multiplier <= LARGEST):
        raise FieldError("'clip_norm' or 'noise_multiplier' is 0, or out of bounds")
    if not math.isclose(std, multiplier * (clip or 0.0), rel_tol=CLOSE):
        raise FieldError("'noise_std' is not the multiplier times the clip norm")
    integers = _integers(values, math.prod(shape)) if private and values.get("discrete") is not None else None
    factors = _factors(values) if private and values.get("factors") is not None else None
    correlation = _correlation(values) if private and values.get("banded") is not None else None
    if correlation is not None and factors is not None:
        raise FieldError("'banded' and 'factors' are there together, which no proof covers")
    name = fields.text(values, "name")
    return QueryTerms(name, tuple(shape), clip, multiplier, std, integers, factors, correlation)


def _correlation(values: Mapping[str, Any]) -> Correlation:
    given = fields.table(values, "banded")
    separation = fields.count(given, "separation", MOST_BANDS)
    found = fields.items(given, "coefficients", MOST_BANDS)
    coefficients = tuple(fields.decimal({"coefficients": each}, "coefficients") for each in found)
    falls = all(before >= after for before, after in itertools.pairwise(coefficients))
    if not coefficients or coefficients[0] != 1 or not falls or len(coefficients) > separation:
        raise FieldError("'coefficients' do not begin with 1, or rise, or are more than 'separation'")
    return Correlation(separation, coefficients)


def check_correlation(groups: tuple[tuple[QueryTerms, ...], ...], sampling: float, trust: str) -> int:
    """Check what the proof of correlated noise needs (`fedrec.privacy.banded.factor`).

    Returns: the separation, the same in all rounds; 1 in a run without correlated noise.
    Raises: FieldError.
    """
    kinds = [{query.correlation for query in row} for row in groups]
    if any(len(row) > 1 for row in kinds):
        raise FieldError("'banded' differs between queries of one round")
    found = {kind.separation for row in kinds for kind in row if kind is not None}
    if len(found) > 1:
        raise FieldError("'separation' differs between rounds")
    if found and (trust != "central" or sampling != 1):
        raise FieldError("'banded' is there with sampling, or where users add the noise")
    return next(iter(found), 1)


def _factors(values: Mapping[str, Any]) -> tuple[float, float]:
    given = fields.table(values, "factors")
    smallest, largest = fields.decimal(given, "smallest"), fields.decimal(given, "largest")
    if not 0 < smallest <= 1 <= largest <= LARGEST:
        raise FieldError("'factors' does not lie around 1")
    return smallest, largest


def _integers(values: Mapping[str, Any], size: int) -> Integers:
    given = fields.table(values, "discrete")
    made = Integers(
        encoding=fields.text(given, "encoding"),
        bits=fields.count(given, "bits", MOST_BITS),
        length=fields.decimal(given, "length"),
        dimension=fields.count(given, "dimension"),
        squared=fields.count(given, "squared", MOST_SQUARED),
        absolute=fields.count(given, "absolute", MOST_SQUARED),
        share_variance=fields.decimal(given, "share_variance"),
    )
    if made.dimension < size or not 0 < made.share_variance <= LARGEST:
        raise FieldError("'discrete' has too few integers, or no noise")
    if made.length > LARGEST:
        raise FieldError("'length' is out of bounds")
    if not min(made.squared, math.isqrt(made.squared * made.dimension)) <= made.absolute <= made.squared:
        raise FieldError("'absolute' is no bound that follows from 'squared'")
    if made.squared < math.floor(made.length**2 * (1 - CLOSE)):
        raise FieldError("'squared' is less than the clip in steps of the integers")
    return made


def _helper(begin: Mapping[str, Any], own: Mapping[str, Any], roster: str) -> CardHelper | None:
    """Return the helper. Raises: FieldError where it and the record's aggregator contradict each other."""
    helper, shares = read_helper(own), begin.get("shares")
    promised = roster != "" and isinstance(shares, dict) and shares.get("aggregator") == "helper"
    if promised != (helper is not None):
        raise FieldError("'helper' is there where nodes keep the masks, or missing where a helper does")
    return helper


def _shares(begin: Mapping[str, Any], trust: str, users: int) -> tuple[int, int]:
    """Return the fewest users of a sum, and how many shares hide a user: those of the honest among them.

    In trust model `local` a user's own share hides it.
    """
    given = fields.table(begin, "shares")
    least, colluding = fields.count(given, "least", users), fields.count(given, "colluding", users)
    if given.get("noise_by") is not None:  # of server and helper, each of which adds a share of its own
        if colluding or least < 2:
            raise FieldError("'shares' counts users' noise, or has sums of one user, where server and helper add it")
        return least, 1
    if colluding >= least or (trust == "local" and (least, colluding) != (1, 0)):
        raise FieldError("'shares' leaves no honest user, or counts other users' noise in trust model local")
    return least, least - colluding


def _check_aggregators(begin: Mapping[str, Any], mechanism: str, trust: str, private: bool) -> None:
    """Check that all that says who adds the noise agrees: a node that adds none must be sure that both others do."""
    shares = begin.get("shares")
    given = shares if isinstance(shares, dict) else {}
    if (mechanism == AGGREGATORS) != (given.get("noise_by") == "aggregators"):
        raise FieldError("'mechanism' and 'shares' contradict each other about who adds the noise")
    if mechanism == AGGREGATORS and (trust != "distributed" or not private or given.get("aggregator") != "helper"):
        raise FieldError("'mechanism' is noise of server and helper, where there is no helper")


def _check_noise(groups: tuple[tuple[QueryTerms, ...], ...], shares: int | None) -> None:
    for query in (query for row in groups for query in row):
        if (query.integers is None) != (shares is None):
            raise FieldError("'discrete' is there where the server adds the noise, or missing where users do")
        if query.integers is not None and shares is not None:
            variance = query.integers.share_variance * shares
            if not math.isclose(query.noise_multiplier**2 * query.integers.squared, variance, rel_tol=1e-6):
                raise FieldError("'noise_multiplier' is not what the honest users' shares make")


def _time(values: Mapping[str, Any], name: str) -> datetime:
    given = fields.text(values, name, 40)
    try:
        found = datetime.strptime(given, TIME).replace(tzinfo=UTC)
    except ValueError:
        found = None
    if found is None or found.strftime(TIME) != given:
        raise FieldError(f"'{name}' is no time in UTC, as {TIME}")
    return found
