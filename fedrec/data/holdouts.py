"""Splits that hold out several items a user: by a moment, by whole users, by a share of each user's events, by folds.

Sources: the global temporal split (Meng et al. 2020; Ji et al. 2023: all other splits leak the future), strong
generalisation by held-out users (Marlin 2004, Liang et al. 2018), ratio and k-fold within users.

Two things differ from the usual code. Every draw derives from the user's own identity, so one user who leaves the log
does not change the split of the others. A value computed from all users' events (a moment that the settings leave
out) is named in the rule, because epsilon does not cover it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch
from pydantic import Field

from fedrec.data.histories import Histories
from fedrec.draws import keys, uniform
from fedrec.errors import InputError
from fedrec.settings import Settings

_WHO, _FOLDS = 0x40, 0x41  # streams of draws


class HoldOutConfig(Settings):
    """The `[data.hold_out]` table of a scenario: the held-out part of a split with several held-out items a user."""

    share: float = Field(default=0.1, gt=0, lt=1)
    """Part that is held out: of the events (temporal), of the users (user-holdout, cold-users), of the items
    (cold-items), of each user's events (ratio)."""
    known: int | None = Field(default=None, ge=0, le=10)
    """cold-users: events that a device of a new user knows, 0 for none; left out, 5. cross-domain: most events of the
    target domain that a device knows; left out, all."""
    target: str | None = None
    """cross-domain only: COLUMN=LABEL, the domain whose items are ranked."""
    elsewhere: bool | None = None
    """cross-domain only: whether devices know their events of other domains; left out, they do."""
    cut: datetime | None = None
    """temporal only: the test starts here; left out, the moment is taken from the log, which epsilon does not cover."""
    folds: int = Field(default=5, ge=2)
    """k-fold only: number of parts of each user's events."""
    fold: int = Field(default=0, ge=0)
    """k-fold only: the part that is tested, 0 .. folds - 1; the next one is for validation."""


@dataclass(frozen=True)
class HoldOut:
    """A hold-out. `train` has a row a training user; `device` and `held` have a row a ranked user (see `Split`)."""

    train: Histories
    device: Histories
    held: Histories
    rule: str


def temporal(histories: Histories, config: HoldOutConfig, test: bool, seed: int) -> HoldOut:
    """Split all users at one moment: earlier events are known, later ones are held out (up to the test's moment)."""
    del seed
    if histories.times is None:
        raise InputError("data.split = 'temporal' needs timestamps and the log has none; use ratio or leave-one-out")
    times = histories.times
    end = np.inf
    cut = _latest(times, config.share) if config.cut is None else _seconds(config.cut)
    if config.cut is None and not (times < cut).any():
        raise InputError("data.split = 'temporal': the log's events have too few moments; use ratio or leave-one-out")
    if not (times < cut).any():
        raise InputError("data.split = 'temporal': no event is older than data.hold_out.cut; choose a later moment")
    if not (times >= cut).any():
        raise InputError("data.split = 'temporal': no event is as new as data.hold_out.cut; choose an earlier moment")
    from_log = config.cut is None
    if not test:
        cut, end, from_log = _latest(times[times < cut], config.share), cut, True
    known = histories.keep(times < cut)
    taken = ", a moment taken from everybody's events, which epsilon does not cover" if from_log else ""
    rule = f"temporal: events since {moment(cut)}{taken}"
    return HoldOut(known, known, histories.keep((times >= cut) & (times < end)), rule)


