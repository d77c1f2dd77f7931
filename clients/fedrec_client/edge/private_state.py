"""PrivateState: what the model in use makes of all events in the store, kept in memory until either changes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.history import History, State
from fedrec.ondevice.newcomers import pseudo_history
from fedrec_client.edge.installed import Models, OpenModel, Pointer
from fedrec_client.edge.kinds_of_events import Past, Reading, extends
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.edge.personal_values import ENOUGH, answers_in, attributes_in
from fedrec_client.store import Store

NEW_EVENTS = 8
"""Events that are added to a state one at a time; of more, the state is fitted again, which gives the same."""


@dataclass(frozen=True)
class Now:
    """The private state of one version of the store under one model.

    Attributes:
        version: of the store.
        pointer: to the model.
        past: the model's input.
        state: what the model made of it.
    """

    version: str
    pointer: Pointer
    past: Past
    state: State


class Places(dict[str, int | None]):
    """Positions of the items that the person's events have, found once. None: the model has no such item."""

    def __init__(self, model: OpenModel) -> None:
        super().__init__()
        self._ids = model.ids

    def __missing__(self, item: str) -> int | None:
        self[item] = found = self._ids.find(item)
        return found


class PrivateState:
    """The state of a device's person. It is in memory alone: a start makes it again from the events.

    Args:
        folder: of the device.
        store: its open store.
    """

    def __init__(self, folder: DeviceFolder, store: Store) -> None:
        self._folder, self._store, self._models = folder, store, Models(folder)
        self.clear()

    @property
    def installed(self) -> bool:
        """Whether a model is installed."""
        return self._models.pointer() is not None

    def clear(self) -> None:
        """Forget what is in memory."""
        self._model: OpenModel | None = None
        self._now: Now | None = None
        self._reading: tuple[OpenModel, Reading] | None = None

    def install(
        self,
        release: Path,
        public: Path | None,
        min_rating: float | None,
        check: Callable[[OpenModel], None] = lambda _: None,
    ) -> OpenModel:
        """Install a model, see `Models.install`; it is tried with the person's own history."""
        self._model = self._models.install(release, public, min_rating, lambda model: self._past(model).history, check)
        return self._model

    def pointer(self) -> Pointer | None:
        """Return the pointer to the model in use; None before one is installed."""
        return self._models.pointer()

    def model(self) -> OpenModel:
        """Return the model in use, also where another process installed it.

        Raises:
            InputError: where none is installed, or its files are damaged.
        """
        pointer = self._models.pointer()
        if pointer is None:
            raise InputError(f"{self._folder.path}: no model is installed; install a release first")
        if self._model is None or self._model.pointer != pointer:
            try:
                self._model = self._models.open(pointer)
            except InputError:
                newer = self._models.pointer()  # another process may have removed the old one meanwhile
                if newer is None or newer == pointer:
                    raise
                self._model = self._models.open(newer)
        return self._model

    def current(self) -> tuple[OpenModel, Now]:
        """Return the model in use, and the state of all events under it; equal to a full refit bit for bit."""
        model, found = self.model(), self._now
        version = self._store.version  # before the events: what changes in between is read again next time
        if found is None or (found.version, found.pointer) != (version, model.pointer):
            past = self._past(model)
            known = found if found is not None and found.pointer == model.pointer else None
            self._now = found = Now(
                version, model.pointer, past, _state(model, past, self._started(model, past), known)
            )
        return model, found

    def _started(self, model: OpenModel, past: Past) -> History:
        """Return the history, or for a person with few events who answered questions, one that begins with answers."""
        history = past.history
        if len(history) >= ENOUGH or model.rated or model.public is None:
            return history
        labels = model.public.labels
        chosen = {
            name: [each for each in of if each in labels.get(name, ())] for name, of in answers_in(self._store).items()
        }
        stand = pseudo_history(model.model, model.public, {name: of for name, of in chosen.items() if of}).items
        stand = stand[~np.isin(stand, np.concatenate([past.seen, history.disliked]))]
        if not len(stand):
            return history
        return replace(history, items=np.concatenate([stand, history.items]), ordered=False, times=None)

    def _past(self, model: OpenModel) -> Past:
        if self._reading is None or self._reading[0] is not model:
            find, least = Places(model).__getitem__, model.pointer.min_rating
            self._reading = (model, Reading(find, rated=model.rated, min_rating=least))
        past = self._reading[1].read(self._store.events())
        return replace(past, history=replace(past.history, attributes=attributes_in(self._store)))


def _state(model: OpenModel, past: Past, started: History, old: Now | None) -> State:
    """Return the state of a history: from an older one where only a few events are new, else fitted."""
    history = past.history
    if len(started) > len(history) or (old is not None and len(old.state.history) > len(old.past.history)):
        return model.model.fit(started)  # answers count, or no longer do
    if old is None or not extends(history, old.past.history) or len(history) - len(old.past.history) > NEW_EVENTS:
        return model.model.fit(history)
    state, start = old.state, len(old.past.history)
    ratings = [None] * len(history) if history.ratings is None else history.ratings.tolist()
    times = [None] * len(history) if history.times is None else history.times.tolist()
    for item, rating, time in zip(history.items[start:].tolist(), ratings[start:], times[start:], strict=True):
        state = model.model.record(state, item, rating, time)
    return state
