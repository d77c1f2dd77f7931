"""The table of routes: each is one method of EdgeClient. What serves and what describes the API read this table.

A route is `POST /v1/NAME` with a JSON object. No item, time or setting is ever in an address, so no history of a
browser and no log of a proxy gets one.
"""

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from fedrec import __version__
from fedrec.http.records import Nothing
from fedrec.http.routes import Route
from fedrec_client.consent.report import Spending
from fedrec_client.edge.client import EdgeClient
from fedrec_client.releases.sync import Synced
from fedrec_client.serve import messages as m


def _status(client: EdgeClient, _: Nothing) -> m.Status:
    return m.Status(version=__version__, model=client.model, events=len(client.events()), opted_out=client.opted_out)


def _record(client: EdgeClient, act: m.Act) -> m.Kept:
    return m.Kept.of(client.record(act.item, act.event, act.time, act.weight))


def _record_all(client: EdgeClient, acts: m.Acts) -> m.Past:
    return m.Past(events=tuple(map(m.Kept.of, client.record_all(acts.made()))))


def _undo(client: EdgeClient, _: Nothing) -> m.Undone:
    gone = client.undo()
    return m.Undone(item=None, event=None) if gone is None else m.Undone(item=gone.item, event=gone.kind)


def _events(client: EdgeClient, _: Nothing) -> m.Past:
    return m.Past(events=tuple(map(m.Kept.of, client.events())))


def _forget(client: EdgeClient, what: m.Erase) -> m.Erased:
    gone = client.forget(what.item, before=what.before, since=what.since, everything=what.everything)
    return m.Erased(erased=gone)


def _export(client: EdgeClient, _: Nothing) -> m.Mine:
    text = io.StringIO()
    client.export_my_data(text)
    return m.Mine(lines=tuple(map(json.loads, text.getvalue().splitlines())))


def _recommend(client: EdgeClient, wish: m.Wish) -> m.Listed:
    found = client.recommend(
        wish.k,
        filters=wish.filters,
        diversity=wish.diversity,
        freshness=None if wish.freshness is None else wish.freshness.freshness,
        exclude_seen=wish.exclude_seen,
        explore=wish.explore,
        seed=wish.seed,
    )
    return m.Listed(items=tuple(found))


def _explain(client: EdgeClient, question: m.Question) -> m.Explained:
    return m.Explained.of(client.explain(question.item))


def _similar(client: EdgeClient, question: m.Likeness) -> m.AlikeItems:
    return m.AlikeItems(items=tuple(client.similar(question.item, question.k)))


def _questionnaire(client: EdgeClient, interview: m.Interview) -> m.Blocks:
    return _blocks(client.questionnaire(interview.most))


def _answer(client: EdgeClient, given: m.Chosen) -> m.Blocks:
    client.answer(given.chosen)
    return _blocks(client.answers)


def _answers(client: EdgeClient, _: Nothing) -> m.Blocks:
    return _blocks(client.answers)


def _blocks(found: Mapping[str, Iterable[str]]) -> m.Blocks:
    return m.Blocks(blocks={name: tuple(labels) for name, labels in found.items()})


def _set_attribute(client: EdgeClient, given: m.Attribute) -> m.Attributes:
    client.set_attribute(given.name, given.value)
    return m.Attributes(attributes=client.attributes)


def _attributes(client: EdgeClient, _: Nothing) -> m.Attributes:
    return m.Attributes(attributes=client.attributes)


def _budget(client: EdgeClient, _: Nothing) -> Spending:
    return client.budget()


def _sync(client: EdgeClient, _: Nothing) -> Synced:
    """A caller names no address: it is that of the sync which pinned the publisher's key."""
    return client.sync()


def _opt_out(client: EdgeClient, _: Nothing) -> m.Choice:
    client.opt_out()
    return m.Choice(opted_out=client.opted_out)


def _opt_in(client: EdgeClient, _: Nothing) -> m.Choice:
    client.opt_in()
    return m.Choice(opted_out=client.opted_out)


ROUTES: tuple[Route[EdgeClient, Any, Any], ...] = (
    Route(
        "status",
        "The model in use, the number of events, and whether the person opted out.",
        Nothing,
        m.Status,
        _status,
    ),
    Route("record", "Record an event. The answer comes once it is synced to the disk.", m.Act, m.Kept, _record),
    Route("record-all", "Record events in their order, all or none.", m.Acts, m.Past, _record_all),
    Route("undo", "Take back the event that was recorded last.", Nothing, m.Undone, _undo),
    Route("events", "List the events in the order of their recording.", Nothing, m.Past, _events),
    Route("forget", "Erase events and all that was derived from any event.", m.Erase, m.Erased, _forget),
    Route("export", "Get all that the store has of the person, in clear.", Nothing, m.Mine, _export),
    Route("recommend", "Rank the items for the person, best first.", m.Wish, m.Listed, _recommend),
    Route("explain", "What own past items and features add to a score.", m.Question, m.Explained, _explain),
    Route("similar", "The items that are most alike to one.", m.Likeness, m.AlikeItems, _similar),
    Route("questionnaire", "What a new person may be asked.", m.Interview, m.Blocks, _questionnaire),
    Route("answer", "Keep the labels that the person chose, in place of earlier ones.", m.Chosen, m.Blocks, _answer),
    Route("answers", "The labels that the person chose.", Nothing, m.Blocks, _answers),
    Route("set-attribute", "Keep a private attribute of the person.", m.Attribute, m.Attributes, _set_attribute),
    Route("attributes", "The private attributes of the person.", Nothing, m.Attributes, _attributes),
    Route("budget", "What the device spent of its privacy budget.", Nothing, Spending, _budget),
    Route("sync", "Make the newest signed release of the known publisher the model.", Nothing, Synced, _sync, 600.0),
    Route("opt-out", "Contribute only zeros from the next question on.", Nothing, m.Choice, _opt_out),
    Route("opt-in", "Contribute again, within the limits of the policy.", Nothing, m.Choice, _opt_in),
)
"""All routes of the API."""
