"""What the HTTP API takes and gives, as closed typed records: the OpenAPI document is made of them."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from fedrec.http.records import Taken
from fedrec.ondevice.explanation import Explanation, Share
from fedrec.ondevice.picture import bar_chart
from fedrec.record_parts import ClosedPart
from fedrec_client.edge.answers import Alike, Filters, Freshness, Installed, Recommendation
from fedrec_client.store.event import LONGEST_ITEM, Event, Recorded

MOST_NAMES = 10_000
"""Ids, labels or events in one request."""

Item = Annotated[str, Field(min_length=1, max_length=LONGEST_ITEM, examples=["7"])]
Items = Annotated[tuple[Item, ...], Field(max_length=MOST_NAMES)]
Labels = Annotated[dict[str, tuple[str, ...]], Field(max_length=100)]
Bound = float | None


class Act(Taken):
    """An event to record."""

    item: Item
    """Its id."""
    event: Literal["view", "like", "rating", "dislike"] = "view"
    """What the person did."""
    time: float | None = None
    """UTC seconds since 1970; null for now."""
    weight: float = 1.0
    """Of a rating, its value."""


class Acts(Taken):
    """Events to record, all or none."""

    events: tuple[Act, ...] = Field(max_length=MOST_NAMES)
    """In their order; one without a time counts right after the one before it."""

    def made(self) -> Iterable[Event]:
        """Yield them as events of a store."""
        for each in self.events:
            yield Event(each.item, each.event, each.time, each.weight)


class Erase(Taken):
    """What to forget: one of the fields, or both times."""

    item: Item | None = None
    """The events with this item."""
    before: float | None = None
    """Events before this time, UTC seconds, and those without a time."""
    since: float | None = None
    """Events at or after this time, and those without a time."""
    everything: bool = False
    """All events and private values; the device is as new."""


class Newness(Taken):
    """A preference for new items."""

    number: str = Field(min_length=1)
    """Block of public numbers that grows with time, e.g. year."""
    half_life: float = Field(gt=0)
    """Age, in the unit of the number, at which the preference is half."""
    weight: float = 0.3
    """What the newest item gains, relative to the spread of the scores."""
    now: float | None = None
    """Value of an item of age 0; null for the largest of the catalogue."""

    @property
    def freshness(self) -> Freshness:
        """The same for EdgeClient."""
        return Freshness(self.number, self.half_life, self.weight, self.now)


class Wish(Taken):
    """A list to make."""

    k: int = Field(10, ge=1, le=1000)
    """Most places."""
    diversity: float | None = Field(None, ge=0, le=1)
    """0 for the best scores, towards 1 for items that are unlike each other; null for the usual."""
    freshness: Newness | None = None
    """A preference for new items; null for none."""
    exclude_seen: bool = True
    """Whether items with an event are left out."""
    explore: float = Field(0.0, ge=0, le=1)
    """Probability of each place to go to a drawn item."""
    seed: int | None = Field(None, ge=0, lt=2**53)
    """Of these draws; null for a new one each time."""
    only: Items | None = None
    """The only items that may be listed; null for all."""
    exclude: Items = ()
    """Items that are left out."""
    having: Labels = Field(default_factory=dict)
    """Block of public categories -> labels, of which an item needs one."""
    without: Labels = Field(default_factory=dict)
    """Block of public categories -> labels that an item must not have."""
    between: dict[str, tuple[Bound, Bound]] = Field(default_factory=dict, max_length=100)
    """Block of public numbers -> smallest and largest value; null for no bound."""

    @property
    def filters(self) -> Filters:
        """The filters of the list."""
        bounds = {
            name: (-float("inf") if low is None else low, float("inf") if high is None else high)
            for name, (low, high) in self.between.items()
        }
        return Filters(self.only, self.exclude, self.having, self.without, bounds)


class Question(Taken):
    """An item to explain."""

    item: Item
    """Its id."""


class Likeness(Taken):
    """An item to find others like."""

    item: Item
    """Its id."""
    k: int = Field(10, ge=1, le=1000)
    """Most items."""


class Interview(Taken):
    """What to ask a new person."""

    most: int = Field(12, ge=1, le=1000)
    """Most labels of a block."""


class Chosen(Taken):
    """The labels that a person chose, in place of earlier ones."""

    chosen: Labels
    """Block of public categories -> labels; empty to take the answers back."""


class Attribute(Taken):
    """A private attribute of the person, which stays on the device."""

    name: str = Field(min_length=1, max_length=100)
    """Of the attribute, e.g. language."""
    value: str | None = Field(min_length=1, max_length=1000)
    """What it is; null takes it back."""


class Blocks(ClosedPart):
    """Labels of public categories."""

    blocks: dict[str, tuple[str, ...]]
    """Block -> labels."""


class Attributes(ClosedPart):
    """The private attributes."""

    attributes: dict[str, str]
    """By name."""


class Kept(ClosedPart):
    """An event in the store."""

    number: int
    """Rises by recording."""
    item: str
    """Its id."""
    event: str
    """Its kind; events of a file may have others than those that count."""
    time: float | None
    """UTC seconds since 1970, or null."""
    weight: float
    """Of a rating, its value."""

    @classmethod
    def of(cls, recorded: Recorded) -> "Kept":
        """Return it for an event of the store."""
        event = recorded.event
        return cls(number=recorded.number, item=event.item, event=event.kind, time=event.time, weight=event.weight)


class Past(ClosedPart):
    """Events in the order of their recording."""

    events: tuple[Kept, ...]
    """All of them."""


class Undone(ClosedPart):
    """What was taken back."""

    item: str | None
    """Its id; null where there was no event."""
    event: str | None
    """Its kind; null where there was no event."""


class Erased(ClosedPart):
    """How much was forgotten."""

    erased: int
    """Number of events."""


class Listed(ClosedPart):
    """A list, best first."""

    items: tuple[Recommendation, ...]
    """Its places."""


class Explained(ClosedPart):
    """Why an item has its score."""

    item: str
    """Its id."""
    score: float
    """Of the model."""
    baseline: float
    """Score of the average item for the same person; the values sum to score less baseline."""
    attributed: float
    """The part of the sum that passes hidden units, which integrated gradients split; the rest is exact."""
    past: tuple[Share, ...]
    """By own past item, in descending order; a negative one lowers the score."""
    groups: tuple[Share, ...]
    """By group of features, in descending order."""
    words: str
    """The same in words."""
    svg: str
    """The same as a picture."""

    @classmethod
    def of(cls, found: Explanation) -> "Explained":
        """Return it for an explanation."""
        plain = {name: getattr(found, name) for name in cls.model_fields if name != "svg"}
        return cls(**plain, svg=bar_chart(found))


class AlikeItems(ClosedPart):
    """Items like another one, most alike first."""

    items: tuple[Alike, ...]
    """With the cosine of their rows."""


class Choice(ClosedPart):
    """What the device contributes from the next question on."""

    opted_out: bool
    """Whether it contributes only zeros, which a server cannot see."""


class Status(ClosedPart):
    """The state of the device."""

    version: str
    """Of fedrec."""
    model: Installed | None
    """The model in use; null before one is installed."""
    events: int
    """Number of events in the store."""
    opted_out: bool
    """Whether it contributes only zeros."""


class Mine(ClosedPart):
    """All that the store has of the person."""

    lines: tuple[dict[str, Any], ...]
    """An object for each event, then for each private value in base64; `fedrec client import` reads the events."""
