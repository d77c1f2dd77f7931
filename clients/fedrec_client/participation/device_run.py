"""A run on a device: some algorithms with numpy alone, others by a process with torch that ends.

A node with torch derives each query's integers and noise from the run's description. A device takes them from the
signed run card, and checks that what its price rests on holds: the bound on its integers is enforced on the integers
themselves, and the card's noise is the noise that it draws.
"""

import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedrec.audit.card.card import Integers, QueryTerms, RunCard
from fedrec.errors import InputError, PrivacyError
from fedrec.federation import exchange
from fedrec.ondevice.history import History
from fedrec.ondevice.kernel_items import KernelItems
from fedrec.ondevice.run_items import RunItems
from fedrec.ondevice.training import integers
from fedrec.ondevice.training.base import DeviceQuery, RunFacts, Training
from fedrec.ondevice.training.discover import TRAININGS, training
from fedrec.privacy.discrete.encoding import MOST_BITS, Encoding
from fedrec.privacy.discrete.rounding import LARGEST_SQUARED, users_draws
from fedrec.privacy.discrete.skellam import LARGEST_VARIANCE, skellam
from fedrec.privacy.shares import Shares
from fedrec.run.masked import Layout
from fedrec.wire import WireError
from fedrec_client import coins
from fedrec_client.consent.answering import WithoutEvents
from fedrec_client.consent.policy import Policy
from fedrec_client.consent.terms import RunTerms
from fedrec_client.hosted_data import Find
from fedrec_client.participation.child_run import TorchTraining, trained
from fedrec_client.participation.device_spec import DeviceSpec, parse
from fedrec_client.participation.stored_user import StoredUsers
from fedrec_client.prepared_run import PreparedRun, Words

_CLOSE = 1e-9
OF_EVENTS = (
    *("tower-sgd", "fcf", "spectral", "fedncf", "pfedrec", "fedrecon"),
    *("gpfedrec", "cofedrec", "fedrap", "fedvlr"),
)
"""Algorithms that learn from events, and need torch."""
OF_FEATURES = ("kernel-rank",)
"""Algorithms that numpy trains where the device has the features of the items; else they need torch."""


