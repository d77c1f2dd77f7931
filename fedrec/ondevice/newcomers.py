"""Lists before there is a history: a short questionnaire on public features.

Nothing known: `lists.recommend` gives what is popular, made diverse. One event: the model's own list. In between, a
person may choose a few public labels. The answer becomes a pseudo-history, the model's most popular items of each
chosen label, because every kind of model can use a history. It is never stored as events, and its items stay on the
list, since the person has not seen them. A client drops it once there are real events enough.
"""

from collections.abc import Collection, Mapping

import numpy as np

from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.history import History
from fedrec.ondevice.public_items import PublicItems

EACH = 3
"""Items of a pseudo-history for each chosen label."""
LEAST = 5
"""Items that a label needs to be asked about."""


def questions(public: PublicItems, most: int = 12) -> dict[str, list[str]]:
    """Block of categories -> the labels to choose from, those of most items first, at most `most` each."""
    found = {}
    for name, member in public.members.items():
        counts = member.sum(0)
        order = [place for place in np.argsort(-counts, kind="stable").tolist() if counts[place] >= LEAST]
        if len(order) > 1:
            found[name] = [public.labels[name][place] for place in order[:most]]
    return found


def pseudo_history(
    model: DeviceModel,
    public: PublicItems,
    chosen: Mapping[str, Collection[str]],
    each: int = EACH,
    rating: float | None = None,
) -> History:
    """A history that stands for the chosen labels, unordered.

    Args:
        model: the model on the device; its list for a newcomer says what is popular.
        public: the items' public features.
        chosen: block of categories -> the chosen labels.
        each: items for each label.
        rating: of each item, which a model of ratings needs: a high one.

    Raises:
        InputError: for an unknown block or label.
    """
    nobody, items = model.fit(History()), np.zeros(0, np.int64)
    for name, labels in chosen.items():
        for label in labels:
            found, _ = model.top(nobody, each, items, public.mask(having={name: [label]}))
            items = np.concatenate([items, found])
    ratings = None if rating is None else np.full(len(items), rating, np.float32)
    return History(items, ratings, ordered=False)
