"""What an EdgeClient answers, and what it may be asked for: typed records with the items' own ids."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from fedrec.ondevice.lists import Why


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One place of a list.

    Attributes:
        item: its id.
        score: of the model, comparable within one list.
        why: `exact` by its score; `popular` since nothing is known of the person; `friends` since friends' taste
            brought it there; `fresh` and `diverse` before items of a higher score; `explored` drawn at random.
    """

    item: str
    score: float
    why: Why


@dataclass(frozen=True)
class Reranked:
    """A list in the order of a wish.

    Attributes:
        items: its places.
        by: name of the language model that ordered them; empty where the order is that of `recommend`.
        note: why it is; else empty.
    """

    items: tuple[Recommendation, ...]
    by: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Alike:
    """An item that is like another one. Attributes: item: its id; likeness: cosine of their rows, -1 to 1."""

    item: str
    likeness: float


@dataclass(frozen=True)
class Filters:
    """Which items may be on a list: those that pass every filter.

    Attributes:
        only: ids of the only items that may be listed, e.g. those in stock; None for all.
        exclude: ids of items that are left out.
        having: block of public categories -> labels; an item needs one of them, in each of the blocks.
        without: block of public categories -> labels; an item with one of them does not pass.
        between: block of public numbers -> smallest and largest value; an unknown value does not pass.
    """

    only: Collection[str | int] | None = None
    exclude: Collection[str | int] = ()
    having: Mapping[str, Collection[str]] = field(default_factory=dict)
    without: Mapping[str, Collection[str]] = field(default_factory=dict)
    between: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Freshness:
    """A preference for new items.

    Attributes:
        number: block of public numbers that grows with time, e.g. `year`.
        half_life: age, in the unit of the number, at which the preference is half.
        weight: what the newest item gains, relative to the spread of the scores from which a list is chosen.
        now: value of an item of age 0; None for the largest of the catalogue.
    """

    number: str
    half_life: float
    weight: float = 0.3
    now: float | None = None


@dataclass(frozen=True, slots=True)
class Installed:
    """A model in use.

    Attributes:
        algorithm: that released it.
        items: number of items that it knows.
        sha256: of its manifest, which names its files by their digests.
        rated: True if it learns from ratings alone.
    """

    algorithm: str
    items: int
    sha256: str
    rated: bool