class DeviceRun(PreparedRun):
    """A run over stores.

    Args:
        spec: the description.
        items: of the run.
        hosted: the stores.
        form: the device's side of the algorithm.
        words: makes the secret words of noise and coins.
    """

    public = False

    def __init__(self, spec: DeviceSpec, items: RunItems, hosted: StoredUsers, form: Training, words: Words) -> None:
        self.spec, self._spec, self.users, self.identities = spec, spec, len(hosted), hosted.identities
        self._items, self._hosted, self._form, self._words = items, hosted, form, words
        self._card: RunCard | None = None
        self.without: dict[int, WithoutEvents] = {}

    @property
    def rounds(self) -> int:
        return self._form.rounds

    def queries(self, round_index: int) -> tuple[DeviceQuery, ...]:
        return self._form.queries(round_index)

    def described_terms(self) -> RunTerms:
        raise WireError("card", "a device takes part in no run without a card")

    def take_card(self, card: RunCard, round_index: int) -> str:
        noise, shares = self._spec.noise, self.shares
        assert noise is not None
        if card.shares != shares.counted:
            return "other numbers of noise shares than the card's"
        if card.by_aggregators != noise.by_aggregators:
            return "the card says that server and helper add the noise, or the description does, and the other does not"
        if card.hidden != noise.hidden:
            return "the card hides who contributes, or the run's description does, and the other does not"
        if card.least != shares.least or (card.trust == "distributed" and card.minimum_cohort > shares.least):
            return f"sums of {shares.least} users are opened, and the card states {card.least}"
        if not math.isclose(card.sampling, noise.sampling, rel_tol=_CLOSE):
            return "the card states another sampling than the run's description"
        for query, terms in zip(self.queries(round_index), card.terms(round_index), strict=True):
            if fault := _fault(query, terms, shares):
                return f"query '{query.name}': {fault}"
        self._card = card
        return ""

    def fault(self, shared: Mapping[str, Any], round_index: int) -> str:
        return self._form.fault(shared, round_index)

    def layout(self, round_index: int) -> Layout:
        made = [(query, self._encoding(round_index, query)) for query in self.queries(round_index)]
        return Layout(tuple((query.name, each.bits, _shape(query, each)) for query, each in made))

    @property
    def shares(self) -> Shares:
        noise = self._spec.noise
        assert noise is not None
        try:
            return Shares.of(
                self._spec.users,
                noise.sampling,
                noise.dropout,
                noise.colluding,
                local=noise.trust == "local",
                hidden=noise.hidden,
                by_aggregators=noise.by_aggregators,
            )
        except PrivacyError as error:
            raise WireError("terms", str(error)) from None

    def sums(
        self, shared: Mapping[str, Any], round_index: int, cohort: np.ndarray, give: np.ndarray, *, noise: bool
    ) -> dict[str, np.ndarray]:
        own = self._spec.noise if noise else None
        hidden = own is not None and own.hidden
        nobody = not hidden and not give.any()
        counted = give
        if hidden:
            assert own is not None
            counted = give & coins.draw(len(give), own.sampling, self._words())
        self.without = {}
        totals, dropped = self._zeros(round_index), self._zeros(round_index)
        try:
            # Who does not count is computed all the same where coins, or all users' reasons, would show otherwise.
            for place, counts in zip(cohort.tolist(), counted.tolist(), strict=True):
                if counts or hidden or nobody:
                    self._add(totals if counts else dropped, shared, round_index, place)
        finally:
            self._form.end()
        return totals if own is None or own.by_aggregators else self._noised(totals, round_index, len(cohort))

    def _zeros(self, round_index: int) -> dict[str, np.ndarray]:
        if self._spec.noise is None:
            return {query.name: np.zeros(query.shape, np.int64) for query in self.queries(round_index)}
        made = ((query, self._encoding(round_index, query)) for query in self.queries(round_index))
        return {query.name: np.zeros(_shape(query, each), np.int64) for query, each in made}

    def _add(self, totals: dict[str, np.ndarray], shared: Mapping[str, Any], round_index: int, place: int) -> None:
        """Add one user's integers to the totals."""
        user, policy = self._hosted.users[place], self._hosted.policies[place]
        history, without = user.history(self._items.ids, self._spec.wanted, policy)
        if without is not None:
            self.without[place] = without
        # The rounding of a person is of no other's, so that errors of many devices do not add up.
        key = secrets.randbits(62)
        if isinstance(self._form, TorchTraining):
            self._add_given(totals, self._form, history, key, round_index)
            return
        with np.errstate(all="ignore"):
            parts = self._form.parts(shared, replace(history, key=key), round_index)
            for query in self.queries(round_index):
                total, part = totals[query.name], parts[query.name]
                if self._spec.noise is None:
                    total += integers.exact(query, part, self._spec.users)
                    continue
                made = self._encoding(round_index, query)
                draws = partial(users_draws, self._spec.seed, round_index, query.name, key)
                total += integers.encoded(query, part, self._spec.users, made, draws).reshape(total.shape)
                total &= (1 << made.bits) - 1

    def _add_given(
        self, totals: dict[str, np.ndarray], form: TorchTraining, history: History, key: int, round_index: int
    ) -> None:
        """Add one user's integers, which a process with torch makes, to the totals."""
        noise, queries = self._spec.noise, self.queries(round_index)
        made = {} if noise is None else {query.name: self._encoding(round_index, query) for query in queries}
        for name, part in form.integers(history, key, made).items():
            totals[name] += part.reshape(totals[name].shape)
            if name in made:
                totals[name] &= (1 << made[name].bits) - 1

    def _noised(self, totals: dict[str, np.ndarray], round_index: int, users: int) -> dict[str, np.ndarray]:
        """Return the totals with the shares of all users who were asked, in one draw of the same distribution."""
        found = {}
        for query, terms in zip(self.queries(round_index), self._terms(round_index), strict=True):
            assert terms.integers is not None
            made, total = self._encoding(round_index, query), totals[query.name]
            noise = skellam(terms.integers.share_variance * users, made.dimension, self._words())
            found[query.name] = made.sent(total.reshape(-1), noise).reshape(total.shape)
        return found

    def _terms(self, round_index: int) -> tuple[QueryTerms, ...]:
        if self._card is None:
            raise WireError("card", "a device takes part in no run without a card")
        return self._card.terms(round_index)

    def _encoding(self, round_index: int, query: DeviceQuery) -> Encoding:
        terms = next(each for each in self._terms(round_index) if each.name == query.name)
        made = terms.integers
        assert made is not None
        label = f"{self._spec.seed}\0{round_index}\0{query.name}"
        return Encoding(_kind(made), query.size, made.dimension, made.bits, made.length, made.squared, label)


