"""What `fedrec serve` takes and gives, as closed typed records: the OpenAPI document is made of them."""

from typing import Annotated, Literal

from pydantic import Field

from fedrec.http.records import Taken
from fedrec.record_parts import ClosedPart

LONGEST_ITEM = 200
"""Characters of an id."""
MOST_EVENTS = 2000
"""Events of one person in one request."""
MOST_PEOPLE = 64
"""People in one request."""
MOST_PLACES = 1000
"""Places of a list."""
MOST_ATTRIBUTES = 100
"""Attributes of one person."""

Item = Annotated[str, Field(min_length=1, max_length=LONGEST_ITEM, examples=["7"])]
Items = Annotated[tuple[Item, ...], Field(max_length=MOST_EVENTS)]
Numbers = Annotated[tuple[float, ...], Field(max_length=MOST_EVENTS)]
Attributes = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], Annotated[str, Field(max_length=1000)]],
    Field(max_length=MOST_ATTRIBUTES, examples=[{"age": "25"}]),
]


class Person(Taken):
    """A person's own history, and the list to make of it. None of it is kept."""

    history: Items = ()
    """Ids, oldest first; with `state`, the events since then."""
    ratings: Numbers | None = None
    """One for each event of `history`; a model of ratings needs them."""
    times: Numbers | None = None
    """One for each event, in any unit; they put the events in order. Null where `history` is in order."""
    ordered: bool = True
    """False where the order of the events is unknown."""
    dislikes: Items = ()
    """Ids that are never listed, and that a model may learn from."""
    attributes: Attributes = {}
    """Private attributes by name, numbers as text, for a model with a network for people. They count for this list
    alone: a `state` does not have them."""
    state: str | None = Field(None, max_length=1 << 20)
    """The text of an earlier answer, in place of the events that it was made of."""
    keep_state: bool = False
    """Whether the answer shall have a `state` for the next request."""
    k: int = Field(10, ge=1, le=MOST_PLACES)
    """Most places of the list."""
    exclude: Items = ()
    """Ids that are left out."""
    seen: bool = False
    """Whether items of the history may be on the list."""
    diversity: float | None = Field(None, ge=0, lt=1)
    """0 for the best scores, towards 1 for items that are unlike each other; null: 0, without a history .3."""


class People(Taken):
    """Several people, each answered as alone."""

    people: tuple[Person, ...] = Field(min_length=1, max_length=MOST_PEOPLE)
    """They do not affect each other's lists."""


class Place(ClosedPart):
    """One place of a list."""

    item: str
    """Its id."""
    score: float
    """Of the model."""
    why: Literal["exact", "popular", "friends", "fresh", "diverse", "explored"]
    """By its score; by popularity, for a person without a history; or since diversity brought it there. A server has no
    shares of friends."""


class Listed(ClosedPart):
    """A list, best first."""

    items: tuple[Place, ...]
    """Its places."""
    unknown: int
    """How many ids of the request the model does not have; they are left out."""
    model: str
    """SHA-256 of the manifest of the model that made the list."""
    state: str | None
    """For the next request, where it was asked for. It stands for the history: keep it as private as that."""


class AllListed(ClosedPart):
    """The lists, in the order of the people."""

    lists: tuple[Listed, ...]
    """One for each."""


class Guarantee(ClosedPart):
    """What the privacy statement of the run says; `fedrec audit verify` checks it."""

    guarantee: str
    """In words."""
    unit: str | None
    """Whose data one unit of the guarantee is."""
    epsilon: str | None
    """Against people who get the model; null for none."""
    delta: str | None
    """Null for a run without privacy."""


class About(ClosedPart):
    """The model in use."""

    version: str
    """Of fedrec."""
    algorithm: str
    """That released it."""
    kind: str
    """Of the model."""
    items: int
    """Size of the catalogue."""
    digest: str
    """SHA-256 of its manifest, which names the other files by theirs."""
    needs_ratings: bool
    """Whether each event needs a rating."""
    statement: Guarantee | None
    """Null for a model without its statement."""


class Health(ClosedPart):
    """The server answers."""

    status: Literal["ok"] = "ok"
    """The only value."""
