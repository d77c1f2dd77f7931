"""The table of routes of `fedrec serve`, and what they are called with."""

from dataclasses import dataclass
from typing import Any

from fedrec.http.described import About as Api
from fedrec.http.records import Nothing
from fedrec.http.routes import Route
from fedrec.serving import messages as m
from fedrec.serving.batching import Batches
from fedrec.serving.loaded import Loaded
from fedrec.serving.metrics import CONTENT_TYPE, Metrics

ABOUT = Api(
    "fedrec serve",
    "Lists for the history in a request. The server sees that history while it answers, and keeps nothing of it. On "
    "a person's own device, `fedrec client` makes the same lists without a server.",
)


@dataclass
class Serving:
    """What the routes are called with.

    Attributes:
        model: the one in use; another takes its place at any time, and a request keeps the one that it began with.
        batches: of the server.
        metrics: of the server.
    """

    model: Loaded
    batches: Batches
    metrics: Metrics


async def _recommend(serving: Serving, person: m.Person) -> m.Listed:
    return (await serving.batches.lists(serving.model, [person]))[0]


async def _recommend_many(serving: Serving, given: m.People) -> m.AllListed:
    return m.AllListed(lists=tuple(await serving.batches.lists(serving.model, given.people)))


async def _model(serving: Serving, _: Nothing) -> m.About:
    return serving.model.about


async def _health(_: Serving, __: Nothing) -> m.Health:
    return m.Health()


async def _metrics(serving: Serving, _: Nothing) -> str:
    return serving.metrics.text()


ROUTES: tuple[Route[Serving, Any, Any], ...] = (
    Route("recommend", "Rank the items for a person, best first.", m.Person, m.Listed, _recommend, 10.0),
    Route("recommend-many", "Rank the items for each of several people.", m.People, m.AllListed, _recommend_many, 10.0),
    Route("model", "The model in use and its guarantee.", Nothing, m.About, _model, public=True, method="GET"),
    Route("health", "Whether the server answers.", Nothing, m.Health, _health, public=True, method="GET", prefix="/"),
    Route(
        "metrics",
        "Counts and times in the text format of Prometheus, without personal data.",
        Nothing,
        str,
        _metrics,
        public=True,
        method="GET",
        prefix="/",
        media=CONTENT_TYPE,
    ),
)
"""All routes."""
