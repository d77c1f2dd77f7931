"""Splits: the held-out items, training events and masked items of each user.

Sources: leave-one-out with 99 negatives as in NCF (He et al. 2017), leave-two-out by time, the split of a dataset
itself, and those of `fedrec.data.holdouts`, which hold out several items a user. Unlike the samplers of several
federated papers, training never has access to the held-out item: `contribute` receives `train` alone.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fedrec.data.catalogue import Catalogue
from fedrec.data.cold import cold_items, cold_users
from fedrec.data.datasets import Dataset
from fedrec.data.domains import domains
from fedrec.data.histories import Histories
from fedrec.data.holdouts import KINDS, hold_out
from fedrec.data.new_items import NewItems, only
from fedrec.data.order import ties_rule
from fedrec.errors import InputError, nearest

NEGATIVES = 99
HELD_OUT = ("test", "validation")
"""The part of the data that a split holds out."""
REPEATABLE = ("leave-one-out", "leave-two-out")
"""Splits for `data.repeats = "keep"`: they hold out one event, perhaps of an item that the user has consumed."""
_SEEDED = 0x5917  # keeps the draws of a split apart from those of training under the same seed


@dataclass(frozen=True)
class Split:
    """One task for a recommender: rank the held-out items of each user from the events on the device.

    The rows of `device`, `targets`, `seen`, `negatives` and `many` are the users who are ranked. The rows of `train`
    are the users who train: the same ones in the same order, unless whole users are held out.

    Attributes:
        train: events that users may train on.
        device: events that a device ranks from.
        targets: (users,) int64 held-out item, -1 where a user has none.
        seen: items masked in full ranking.
        negatives: (users, 99) int64 of the sampled protocol, or None.
        rule: one line that describes the choice of all of these.
        many: every held-out item of each user, oldest first, where a split holds out several; else None. `targets` is
            then the first item of each row (-1 and an empty row: not ranked). No item of a row of `many` is in that row
            of `seen` or of `device`.
        new_items: the items that training never had, where a split holds out items; else None. `train` then has
            positions in the catalogue of training, and everything else has positions in `new_items.catalogue`.
        before_cleaning: the training events as in the log, where `[data.cleaning]` changes them; else None.
        leaky: True if devices receive the held-out item on purpose (`evaluation.leaky_negatives`).
    """

    train: Histories
    device: Histories
    targets: np.ndarray
    seen: Histories
    negatives: np.ndarray | None
    rule: str
    many: Histories | None = None
    leaky: bool = False
    new_items: NewItems | None = None
    before_cleaning: Histories | None = None

    def __post_init__(self) -> None:
        new = self.new_items
        if new is None:
            return
        if self.train.n_items != len(new.trained) or new.new[self.device.items].any():
            raise InputError("split: a new item is among the training events or on a device; both must be without any")

    @property
    def rated_train(self) -> Histories:
        """The training events with the ratings of the log, for baselines and levels on its scale."""
        return self.train if self.before_cleaning is None else self.before_cleaning

    def training_catalogue(self, catalogue: Catalogue) -> Catalogue:
        """Return the catalogue that training has, of a dataset with this `catalogue`."""
        return catalogue if self.new_items is None else self.new_items.trained_catalogue


def split(dataset: Dataset, kind: str, on: Literal["test", "validation"], seed: int) -> Split:
    """Split `dataset`. Tune on "validation", report "test".

    Args:
        dataset: the data to split.
        kind: name of the split, as `data.split`.
        on: the part that is held out and ranked.
        seed: seed of every draw; the same seed gives the same split.

    Raises:
        InputError: when the kind is unknown or the dataset does not have what it needs.
    """
    one = {
        "leave-one-out": _leave_one_out,
        "leave-two-out": _leave_two_out,
        "ncf": _ncf,
        "given": _given,
        "given-all": _given_all,
        "cold-items": _cold_items,
        "cold-users": _cold_users,
        "cross-domain": _cross_domain,
    }
    if kind not in one and kind not in KINDS:
        raise InputError(f"unknown split '{kind}'.{nearest(kind, [*one, *KINDS])}")
    if on not in HELD_OUT:
        raise InputError(f"a split is on 'test' or 'validation', not '{on}'")
    if dataset.repeats and kind not in REPEATABLE:
        raise InputError(
            f"data.repeats = 'keep': not for the split '{kind}', whose held-out items are none that a user knows; use "
            f"data.split = {' or '.join(map(repr, REPEATABLE))}, or data.repeats = 'first'"
        )
    made = one[kind](dataset, on == "test", seed) if kind in one else _several(dataset, kind, on == "test", seed)
    missing = int((made.targets < 0).sum())
    if missing == len(made.targets):
        raise InputError(
            f"{dataset.name}: no user has enough events for the split '{kind}' on {on}; choose another data.split"
        )
    why = "too short" if made.many is None else "without known or without held-out events"
    rule = made.rule + (f"; {missing} users {why}, not ranked" if missing else "")
    rule += ties_rule(dataset.histories)
    cleaned = dataset.cleaning(made.train, seed ^ _SEEDED)
    if cleaned is not made.train:
        made = replace(made, train=cleaned, before_cleaning=made.train)
        rule += dataset.cleaning.rule
    if not dataset.keep_order and (made.train.ordered or made.train.moments is not None):
        rule += "; devices forget the order of events"
        train, device = (part.forgotten(seed ^ _SEEDED) for part in (made.train, made.device))
        made = replace(made, train=train, device=device)
    if dataset.dropped is not None:
        if len(made.seen) != len(dataset.dropped):
            raise InputError(
                f"data.mask_dropped: not for the split '{kind}', which ranks some users only; leave it out"
            )
        made = replace(made, seen=made.seen.joined(dataset.dropped))
        rule += "; masked, too: what a user rated too low to count"
        if dataset.train_dropped:
            train, device = (replace(part, disliked=dataset.dropped) for part in (made.train, made.device))
            made = replace(made, train=train, device=device)
            rule += ", and every other training negative is one of these"
    train = dataset.balance(made.train, seed ^ _SEEDED)
    return replace(made, train=train, rule=rule + dataset.balance.rule)


def _leave_one_out(dataset: Dataset, test: bool, seed: int) -> Split:
    histories = dataset.histories
    lag = 0 if test else 1
    known = histories.keep(histories.positions_from_end() >= lag)
    which = _which(histories, "newest" if test else "second newest")
    if dataset.repeats:
        return _repeatable(_hold_out_newest(known, seed, f"leave-one-out: {which}"), f"leave-one-out: {which}")
    return _hold_out_newest(known, seed, f"leave-one-out: {which}")


def _ncf(dataset: Dataset, test: bool, seed: int) -> Split:
    if dataset.fixed_test is None:
        raise InputError(
            f"{dataset.name}: no published NCF test split fits this data (ncf_leave_one_out.parquet beside a whole "
            "ml-1m); use data.split = 'leave-one-out'"
        )
    targets, negatives = dataset.fixed_test
    rest = dataset.histories.keep(dataset.histories.items != targets[dataset.histories.owners])
    if not test:
        return _hold_out_newest(rest, seed, "NCF validation: the newest event but for the NCF test item")
    rule = "NCF leave-one-out: the published test item and its 99 negatives; masked: training items"
    return Split(rest, rest, targets, rest, negatives, rule)


def _hold_out_newest(known: Histories, seed: int, rule: str) -> Split:
    targets = _at_lag(known, 0)
    targets[known.lengths < 2] = -1  # nothing would be left to rank from
    train = known.keep((known.positions_from_end() > 0) | (targets < 0)[known.owners])
    negatives = _negatives(known, seed)
    drawn = f"{NEGATIVES} distinct uniform negatives outside training items and target"
    sampled = (
        drawn if negatives is not None else f"no sampled negatives, some user has fewer than {NEGATIVES} unknown items"
    )
    return Split(train, train, targets, train, negatives, f"{rule}; {sampled}; masked: training items")


def _leave_two_out(dataset: Dataset, test: bool, seed: int) -> Split:
    del seed
    histories = dataset.histories
    targets = _at_lag(histories, 0 if test else 1)
    short = histories.lengths < 3
    targets[short] = -1
    lags = histories.positions_from_end()
    stays = short[histories.owners]
    train = histories.keep((lags >= 2) | stays)
    device = histories.keep((lags >= 1) | stays) if test else train
    which = _which(histories, "newest" if test else "second newest")
    knows = "training and validation items" if test else "training items"
    rule = f"leave-two-out: {which}; devices know, and masked are, {knows}"
    made = Split(train, device, targets, device, None, rule)
    return _repeatable(made, f"leave-two-out: {which}; devices know {knows}") if dataset.repeats else made


def _repeatable(made: Split, rule: str) -> Split:
    """Return the split for users who may consume an item again: nothing masked, no sampled negatives."""
    seen = made.seen.keep(np.zeros(len(made.seen.items), dtype=bool))
    said = "nothing masked and no sampled negatives, since users may consume an item again"
    return replace(made, seen=seen, negatives=None, rule=f"{rule}; {said}")


def _given(dataset: Dataset, test: bool, seed: int) -> Split:
    histories, parts = dataset.histories, _parts(dataset)
    held = parts == (2 if test else 1)
    train = histories.keep(parts < (2 if test else 1))
    # The draw must not follow the order of the file: events are ranked by a hash within each user.
    candidates = histories.keep(held)
    targets = _at_lag(candidates.permuted(candidates.random_order(seed ^ _SEEDED)), 0)
    seen = histories.keep((parts <= (2 if test else 1)) & ~(held & (histories.items == targets[histories.owners])))
    name = "test" if test else "validation"
    rule = f"given: one {name} item a user by a seeded draw; masked: every other item up to the {name} part"
    return Split(train, train, targets, seen, None, rule)


def _given_all(dataset: Dataset, test: bool, seed: int) -> Split:
    del seed
    histories, parts = dataset.histories, _parts(dataset)
    part, name = (2, "test") if test else (1, "validation")
    known = histories.keep(parts < part)
    held = histories.keep((parts == part) & (known.lengths > 0)[histories.owners])
    rule = f"given: every {name} item of each user; masked: every item before the {name} part"
    return Split(known, known, _firsts(held), known, None, rule, held)


def _cold_items(dataset: Dataset, test: bool, seed: int) -> Split:
    if dataset.dropped is not None or dataset.balance.keep is not None or dataset.cleaning.means is not None:
        raise InputError(
            "data.split = 'cold-items': not with data.mask_dropped, data.balance.popularity or "
            "data.cleaning.item_means, which name items that training never has; leave them out"
        )
    histories, catalogue = dataset.histories, dataset.catalogue
    made = cold_items(histories, catalogue, dataset.hold_out, test=test, seed=seed ^ _SEEDED)
    targets = _at_lag(made.held.permuted(made.held.random_order(seed ^ _SEEDED)), 0)
    others = made.held.keep(made.held.items != targets[made.held.owners])
    train, rule = only(made.known, made.items.trained), f"{made.rule}; masked: every other item of the user"
    return Split(train, made.known, targets, made.known.joined(others), None, rule, new_items=made.items)


def _cold_users(dataset: Dataset, test: bool, seed: int) -> Split:
    made, seen = cold_users(dataset.histories, dataset.hold_out, test, seed ^ _SEEDED)
    return Split(made.train, made.device, _firsts(made.held), seen, None, made.rule)


def _cross_domain(dataset: Dataset, test: bool, seed: int) -> Split:
    del seed
    made = domains(dataset.histories, dataset.catalogue, dataset.hold_out, test=test)
    return Split(made.train, made.train, made.targets, made.seen, None, made.rule)


def _parts(dataset: Dataset) -> np.ndarray:
    if dataset.parts is None:
        raise InputError(f"{dataset.name}: came without a split of its own; use data.split = 'leave-one-out'")
    return dataset.parts


def _several(dataset: Dataset, kind: str, test: bool, seed: int) -> Split:
    made = hold_out(kind, dataset.histories, dataset.hold_out, test=test, seed=seed ^ _SEEDED)
    rule = f"{made.rule}; masked: what devices know"
    return Split(made.train, made.device, _firsts(made.held), made.device, None, rule, made.held)


def _firsts(held: Histories) -> np.ndarray:
    targets = np.full(len(held), -1, dtype=np.int64)
    has = held.lengths > 0
    targets[has] = held.items[held.offsets[:-1][has]]
    return targets


def _which(histories: Histories, newest: str) -> str:
    return f"the {newest} event" if histories.ordered else "one event by a seeded draw (the log tells no order)"


def _at_lag(histories: Histories, lag: int) -> np.ndarray:
    targets = np.full(len(histories), -1, dtype=np.int64)
    has = histories.lengths > lag
    targets[has] = histories.items[histories.offsets[1:][has] - 1 - lag]
    return targets


def _negatives(known: Histories, seed: int, block: int = 4096) -> np.ndarray | None:
    """Draw (users, 99) distinct uniform items outside `known`; None if a user has fewer than 99 of them."""
    if known.n_items - known.lengths.max() < NEGATIVES:
        return None
    blocks = [np.arange(start, min(start + block, len(known))) for start in range(0, len(known), block)]
    drawn = [known.batch(users, seed ^ _SEEDED).distinct_negatives(NEGATIVES, stream=0).numpy() for users in blocks]
    return np.concatenate(drawn)
