"""Micro-batches: requests that wait for the same model are answered by one reading of its table.

While a batch is computed, in one thread, further requests arrive and wait. The next batch takes the oldest of them. So
a single request never waits for others, and under load the batches grow. A batch has at most `people` people and about
`events` events, which bounds how long the next one waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fedrec.serving.loaded import Loaded
from fedrec.serving.messages import Listed, Person

EVENTS = 4000
"""Events of the people of one batch; a person with more is alone in it."""


@dataclass(frozen=True)
class _Waiting:
    """A person who waits for a list under a model."""

    model: Loaded
    person: Person
    answer: "asyncio.Future[Listed]"


class Batches:
    """The batches of one server; used in its loop.

    Args:
        people: most in a batch.
        made: called with the number of people of each batch.
    """

    def __init__(self, people: int = 32, made: Callable[[int], None] | None = None) -> None:
        self._people, self._made = people, made
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, "fedrec-lists")
        self._work: asyncio.Task[None] | None = None

    async def lists(self, model: Loaded, people: Sequence[Person]) -> list[Listed]:
        """Return the lists of some people under a model, in their order.

        Raises:
            FedrecError, Refusal: that of the first person who has one.
        """
        loop = asyncio.get_running_loop()
        answers = [loop.create_future() for _ in people]
        self._waiting += [_Waiting(model, *each) for each in zip(people, answers, strict=True)]
        if self._work is None:
            self._work = loop.create_task(self._compute())
        try:
            found = await asyncio.gather(*answers, return_exceptions=True)
        finally:
            for answer in answers:
                answer.cancel()  # of someone who waits no more; no effect on one that is there
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return [each for each in found if isinstance(each, Listed)]

    async def _compute(self) -> None:
        try:
            while batch := self._next():
                model, people = batch[0].model, [each.person for each in batch]
                loop = asyncio.get_running_loop()
                try:
                    found: Sequence[Listed | Exception]
                    found = await loop.run_in_executor(self._thread, model.lists, people)
                except Exception as error:
                    found = [error] * len(batch)
                if self._made is not None:
                    self._made(len(batch))
                for each, answer in zip(batch, found, strict=True):
                    if each.answer.done():
                        continue
                    if isinstance(answer, Exception):
                        each.answer.set_exception(answer)
                    else:
                        each.answer.set_result(answer)
        finally:
            self._work = None

    def _next(self) -> list[_Waiting]:
        """Take the oldest people who still wait, and those after them with the same model."""
        batch: list[_Waiting] = []
        events = 0
        while self._waiting:
            each = self._waiting[0]
            events += len(each.person.history)
            full = len(batch) >= self._people or events > EVENTS
            if batch and (full or each.model is not batch[0].model):
                break
            self._waiting.popleft()
            if each.answer.done():
                events -= len(each.person.history)
                continue
            batch.append(each)
        return batch
