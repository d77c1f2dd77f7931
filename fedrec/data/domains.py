"""Two domains of items and the same users: a split that shows what the history in one is worth for lists in the other.

A public column of the catalogue says which items belong to the target domain, e.g. `genres=Children's` or
`domain=books`. Each user is ranked on the newest event of that domain, among that domain's items alone. Events after
it, in any domain, are withheld, so that nobody's future is known. `known` limits the events of the target domain that
a user keeps: 0 makes everybody new there.

With `elsewhere` a device keeps the events of all domains, in one history under one clip and one budget: the unit of
privacy is the user with everything that the user did. Without it the other domains' events are withheld, on the same
held-out events and among the same users, which is what a transfer is measured against.
"""

from dataclasses import dataclass

import numpy as np

from fedrec.data.catalogue import Catalogue, Categories
from fedrec.data.histories import Histories
from fedrec.data.holdouts import HoldOutConfig, which_part
from fedrec.errors import InputError, nearest


@dataclass(frozen=True)
class Domains:
    """A split by domain, a row a user in each part.

    Attributes:
        train: events that devices have.
        targets: (users,) int64, the held-out item; -1 for a user without an event in the domain, who is not ranked.
        seen: items that are masked: those of other domains, and every other item of the user.
        rule: one line that describes it.
    """

    train: Histories
    targets: np.ndarray
    seen: Histories
    rule: str


def of_domain(catalogue: Catalogue, target: str) -> np.ndarray:
    """Return which items belong to a domain, (items,) bool.

    Args:
        catalogue: the items with their public labels.
        target: COLUMN=LABEL.

    Raises:
        InputError: for a column or label that the catalogue does not have, or one that all items or none have.
    """
    name, _, label = target.partition("=")
    blocks = {block.name: block for block in catalogue.blocks if isinstance(block, Categories)}
    if name not in blocks:
        raise InputError(
            f"data.hold_out.target: no column '{name}' of labels.{nearest(name, blocks)} Give COLUMN=LABEL"
        )
    if label not in blocks[name].labels:
        raise InputError(f"data.hold_out.target: no label '{label}' in '{name}'.{nearest(label, blocks[name].labels)}")
    found: np.ndarray = blocks[name].membership[:, blocks[name].labels.index(label)]
    if found.all():
        raise InputError(f"data.hold_out.target = '{target}': every item is of that domain; take another label")
    return found


def domains(histories: Histories, catalogue: Catalogue, config: HoldOutConfig, *, test: bool) -> Domains:
    """Split by domain.

    Args:
        histories: every event.
        catalogue: the items with their public labels.
        config: `target`, `elsewhere` and `known`.
        test: hold out the newest event of the domain; else the one before it.

    Raises:
        InputError: for a target that the catalogue does not have.
    """
    if not config.target:
        raise InputError("data.split = 'cross-domain' needs data.hold_out.target=COLUMN=LABEL, the domain to rank")
    elsewhere = config.elsewhere is not False
    inside = of_domain(catalogue, config.target)
    mine = inside[histories.items]
    later = _newer(histories, mine)  # events of the domain that are newer, for each event
    lag = 0 if test else 1
    held = mine & (later == lag)
    past = later > lag  # older than the held-out event, in any domain
    has = np.bincount(histories.owners[held], minlength=len(histories)) > 0
    kept = np.where(mine, past, past | (~has)[histories.owners])
    if config.known is not None:
        kept &= ~mine | (later - lag <= config.known)
    if not elsewhere:
        kept &= mine
    targets = np.full(len(histories), -1, dtype=np.int64)
    targets[histories.owners[held]] = histories.items[held]
    if config.known != 0:  # the same users are ranked with and without the other domains
        older = np.bincount(histories.owners[mine & past], minlength=len(histories))
        targets[older == 0] = -1
    train = histories.keep(kept)
    seen = _others(histories.keep(~held & mine), np.flatnonzero(~inside))
    few = "" if config.known is None else f", at most {config.known} of them in the domain"
    what = "events of every domain" if elsewhere else "events of this domain alone"
    rule = (
        f"cross-domain: the {'newest' if test else 'second newest'} event with {config.target} "
        f"({which_part(histories, 'newest')}), among the {int(inside.sum())} items of that domain; devices know older "
        f"{what}{few}; masked: every other item of the user"
    )
    return Domains(train, targets, seen, rule)


def _newer(histories: Histories, mine: np.ndarray) -> np.ndarray:
    """Return how many events of the domain come after each event of its user, (events,) int64."""
    total = np.concatenate([[0], np.cumsum(mine)])
    at_end = np.repeat(total[histories.offsets[1:]], histories.lengths)
    return at_end - total[1:]


def _others(histories: Histories, items: np.ndarray) -> Histories:
    """Return the histories with `items` added to everybody's, unordered."""
    users = len(histories)
    added = Histories(
        offsets=np.arange(users + 1, dtype=np.int64) * len(items),
        items=np.tile(items.astype(np.int32), users),
        n_items=histories.n_items,
        ordered=False,
    )
    return histories.joined(added)
