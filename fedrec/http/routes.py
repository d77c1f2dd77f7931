"""One route of a service. What serves and what describes an API read the same table of routes.

A route is `POST /v1/NAME` with a JSON object, or `GET` of something that is the same for all people. No item, time or
setting is ever in an address, so no history of a browser and no log of a proxy gets one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from fedrec.http.records import Taken

S = TypeVar("S")
Q = TypeVar("Q", bound=Taken)
A = TypeVar("A")

PREFIX = "/v1/"


@dataclass(frozen=True)
class Route(Generic[S, Q, A]):
    """One method of an API.

    Attributes:
        name: the last part of its path.
        about: one line.
        takes: type of the request.
        gives: type of the answer; `str` for plain text.
        call: makes the answer from the service's subject and the request. A plain function runs in a thread; a
            coroutine function runs in the loop, and must not block it.
        seconds: most seconds that it may take.
        public: whether it answers without the token; such a route must give nothing personal.
        method: of HTTP. A GET has no body.
        prefix: of its path.
        media: type of plain text.
    """

    name: str
    about: str
    takes: type[Q]
    gives: type[A]
    call: Callable[[S, Q], A] | Callable[[S, Q], Awaitable[A]]
    seconds: float = 30.0
    public: bool = False
    method: Literal["GET", "POST"] = "POST"
    prefix: str = PREFIX
    media: str = "text/plain; charset=utf-8"

    @property
    def path(self) -> str:
        """Its path."""
        return self.prefix + self.name


AnyRoute = Route[Any, Any, Any]
