"""Reasons in words, and lists by a wish in words: what a language model on the device may help with."""

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from fedrec.errors import InputError
from fedrec.ondevice.explanation import Explanation, explanation
from fedrec_client.edge.answers import Filters, Recommendation, Reranked

if TYPE_CHECKING:
    from fedrec.generate.base import LanguageModel
    from fedrec.generate.retell import Retold
    from fedrec_client.edge.private_state import PrivateState


class InWords(ABC):
    """A base of EdgeClient, which has the state of the person and the lock."""

    _lock: threading.RLock
    _state: "PrivateState"

    @abstractmethod
    def recommend(
        self, k: int = 10, *, filters: Filters | None = None, diversity: float | None = None
    ) -> list[Recommendation]:
        """See `EdgeClient.recommend`."""

    def explain(self, item: str | int) -> Explanation:
        """Return what each own past item and each group of features adds to an item's score: shares that sum to it.

        Args:
            item: its id.

        Raises:
            InputError: where no model is installed, it has no such item, or its shares miss the score.
        """
        with self._lock:
            model, now = self._state.current()
        place = model.place(item)
        history = [model.ids.at(own) for own in now.state.history.items.tolist()]
        answers = len(history) - len(now.past.history)  # items in front of the history, which stand for answers
        found = model.model.attribute(now.state, place)
        return explanation(found, model.ids.at(place), history, model.title, answers)

    def retell(self, item: str | int, model: "LanguageModel") -> "Retold":
        """Return the reasons of `explain` in the words of a language model on this device.

        The model gets what the plain words of this item say, and may only rephrase it. Where its answer fails a check,
        the plain words are returned.

        Args:
            item: its id.
            model: of `fedrec.generate.place.language_model`.

        Raises:
            InputError: as `explain`.
        """
        from fedrec.generate.retell import retell

        return retell(model, self.explain(item))

    def rerank(
        self, wish: str, model: "LanguageModel", k: int = 10, *, pool: int = 20, filters: Filters | None = None
    ) -> Reranked:
        """Return a list in the order of a wish in words, e.g. "something short and funny".

        A language model on this device orders the best `pool` items by their public titles and features. It gets no
        event, no score and no rank. Where its answer is no order of them, the list of `recommend` stays.

        Args:
            wish: of the person, 1 to 300 characters.
            model: of `fedrec.generate.place.language_model`.
            k: most places of the list.
            pool: items that are ordered, at most 50.
            filters: which items may be on the list.

        Raises:
            InputError: as `recommend`; for a wish or a pool out of range; and without public titles or features.
        """
        from fedrec.generate.rerank import MOST, Candidate, rerank

        if not 1 <= k <= pool <= MOST:
            raise InputError(f"k = {k}, pool = {pool}: must be at least 1, and k <= pool <= {MOST}")
        found = self.recommend(pool, filters=filters, diversity=0.0)
        with self._lock:
            known = self._state.model()
        if known.public is None:
            raise InputError("a wish needs the public titles and features of the items; install with public=FILE")
        if not found:
            return Reranked((), "", "no item is left to recommend")
        shortlist = [Candidate(known.title(each.item), known.public.facts(known.place(each.item))) for each in found]
        order = rerank(model, shortlist, wish)
        return Reranked(tuple(found[place] for place in order.places[:k]), order.by, order.note)
