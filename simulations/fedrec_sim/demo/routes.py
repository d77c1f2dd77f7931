"""The routes of the demo's page, next to those of the device's own API."""

from importlib.resources import files
from typing import Any

from fedrec_client.edge.client import EdgeClient

from fedrec.http.records import Nothing, Taken
from fedrec.http.routes import Route
from fedrec.http.service import Static
from fedrec.record_parts import ClosedPart
from fedrec_sim.demo.demo import Demo, View
from fedrec_sim.demo.left import Left, answers
from fedrec_sim.demo.world import Thing

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.mjs": ("demo.mjs", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path -> file of the page, and its type. They hold nothing personal."""


class Code(Taken):
    """A code for one use."""

    code: str
    """From the link that the terminal shows."""


class Token(ClosedPart):
    """The token of the device's API."""

    token: str
    """For the header Authorization."""


class Catalogue(ClosedPart):
    """The public items."""

    name: str
    """Of the catalogue."""
    items: tuple[Thing, ...]
    """In catalogue order."""


class Answers(ClosedPart):
    """What has left the device."""

    answers: tuple[Left, ...]
    """By its own ledger, newest first."""


def page() -> dict[str, Static]:
    """Return the files of the page by their paths."""
    folder = files("fedrec_sim.demo") / "page"
    return {path: Static((folder / name).read_bytes(), media) for path, (name, media) in PAGE.items()}


def routes(demo: Demo) -> tuple[Route[EdgeClient, Any, Any], ...]:
    """Return the demo's routes. Only `demo-enter` answers without the token, and it asks for a code."""

    def items(_: EdgeClient, __: Nothing) -> Catalogue:
        return Catalogue(name=demo.world.name, items=demo.world.things)

    def view(_: EdgeClient, __: Nothing) -> View:
        return demo.view()

    def left(client: EdgeClient, _: Nothing) -> Answers:
        return Answers(answers=answers(client.path))

    def start(_: EdgeClient, __: Nothing) -> View:
        demo.start_round()
        return demo.view()

    def enter(_: EdgeClient, given: Code) -> Token:
        return Token(token=demo.enter(given.code))

    return (
        Route("demo-enter", "Exchange the code of a link for the token, once.", Code, Token, enter, public=True),
        Route("demo-items", "The public items with their titles.", Nothing, Catalogue, items),
        Route("demo-state", "What happens behind the page.", Nothing, View, view),
        Route("demo-left", "What has left the device, by its own ledger.", Nothing, Answers, left),
        Route("demo-round", "Take part in a round.", Nothing, View, start),
    )
