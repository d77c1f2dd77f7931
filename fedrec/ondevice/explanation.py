"""Explanation: the shares of one score with the names of items and feature groups, and what they say in words.

A share belongs to a group of features, and where it depends on an own event, to that event too. The `reasons` are the
same shares summed once each: events through what the model learned from people, families of public features, and what
holds for everybody. Percentages are of the sum of the reasons' sizes, since a reason may lower a score.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from typing import Literal

import numpy as np

from fedrec.ondevice.attribution import ATTRIBUTES, NOT_CHOSEN, OWN_COPY, POPULARITY, TASTE, Attribution
from fedrec.plain_text import plain

Kind = Literal["past", "answers", "feature", "popularity", "not chosen", "own copy", "attributes"]
LEARNED = "co-occurrence"
"""Start of the names of the kernels that a model learned from people; the others are public features."""
VARIANTS = (" set", " near", " far", " fine")
"""Ends of the names of several kernels on the same features."""
PRODUCT = " x "
"""Between the names of two blocks whose kernels are multiplied."""
LONGEST_TITLE = 80
NAMED = 2
"""Items or families of features that a sentence names."""


@dataclass(frozen=True, slots=True)
class Part:
    """One share. Attributes: event: id of the own past item, None for no event; group: of features; value: signed."""

    event: str | None
    group: str
    value: float


@dataclass(frozen=True, slots=True)
class Share:
    """A sum of shares. Attributes: name: a past item's id, or a group; value: what it adds to the score; share: the
    value as a part of the sum of all sizes, -1 to 1."""

    name: str
    value: float
    share: float


@dataclass(frozen=True, slots=True)
class Reason:
    """A share in the words of a person. Attributes: kind: where it comes from; name: an item's title, or a family of
    features; value: signed."""

    kind: Kind
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Clause:
    """Reasons of one kind and one sign.

    Attributes:
        kind: of its reasons.
        names: the largest ones.
        more: number of further ones.
        value: the sum of all of them.
        percent: signed, of the sum of the sizes of all reasons.
    """

    kind: Kind
    names: tuple[str, ...]
    more: int
    value: float
    percent: int


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score.

    Attributes:
        item: its id.
        title: its title, or its id where no title is known.
        score: of the model.
        baseline: score of the average item for the same person. The parts sum to score less baseline.
        attributed: the part of that sum that passes hidden units, which integrated gradients split; the rest is exact.
        parts: the shares by own event and group, without those that are 0.
        reasons: the same shares, each once, in descending order.
    """

    item: str
    title: str
    score: float
    baseline: float
    attributed: float
    parts: tuple[Part, ...]
    reasons: tuple[Reason, ...]

    @property
    def past(self) -> tuple[Share, ...]:
        """The shares by own past item, in descending order; the others belong to no event."""
        own = _sums((part.event, part.value) for part in self.parts if part.event is not None)
        return _shares(own, fsum(part.value for part in self.parts if part.event is None))

    @property
    def groups(self) -> tuple[Share, ...]:
        """The shares by group of features, in descending order."""
        return _shares(_sums((part.group, part.value) for part in self.parts), 0.0)

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """The reasons by kind and sign: first those that raise the score, the largest first."""
        found: dict[tuple[Kind, bool], list[Reason]] = {}
        for reason in self.reasons:
            found.setdefault((reason.kind, reason.value > 0), []).append(reason)
        order = sorted(found.values(), key=lambda each: (each[0].value < 0, -abs(fsum(part.value for part in each))))
        values = [fsum(part.value for part in each) for each in order]
        made = []
        for each, value, percent in zip(order, values, percents(values), strict=True):
            largest = [reason.name for reason in sorted(each, key=lambda reason: -abs(reason.value))]
            if each[0].kind == "feature":  # a product of two blocks names both
                largest = list(dict.fromkeys(block for name in largest for block in name.split(PRODUCT)))
            made.append(Clause(each[0].kind, tuple(largest[:NAMED]), max(0, len(largest) - NAMED), value, percent))
        return tuple(made)

    @property
    def words(self) -> str:
        """The reasons as one or two sentences on one line."""
        clauses = [clause for clause in self.clauses if clause.percent]
        raising = [f"{_said(clause)} ({clause.percent} %)" for clause in clauses if clause.value > 0]
        lowering = [f"{_said(clause)} ({clause.percent} %)" for clause in clauses if clause.value < 0]
        found = [f"Because {'; '.join(raising)}."] if raising else []
        found += [f"Against it: {'; '.join(lowering)}."] if lowering else []
        return " ".join(found) or "Nothing sets it apart from the average item."

    @property
    def summary(self) -> dict[str, object]:
        """The explanation without its table of parts, for JSON."""
        found: dict[str, object] = {"item": self.item, "score": self.score, "baseline": self.baseline}
        found |= {"attributed": self.attributed, "words": self.words}
        return found | {"past": [asdict(each) for each in self.past], "groups": [asdict(each) for each in self.groups]}