def prepared(
    words: Words, catalogue: Path | None = None, features: Path | None = None
) -> Callable[[str, Find, Policy], DeviceRun]:
    """Return what prepares runs.

    Args:
        words: makes the secret words of noise and coins.
        catalogue: file of the public items, for algorithms that need torch; None to refuse these.
        features: file of the items' features (`fedrec.ondevice.kernel_items.KernelItems`), where there is one.
    """
    by_numpy = [name for name in TRAININGS if features is not None or name not in OF_FEATURES]

    def prepare(text: str, find: Find, policy: Policy) -> DeviceRun:
        spec = parse(text)
        known = spec.algorithm in TRAININGS or spec.algorithm in OF_EVENTS
        if not known or not spec.plain or spec.settings.get("ratings"):
            raise WireError("request", f"'{spec.algorithm}' with these settings is not trained on a device")
        hosted = find(spec.data)
        if hosted.catalogue.digest != spec.catalogue:
            raise WireError("catalogue", exchange.REFUSALS["catalogue"])
        if not spec.private:
            raise WireError("privacy", exchange.REFUSALS["privacy"])
        assert isinstance(hosted.catalogue, RunItems)
        assert isinstance(hosted.source, StoredUsers)
        form: Training
        try:
            items = len(hosted.catalogue)
            if spec.algorithm in OF_FEATURES and features is None and catalogue is None:
                raise InputError(f"'{spec.algorithm}' needs the file of features that `fedrec client items` writes")
            if spec.algorithm not in by_numpy or spec.capped:
                form = trained(text, spec.algorithm, catalogue, items, policy.run.rounds)
            else:
                found = None
                if features is not None and spec.algorithm in OF_FEATURES:
                    found = KernelItems.read(features, spec.catalogue, items)
                facts = RunFacts(items, spec.users, spec.mu, spec.seed, found)
                form = training(spec.algorithm, spec.settings, facts)
        except InputError as error:
            raise WireError("request", str(error)) from None
        if not 1 <= form.rounds <= policy.run.rounds:
            raise WireError("terms", f"{form.rounds} rounds: run.rounds allows 1 to {policy.run.rounds}")
        return DeviceRun(spec, hosted.catalogue, hosted.source, form, words)

    return prepare


def _fault(query: DeviceQuery, terms: QueryTerms, shares: Shares) -> str:
    """Compare the integers of a query with what the device computes; "" where they fit."""
    made = terms.integers
    if made is None or made.encoding not in ("rotated", "plain"):
        return "no integers that this device makes"
    encoding = Encoding(_kind(made), query.size, made.dimension, made.bits, made.length, made.squared)
    finite = 0 < made.length < 2.0**26 and 0 < made.squared <= LARGEST_SQUARED and 8 <= made.bits <= MOST_BITS
    if not finite or made.absolute != encoding.absolute or not 0 < made.share_variance <= LARGEST_VARIANCE:
        return "integers out of range"
    if made.encoding == "plain":
        step = query.clip_norm / made.length
        if made.dimension != query.size or math.frexp(step)[0] != 0.5:
            return "other integers than the card's"
        if made.squared < math.floor(made.length**2):
            return "a bound below the clip"
    elif made.dimension < query.size or made.dimension & (made.dimension - 1):
        return "other integers than the card's"
    if not math.isclose(made.share_variance * shares.counted, terms.noise_multiplier**2 * made.squared, rel_tol=_CLOSE):
        return "another noise than the card's"
    return ""


def _kind(made: Integers) -> Literal["rotated", "plain"]:
    return "rotated" if made.encoding == "rotated" else "plain"


def _shape(query: DeviceQuery, made: Encoding) -> tuple[int, ...]:
    return query.shape if made.kind == "plain" else (made.dimension,)