def user_holdout(histories: Histories, config: HoldOutConfig, test: bool, seed: int) -> HoldOut:
    """Hold out whole users. They never train, fold in the older half of their events and are ranked on the newer."""
    held_out, trained = held_out_users(histories, config, test, seed)
    part = histories.select(held_out)
    newer = part.positions_from_end() < (part.lengths // 2)[part.owners]
    which = which_part(histories, "newer")
    rule = f"user-holdout: {len(held_out)} users who never train, the {which} half of their events"
    return HoldOut(histories.select(trained), part.keep(~newer), part.keep(newer), rule)


def held_out_users(histories: Histories, config: HoldOutConfig, test: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the users who are held out and those who train, positions (n,) and (m,).

    Raises:
        InputError: for a share that leaves nobody.
    """
    if config.share >= 0.5:
        raise InputError(
            f"data.hold_out.share = {config.share:g}: as many users again are for validation and somebody must "
            "train; choose less than 0.5"
        )
    drawn = uniform(_user_keys(histories, seed), _WHO, 1)[:, 0].numpy()
    low = 0.0 if test else config.share
    held_out = np.flatnonzero((drawn >= low) & (drawn < low + config.share))
    trained = np.flatnonzero(drawn >= 2 * config.share)
    if not len(held_out) or not len(trained):
        raise InputError(
            f"data.hold_out.share = {config.share:g} of {len(histories)} users leaves {len(held_out)} to rank and "
            f"{len(trained)} to train; choose another share or another seed"
        )
    return held_out, trained


def ratio(histories: Histories, config: HoldOutConfig, test: bool, seed: int) -> HoldOut:
    """Hold out a share of each user's events, at least one: the newest for the test, as many before for validation."""
    del seed
    count = np.maximum(1, np.floor(histories.lengths * config.share).astype(np.int64))
    lags = histories.positions_from_end() // count[histories.owners]  # 0: test, 1: validation
    part = 0 if test else 1
    known = histories.keep(lags > part)
    which = f"the {which_part(histories, 'newest' if test else 'second newest')} {config.share:g} of each user's events"
    return HoldOut(known, known, histories.keep(lags == part), f"ratio: {which}")


def k_fold(histories: Histories, config: HoldOutConfig, test: bool, seed: int) -> HoldOut:
    """Divide each user's events into equal parts by a seeded draw: one for the test, the next one for validation."""
    if not 0 <= config.fold < config.folds:
        raise InputError(
            f"data.hold_out.fold = {config.fold}: must be 0..{config.folds - 1}, with folds = {config.folds}"
        )
    shift = (uniform(_user_keys(histories, seed), _FOLDS, 1)[:, 0] * config.folds).long().numpy()
    order = histories.random_order(seed)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))  # the rank of each event in the draw
    folds = (place - histories.offsets[histories.owners] + shift[histories.owners]) % config.folds
    tested, validated = config.fold, (config.fold + 1) % config.folds
    known = histories.keep((folds != tested) & (test | (folds != validated)))
    held = tested if test else validated
    rule = f"k-fold: part {held} of {config.folds} of each user's events by a seeded draw, whatever their time"
    return HoldOut(known, known, histories.keep(folds == held), rule)


KINDS: dict[str, Callable[[Histories, HoldOutConfig, bool, int], HoldOut]] = {
    "temporal": temporal,
    "user-holdout": user_holdout,
    "ratio": ratio,
    "k-fold": k_fold,
}
"""The splits that hold out several items a user."""


def hold_out(kind: str, histories: Histories, config: HoldOutConfig, *, test: bool, seed: int) -> HoldOut:
    """Make the hold-out of `kind`. A user without known events has no held-out events either.

    Raises:
        InputError: when the log or the settings do not fit this kind.
    """
    made = KINDS[kind](histories, config, test, seed)
    return replace(made, held=made.held.keep((made.device.lengths > 0)[made.held.owners]))


def _latest(times: np.ndarray, share: float) -> float:
    """Return the moment after which about `share` of the events happened; 0 without events."""
    return float(np.quantile(times, 1 - share, method="higher")) if len(times) else 0.0


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment(seconds: float) -> str:
    """Return seconds since 1970 as a date for readers, or as the number where there is no such date."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(" ").removesuffix("+00:00") + " UTC"
    except (ValueError, OverflowError, OSError):  # a log whose times are no dates at all
        return f"the time {seconds:.0f}"


def _user_keys(histories: Histories, seed: int) -> torch.Tensor:
    known = np.arange(len(histories)) if histories.identities is None else histories.identities
    return keys(seed, torch.from_numpy(np.ascontiguousarray(known, dtype=np.int64)))


def which_part(histories: Histories, which: str) -> str:
    """Name a part of each user's events for readers, by what the log says of their order."""
    return which if histories.ordered else "randomly drawn (the log tells no order)"
