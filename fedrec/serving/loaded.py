"""A released model that is served, and the lists that it makes of the requests of one batch."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedrec import __version__
from fedrec.data.spellings import canonical_id
from fedrec.errors import FedrecError, InputError
from fedrec.http.entrance import Refusal
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.history import History, State
from fedrec.ondevice.ids import ItemIds
from fedrec.ondevice.lists import Entry, Wishes, recommend, recommend_many
from fedrec.ondevice.released import model_folder, open_released, read_manifest
from fedrec.received_files import read_below
from fedrec.serving.messages import About, Guarantee, Listed, Person, Place
from fedrec.serving.tokens import Tokens

_STATEMENT = "privacy/statement.json"
_LARGEST_STATEMENT = 16 << 20


@dataclass(frozen=True)
class Loaded:
    """A model that is open.

    Attributes:
        model: itself.
        ids: of its items.
        about: for those who ask.
        tokens: the state tokens of its lists.
    """

    model: DeviceModel
    ids: ItemIds
    about: About
    tokens: Tokens

    @classmethod
    def of(cls, run: Path, key: bytes | None = None) -> "Loaded":
        """Open the model of a run and try it.

        Args:
            run: a run, its `release/`, or the model's own folder.
            key: of state tokens; None for a new one.

        Raises:
            InputError, VerificationError: where it cannot be used, one line.
        """
        folder = model_folder(run)
        manifest, content = read_manifest(folder)
        released = open_released(folder)
        if released.ids is None:
            raise InputError(f"{folder}: a model of an older version, without the ids of its items; release it again")
        model, digest = released.model, hashlib.sha256(content).hexdigest()
        about = About(
            version=__version__,
            algorithm=model.called,
            kind=manifest["kind"],
            items=model.n_items,
            digest=digest,
            needs_ratings=model.needs_ratings,
            statement=_statement(folder),
        )
        found = cls(model, released.ids, about, Tokens(key, digest))
        ratings = np.ones(1, np.float32) if model.needs_ratings else None
        for history in (History(), History(np.zeros(1, np.int64), ratings)):  # also makes what the first list needs
            recommend(model, model.fit(history), Wishes(seen=True))
        return found

    def lists(self, people: Sequence[Person]) -> list[Listed | Exception]:
        """Return the list of each person, or the error that this person's request has. No one affects another."""
        found: list[Listed | Exception] = [InputError("no list")] * len(people)
        ready: list[tuple[int, State, Wishes, int]] = []
        for place, person in enumerate(people):
            try:
                ready.append((place, *self._prepared(person)))
            except Exception as error:
                found[place] = error
        try:
            made: list[list[Entry] | Exception] = list(
                recommend_many(self.model, [(state, wishes) for _, state, wishes, _ in ready])
            )
        except Exception:  # someone's numbers: whose they are shows when each is alone
            made = [self._alone(state, wishes) for _, state, wishes, _ in ready]
        for (place, state, _, unknown), entries in zip(ready, made, strict=True):
            if isinstance(entries, Exception):
                found[place] = entries
                continue
            found[place] = Listed(
                items=tuple(Place(item=self.ids.at(each.item), score=each.score, why=each.why) for each in entries),
                unknown=unknown,
                model=self.about.digest,
                state=self._sealed(state) if people[place].keep_state else None,
            )
        return found

    def _sealed(self, state: State) -> str:
        """The token of a state, without the person's attributes."""
        return self.tokens.seal(self.model.about(state, {}) if state.history.attributes else state)

    def _alone(self, state: State, wishes: Wishes) -> list[Entry] | Exception:
        try:
            return recommend(self.model, state, wishes)
        except Exception as error:
            return error

    def _prepared(self, person: Person) -> tuple[State, Wishes, int]:
        state, unknown = self._state(person)
        exclude, more = self._places(person.exclude)
        wishes = Wishes(k=person.k, exclude=np.array(exclude, np.int64), seen=person.seen, diversity=person.diversity)
        return state, wishes, unknown + more

    def _state(self, person: Person) -> tuple[State, int]:
        """The state of a person, and how many ids are unknown."""
        events = self._events(person)
        places = [self.ids.find(canonical_id(item)) for item, _ in events]
        known = [(place, rating) for place, (_, rating) in zip(places, events, strict=True) if place is not None]
        disliked, unknown = self._places(person.dislikes)
        unknown += len(places) - len(known)
        if person.state is not None:
            if person.dislikes:
                raise Refusal(400, "bad_input", "dislikes: a state has its own; send the whole history with them")
            state = self.tokens.open(person.state)
            for place, rating in known:
                state = self.model.record(state, place, rating)
            return self.model.about(state, person.attributes) if person.attributes else state, unknown
        history = History(
            items=np.array([place for place, _ in known], np.int64),
            ratings=None if person.ratings is None else np.array([rating for _, rating in known], np.float32),
            ordered=person.ordered,
            disliked=np.array(disliked, np.int64),
            attributes=person.attributes,
        )
        return self.model.fit(history), unknown

    @staticmethod
    def _events(person: Person) -> list[tuple[str, float | None]]:
        count = len(person.history)
        for name, given in (("ratings", person.ratings), ("times", person.times)):
            if given is not None and len(given) != count:
                raise Refusal(400, "bad_input", f"{name}: has {len(given)} numbers for {count} events; give each one")
        ratings: Sequence[float | None] = person.ratings if person.ratings is not None else [None] * count
        events = list(zip(person.history, ratings, strict=True))
        if person.times is None:
            return events
        return [events[place] for place in np.argsort(np.array(person.times), kind="stable").tolist()]

    def _places(self, items: Sequence[str]) -> tuple[list[int], int]:
        found = [place for item in items if (place := self.ids.find(canonical_id(item))) is not None]
        return found, len(items) - len(found)


def _statement(folder: Path) -> Guarantee | None:
    """What the statement next to the model's folder says; None where there is none that can be read."""
    try:
        content = read_below(folder.parent, _STATEMENT, _LARGEST_STATEMENT)
        found = json.loads(content or b"null")
        if not isinstance(found, dict):
            return None
        parts = {name: found.get(name) for name in ("guarantee", "unit", "epsilon", "delta")}
        return Guarantee.model_validate(
            {name: None if value is None else str(value)[:200] for name, value in parts.items()}
        )
    except (FedrecError, ValueError, RecursionError):
        return None
