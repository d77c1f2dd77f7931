"""Lists of a device beside those of the torch form: the same person, model and history."""

import numpy as np

from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.history import History


def history_of(users: UserBatch, row: int) -> History:
    """The history of one user of a batch, for a device."""
    one = users.slice(row, row + 1)
    disliked = np.zeros(0, np.int64) if one.disliked is None else one.disliked[0][one.disliked[0] >= 0].numpy()
    return History(
        items=one.items.numpy(),
        ratings=None if one.ratings is None else one.ratings.numpy(),
        ordered=one.ordered and not (one.tied is not None and bool(one.tied[0])),
        key=int(one.keys[0]) % 2**64,
        disliked=disliked,
        times=None if one.times is None else one.times.numpy(),
        attributes={} if one.people is None else one.people.person(0),
    )


def differing(model: ReleasedModel, form: DeviceModel, users: UserBatch, k: int, seen: bool = False) -> list[int]:
    """The users whose lists of k items differ between the torch form and the device's, in an item or a place."""
    listed, _ = model.recommend(users, k, seen=seen)
    found = []
    for row, expected in enumerate(listed.tolist()):
        history = history_of(users, row)
        left_out = history.disliked if seen else np.concatenate([history.items, history.disliked])
        items, _ = form.top(form.fit(history), k, exclude=left_out)
        if items.tolist() != [item for item in expected if item >= 0]:
            found.append(row)
    return found