def explanation(
    found: Attribution,
    item: str,
    history: Sequence[str],
    title_of: Callable[[str], str] = str,
    answers: int = 0,
) -> Explanation:
    """Name the shares of a score.

    Args:
        found: the shares.
        item: the item's id.
        history: ids of the events' items, oldest first, as many as the shares of each group.
        title_of: from an id to its title.
        answers: the first events that are none: items which stand for answers to a questionnaire.
    """
    events: list[str | None] = [None if place < answers else own for place, own in enumerate(history)]
    distinct = {event: place for place, event in enumerate(dict.fromkeys(events))}
    place = np.array([distinct[event] for event in events], np.int64)
    parts: list[Part] = []
    for group, values in found.events.items():
        sums = np.bincount(place, values, len(distinct)).tolist()
        parts += [Part(event, group, value) for event, value in zip(distinct, sums, strict=True) if value]
    parts += [Part(None, group, value) for group, value in found.rest.items() if value]
    learned: dict[tuple[Kind, str], list[float]] = {}
    for part in parts:
        learned.setdefault(_reason_of(part, found.rest), []).append(part.value)
    reasons = [Reason(kind, _named(kind, name, title_of), fsum(values)) for (kind, name), values in learned.items()]
    reasons = sorted((reason for reason in reasons if reason.value), key=lambda reason: -reason.value)
    return Explanation(
        item, shown(title_of(item)), found.score, found.baseline, found.attributed, tuple(parts), tuple(reasons)
    )


def family(group: str) -> str:
    """Return the public features that a group compares, whatever the kernel, e.g. `genres x year` of its fine form."""
    for end in VARIANTS:
        group = group.removesuffix(end)
    return group


def percents(values: Sequence[float]) -> list[int]:
    """Return whole signed percentages of the sum of the sizes of `values`; their sizes sum to 100.

    The largest remainders are rounded up.
    """
    whole = fsum(map(abs, values))
    if not whole:
        return [0] * len(values)
    exact = [100 * abs(value) / whole for value in values]
    found = [int(value) for value in exact]
    for place in sorted(range(len(values)), key=lambda place: found[place] - exact[place])[: 100 - sum(found)]:
        found[place] += 1
    return [-size if value < 0 else size for size, value in zip(found, values, strict=True)]


def shown(title: str) -> str:
    """Return a title as one line of visible text of limited length."""
    return plain(title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 3]}...")


def listed(names: Sequence[str], more: int = 0) -> str:
    """Return names as text: `A`, `A and B`, `A, B and 3 more`."""
    every = [*names, *([f"{more} more"] if more else [])]
    return every[0] if len(every) == 1 else f"{', '.join(every[:-1])} and {every[-1]}"


def quoted(title: str) -> str:
    """Return a title in double quotes; those inside of it become single ones."""
    return '"' + title.replace('"', "'") + '"'


_ALONE: dict[Kind, tuple[str, str]] = {
    "popularity": ("it is popular with everybody", "it is less popular than the average item"),
    "not chosen": ("it is unlike items that you did not choose", "it is like items that you did not choose"),
    "own copy": ("this device adapted it to you", "this device adapted it to you"),
    "attributes": ("it suits what you said of yourself", "it does not suit what you said of yourself"),
    "answers": ("it suits your answers", "it does not suit your answers"),
}


def _said(clause: Clause) -> str:
    raises = clause.value > 0
    if clause.kind == "past":
        names = listed([quoted(name) for name in clause.names], clause.more)
        return f"you chose {names}" if raises else f"it goes less well with {names}"
    if clause.kind == "feature":
        names = listed(clause.names, clause.more)
        return f"it is {'like' if raises else 'unlike'} your history in {names}"
    return _ALONE[clause.kind][0 if raises else 1]


def _reason_of(part: Part, rest: Collection[str]) -> tuple[Kind, str]:
    if part.group in (POPULARITY, NOT_CHOSEN, OWN_COPY, ATTRIBUTES) and part.group in rest:
        kinds: Mapping[str, Kind] = {NOT_CHOSEN: "not chosen", OWN_COPY: "own copy", ATTRIBUTES: "attributes"}
        return kinds.get(part.group, "popularity"), part.group
    if part.group == TASTE or part.group.startswith(LEARNED):
        return ("past", part.event) if part.event is not None else ("answers", "your answers")
    return "feature", family(part.group)


def _named(kind: Kind, name: str, title_of: Callable[[str], str]) -> str:
    return shown(title_of(name) if kind == "past" else name)


def _sums(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: fsum(values) for name, values in found.items()}


def _shares(values: Mapping[str, float], rest: float) -> tuple[Share, ...]:
    whole = fsum([*map(abs, values.values()), abs(rest)])
    order = sorted(values.items(), key=lambda each: -each[1])
    return tuple(Share(name, value, value / whole) for name, value in order if value)
