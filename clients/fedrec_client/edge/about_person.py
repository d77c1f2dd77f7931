"""What a person says about themselves: answers to a short questionnaire, and attributes. Both are private values in the
encrypted store; nothing sends them. A model that was released with a tower for people ranks by the attributes here.

Answers make a first list before there are events. While fewer than 3 events count, the model's most popular
items of each chosen label stand in front of the person's own, as a history without order. They are no events: they may
be listed, are no reason in `explain`, and are in no contribution.
"""

import json
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from fedrec.errors import InputError
from fedrec.ondevice.newcomers import questions
from fedrec.ondevice.public_items import PublicItems
from fedrec_client.edge.personal_values import ANSWERS, ATTRIBUTES, answers_in, attributes_in
from fedrec_client.store import Store

if TYPE_CHECKING:
    from fedrec_client.edge.installed import OpenModel
    from fedrec_client.edge.private_state import PrivateState

MOST = 100
"""Most chosen labels, and most attributes."""


class AboutPerson:
    """A base of EdgeClient, which has the store, the state of the person and the lock."""

    _lock: threading.RLock
    _store: Store
    _state: "PrivateState"

    def questionnaire(self, most: int = 12) -> dict[str, list[str]]:
        """Return what a new person may be asked: block of public categories -> labels, those of most items first.

        Args:
            most: most labels of a block.

        Raises:
            InputError: where no model or no public features are installed.
        """
        if most < 1:
            raise InputError(f"most = {most}: must be at least 1")
        with self._lock:
            return questions(_public(self._state.model()), most)

    def answer(self, chosen: Mapping[str, Collection[str]]) -> None:
        """Keep the labels that the person chose, in place of earlier ones; lists use them until there are 3 events.

        Args:
            chosen: block -> labels, of `questionnaire`; nothing to take the answers back.

        Raises:
            InputError: for an unknown block or label, for a model of ratings, which labels say nothing about, and
                where no model or no public features are installed.
        """
        made = {name: sorted(set(labels)) for name, labels in chosen.items() if labels}
        with self._lock:
            if not made:
                self._store.drop_state(ANSWERS)
                return
            model = self._state.model()
            if model.rated:
                raise InputError("answers: the model learns from ratings alone, and a label is none; leave them out")
            _public(model).mask(having=made)
            if sum(map(len, made.values())) > MOST:
                raise InputError(f"answers: more than {MOST} labels; choose fewer")
            self._store.set_state(ANSWERS, json.dumps(made).encode())

    @property
    def answers(self) -> dict[str, list[str]]:
        """The labels that the person chose, by block."""
        with self._lock:
            return answers_in(self._store)

    def set_attribute(self, name: str, value: str | None) -> None:
        """Keep a private attribute of the person for the app and for models on this device, e.g. a language.

        Args:
            name: of the attribute.
            value: up to 1,000 characters; None takes it back.

        Raises:
            InputError: for more than 100 attributes, or a name or value that is empty or too long.
        """
        if not 0 < len(name) <= 100 or (value is not None and not 0 < len(value) <= 1000):
            raise InputError("attribute: give a name of 1 to 100 and a value of 1 to 1,000 characters, or no value")
        with self._lock, self._store.transaction():
            found = self.attributes | ({} if value is None else {name: value})
            if value is None:
                found.pop(name, None)
            if len(found) > MOST:
                raise InputError(f"attribute: there are {MOST} already; take one back first")
            self._store.set_state(ATTRIBUTES, json.dumps(found).encode())

    @property
    def attributes(self) -> dict[str, str]:
        """The private attributes by name."""
        with self._lock:
            return attributes_in(self._store)


def _public(model: "OpenModel") -> PublicItems:
    if model.public is None:
        raise InputError("questions need the public features of the items; install with public=FILE")
    return model.public
