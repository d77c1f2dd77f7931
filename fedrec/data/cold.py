"""Cold start: splits with items, or with users, that training never had.

`cold-items`: a public random part of the catalogue is removed from everybody's training events and from the catalogue
of training itself, so no query, negative, popularity or table has a place for it. The items join the released model
through their public features. A user is ranked on one removed item, among these alone and among the whole catalogue.
Source: the item cold start of Schein et al. 2002 and of CB2CF (Barkan et al. 2019). Different: the choice of items is
a function of the seed and of their ids, never of who rated what, and a popularity score is the same for all new items.

`cold-users`: whole users never train. Each ranks the item after the first `WATCHED` events, from the newest `known` of
these. Targets and masks are the same for every `known`, so figures of different numbers compare.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.data.holdouts import HoldOut, HoldOutConfig, held_out_users, which_part
from fedrec.data.ids import identities
from fedrec.data.new_items import NewItems, only
from fedrec.draws import keys, uniform
from fedrec.errors import InputError

WATCHED = 10
"""`cold-users`: the events of a new user that are masked; the next one is held out."""
KNOWN = 5
"""`cold-users`: the events that a device knows, unless the settings say otherwise."""
_ITEMS = 0x43  # stream of draws


@dataclass(frozen=True)
class ColdItems:
    """A split by items, in positions of the catalogue of `items`.

    Attributes:
        known: every user's events with trained items.
        held: every user's events with new items, of users who have known ones.
        items: the trained items and the new ones.
        rule: one line that describes it.
    """

    known: Histories
    held: Histories
    items: NewItems
    rule: str


def cold_items(
    histories: Histories, catalogue: Catalogue, config: HoldOutConfig, *, test: bool, seed: int
) -> ColdItems:
    """Hold out a part of the items.

    On "test" the cold items of validation are ordinary ones; on "validation" the cold items of the test do not exist.

    Args:
        histories: every event.
        catalogue: the items, with public features.
        config: `share` is the part of the items that is cold.
        test: True for the test's items.
        seed: of the draw.

    Raises:
        InputError: for a catalogue without features, or where nothing is left to train on or to rank.
    """
    if not catalogue.blocks:
        raise InputError(
            "data.split = 'cold-items' needs items with public features, by which a new one can be ranked; give "
            "data.catalogue"
        )
    if config.share >= 0.5:
        raise InputError(
            f"data.hold_out.share = {config.share:g}: as many items again are for validation and some must be known; "
            "choose less than 0.5"
        )
    drawn = _draws(catalogue, seed)
    exists = np.flatnonzero(drawn >= (0.0 if test else config.share))
    cold = drawn[exists] < (1 if test else 2) * config.share
    histories, catalogue = only(histories, exists), catalogue.select(exists)
    if not cold.any() or cold.all():
        raise InputError(f"data.hold_out.share = {config.share:g} of {len(catalogue)} items is none, or all of them")
    events = cold[histories.items]
    known = histories.keep(~events)
    held = histories.keep(events & (known.lengths > 0)[histories.owners])
    rule = (
        f"cold-items: {int(cold.sum())} of {len(cold)} items, drawn by the public seed from their ids, are in no "
        "training event and in no catalogue of training; they join the released model by their public features; "
        "devices know all events of other items, later ones too; held out: one cold item a user by a seeded draw"
    )
    return ColdItems(known, held, NewItems(catalogue, np.flatnonzero(~cold)), rule)


def cold_users(histories: Histories, config: HoldOutConfig, test: bool, seed: int) -> tuple[HoldOut, Histories]:
    """Hold out whole users, who know a few events; also return the events that are masked."""
    held_out, trained = held_out_users(histories, config, test, seed)
    count = KNOWN if config.known is None else config.known
    part = histories.select(held_out)
    place = np.arange(len(part.items)) - np.repeat(part.offsets[:-1], part.lengths)
    enough = (part.lengths > WATCHED)[part.owners]
    seen = part.keep((place < WATCHED) & enough)
    device = part.keep((place < WATCHED) & (place >= WATCHED - count) & enough)
    held = part.keep((place == WATCHED) & enough)
    rule = (
        f"cold-users: {len(held_out)} users who never train; each knows {count} events, the "
        f"{which_part(histories, 'newest')} of the first {WATCHED}, and is ranked on the next one; masked: these "
        f"{WATCHED}"
    )
    return HoldOut(histories.select(trained), device, held, rule), seen


def _draws(catalogue: Catalogue, seed: int) -> np.ndarray:
    """Draw one uniform number an item, (items,) float64, from the seed and its id alone."""
    names = identities(pl.Series(catalogue.ids, dtype=pl.String))
    return uniform(keys(seed, torch.from_numpy(names)), _ITEMS, 1)[:, 0].numpy()
