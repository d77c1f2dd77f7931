"""The users' integers and noise on a node, derived from the run's description: trust models `distributed`, `local`.

The node makes the plan that the server has made, so that it knows each sum's integers and each user's share itself. A
run card that promises other ones is refused. Every user who is asked adds a share, those with nothing to contribute
too. A node draws the shares of its users at once: a sum of Skellam shares is Skellam with the summed variance.
"""

import json
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from torch import Tensor

from fedrec.algorithms.base import Algorithm
from fedrec.audit.card.card import RunCard
from fedrec.errors import InputError, PrivacyError
from fedrec.federation.spec import RunSpec
from fedrec.privacy.config import PrivacyConfig
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.integers import Integers
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import SumQuery
from fedrec.privacy.skellam_noise import SkellamNoise
from fedrec.run.masked import Layout
from fedrec.settings import parse
from fedrec_client import coins
from fedrec_client.coins import CoinedIntegers
from fedrec_client.prepared_run import Words


class UsersNoise:
    """The integers and noise of one run.

    Args:
        spec: the run's description, with `noise`.
        algorithm: built from it.
        words: makes the secret words of each draw.

    Raises: InputError for settings without a plan.
    """

    def __init__(self, spec: RunSpec, algorithm: Algorithm, words: Words = WordStream.fresh) -> None:
        assert spec.noise is not None
        rounds = tuple(algorithm.queries(number) for number in range(algorithm.rounds))
        self._plan = _plan(spec.noise.model_dump_json(exclude_none=True), rounds, spec.users, f"{spec.seed}")
        self.integers: Integers = self._plan.integers(spec.seed)
        self._words = words

    @property
    def discrete(self) -> SkellamNoise:
        """The encodings and shares."""
        assert self._plan.discrete is not None
        return self._plan.discrete

    @property
    def hidden(self) -> bool:
        """Whether each user's own secret coin decides if it contributes."""
        return self._plan.config.hidden

    def coined(self, give: np.ndarray) -> Integers:
        """Return the integers of an answer with new secret coins; they are in no other place.

        Args:
            give: (C,) bool: whose data may enter.
        """
        fell = coins.draw(len(give), self._plan.config.sampling, self._words())
        return CoinedIntegers(self.integers, give & fell)

    def added(self, sums: Mapping[str, Tensor], round_index: int, users: int) -> dict[str, Tensor]:
        """Return the sums with the shares of all users who were asked; as they are, where server and helper add noise.

        Such sums leave a node under masks for that helper alone (`node`).

        Args:
            sums: int64 modulo 2^bits by query, without noise.
            round_index: position of the round, from 0.
            users: how many were asked.
        """
        if self.discrete.shares.by_aggregators:
            return dict(sums)
        return {
            name: self.discrete.with_shares(round_index, name, total, users, self._words())
            for name, total in sums.items()
        }

    def layout(self, round_index: int) -> Layout:
        """Return the vector of a round's sums."""
        made = {name: self.discrete.encoding(round_index, name) for name in self._plan.rounds[round_index]}
        shapes = {name: self.discrete.total_shape(round_index, name) for name in made}
        return Layout(tuple((name, each.bits, shapes[name]) for name, each in made.items()))

    def fault(self, card: RunCard, round_index: int) -> str:
        """Compare a round with its card. Returns: what differs; "" where nothing does."""
        if card.shares != self.discrete.shares.counted:
            return "other numbers of noise shares than the card's"
        if card.by_aggregators != self.discrete.shares.by_aggregators:
            return "the card says that server and helper add the noise, or the description does, and the other does not"
        if card.hidden != self.hidden:
            return "the card hides who contributes, or the run's description does, and the other does not"
        if card.least != self.discrete.shares.least:
            return f"sums of {self.discrete.shares.least} users are opened, and the card states {card.least}"
        if card.trust == "distributed" and card.minimum_cohort > self.discrete.shares.least:
            return f"sums of {self.discrete.shares.least} users are opened, and the card promises more"
        for query in card.terms(round_index):
            made, promised = self.discrete.query(round_index, query.name), query.integers
            terms = made.terms()
            mine = (terms.encoding, terms.dimension, terms.bits, terms.squared, terms.absolute)
            if promised is None or mine != (
                promised.encoding,
                promised.dimension,
                promised.bits,
                promised.squared,
                promised.absolute,
            ):
                return f"query '{query.name}': other integers than the card's"
            given = (promised.length, promised.share_variance, query.noise_multiplier)
            if not np.allclose(given, (float(terms.length), made.share, made.multiplier), rtol=1e-9, atol=0):
                return f"query '{query.name}': another noise than the card's"
        return ""


@lru_cache(maxsize=2)
def _plan(settings: str, rounds: tuple[tuple[SumQuery, ...], ...], users: int, label: str) -> PrivacyPlan:
    """Return the plan, which takes a second to calibrate and is the same for all nodes of a process."""
    config = parse(PrivacyConfig, json.loads(settings), "the run's settings of noise")
    try:
        return PrivacyPlan.build(config, rounds, users, None, label)
    except PrivacyError as error:
        raise InputError(f"the run's settings of noise: {error}") from None
