"""The ASGI application: every request passes the same steps in the same order, and every error is one line of JSON."""

import asyncio
import inspect
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fedrec.errors import FedrecError, VerificationError
from fedrec.http.described import About, described
from fedrec.http.entrance import Entrance, Refusal, cross_origin, preflight
from fedrec.http.records import Fault, Refused
from fedrec.http.routes import AnyRoute, Route
from fedrec.plain_text import plain
from fedrec.screen import say

S = TypeVar("S")

JSON = "application/json"
DOCUMENT = "/openapi.json"
_PAGE = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
_DATA = "default-src 'none'; frame-ancestors 'none'"
_ALWAYS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_CODES: dict[type[FedrecError], tuple[int, str]] = {VerificationError: (500, "verification_failed")}
LINGER, DROPPED = 0.3, 4  # seconds, and times the limit of a body
OTHER = "other"
"""Name of what is no route, in observations: a path that a caller made up is never kept."""

Observer = Callable[[str, int, float], None]
"""Called after each answer with the route's name or `OTHER`, the status of HTTP, and the seconds."""


@dataclass(frozen=True)
class Limits:
    """What one request may use.

    Attributes:
        body: most bytes of a request's body.
        arriving: most seconds until the body is there.
        running: most requests at a time.
        threads: most of them that are worked on.
    """

    body: int = 1 << 20
    arriving: float = 10.0
    running: int = 32
    threads: int = 4


@dataclass(frozen=True)
class Static:
    """A file that anyone on this machine may read: it holds nothing personal. Attributes: content; media: its type."""

    content: bytes
    media: str


@dataclass
class Service(Generic[S]):
    """An ASGI application.

    Attributes:
        subject: what the routes are called with.
        entrance: who may ask.
        routes: its table.
        about: for the OpenAPI document.
        files: path -> public file; the OpenAPI document is added.
        limits: of requests.
        observe: called after each answer.
    """

    subject: S
    entrance: Entrance
    routes: Sequence[Route[S, Any, Any]]
    about: About
    files: Mapping[str, Static] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    observe: Observer | None = None

    def __post_init__(self) -> None:
        found = described(self.routes, self.about, token=self.entrance.token is not None)
        document = json.dumps(found, ensure_ascii=False, indent=1).encode()
        self._files = {DOCUMENT: Static(document, JSON), **self.files}
        self._routes = {each.path: each for each in self.routes}
        self._readers = {each.name: TypeAdapter(each.takes) for each in self.routes}
        self._writers = {each.name: TypeAdapter(each.gives) for each in self.routes}
        self._running = 0
        self._threads = ThreadPoolExecutor(self.limits.threads, "fedrec-serve")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")
        began = time.perf_counter()
        request = Request(scope, receive)
        response = await self._guarded(request)
        for name, value in _ALWAYS.items():
            response.headers[name] = value
        html = response.headers.get("content-type", "").startswith("text/html")
        response.headers["Content-Security-Policy"] = _PAGE if html else _DATA
        route = self._routes.get(scope["path"])
        if self.observe is not None:
            name = OTHER if route is None else route.name
            self.observe(name, response.status_code, time.perf_counter() - began)
        await response(scope, receive, send)

    async def _guarded(self, request: Request) -> Response:
        origin: str | None = None
        try:
            # 1. It was sent to this server's own name. 2. It is of no page, or of a page that may ask.
            self.entrance.check_host(request.headers)
            origin = self.entrance.check_origin(request.headers)
            response = await self._answer(request, origin is not None)
        except Refusal as error:
            response = refused(error.status, error.code, error.message)
        except FedrecError as error:
            response = refused(*_CODES.get(type(error), (400, "bad_input")), str(error))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            found = f"{type(error).__name__} in {Path(where.filename).name} line {where.lineno}"
            say(f"error: internal: {found}", err=True)  # never the text of an error: it may name an item
            response = refused(500, "internal", f"internal error: {found}; report it")
        response.headers.update(cross_origin(origin))
        return response

    async def _answer(self, request: Request, foreign: bool) -> Response:
        path, headers = request.scope["path"], request.headers
        route = self._routes.get(path)
        # 3. A browser asks before the request of an allowed page.
        if foreign and request.method == "OPTIONS" and route is not None:
            return Response(status_code=204, headers=dict(preflight(headers)))
        # 4. Files that hold nothing personal.
        if (static := self._files.get(path)) is not None:
            _check_method(request, "GET")
            return Response(static.content, media_type=static.media)
        # 5. The token, before anything says which routes there are.
        if route is None or not route.public:
            self.entrance.check_token(headers)
        if request.scope["query_string"]:
            raise Refusal(400, "query", "this API reads no query; send a JSON object as the body")
        if route is None:
            raise Refusal(404, "no_such_route", "there is no such route; see /openapi.json")
        _check_method(request, route.method)
        # 6. A JSON object of a bounded size, within a bounded time.
        given = self._read(route, await self._body(request) if route.method == "POST" else b"{}")
        # 7. The call, in the loop or in a thread.
        if self._running >= self.limits.running:
            raise Refusal(503, "busy", "too many requests at a time; ask again later")
        answer = await self._called(route, given)
        if route.gives is str:
            return Response(answer, media_type=route.media)
        return Response(self._writers[route.name].dump_json(answer), media_type=JSON)

    async def _called(self, route: AnyRoute, given: Any) -> Any:
        work: asyncio.Future[Any]
        if inspect.iscoroutinefunction(route.call):
            work = asyncio.ensure_future(route.call(self.subject, given))
        else:
            work = asyncio.wrap_future(self._threads.submit(route.call, self.subject, given))
        self._running += 1
        work.add_done_callback(self._ended)
        done, _ = await asyncio.wait({work}, timeout=route.seconds)
        if not done:
            if inspect.iscoroutinefunction(route.call):  # a call in a thread ends on its own, and counts until then
                work.cancel()
            raise Refusal(503, "slow", f"no answer within {route.seconds:g} seconds; the call may still finish")
        return work.result()

    def _ended(self, work: asyncio.Future[Any]) -> None:
        self._running -= 1
        if not work.cancelled():
            work.exception()  # one that nobody waited for any more is not reported elsewhere

    async def _body(self, request: Request) -> bytes:
        kinds = request.headers.getlist("content-type")
        if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != JSON:
            raise Refusal(415, "wrong_type", f"send a JSON object with the header Content-Type: {JSON}")
        most, length = self.limits.body, request.headers.get("content-length", "0")
        large = Refusal(413, "too_large", f"a request has at most {most:,} bytes")
        if not length.isdigit() or int(length) > most:
            await _drop(request, most)
            raise large
        found = bytearray()
        try:
            async with asyncio.timeout(self.limits.arriving):
                async for part in request.stream():
                    found += part
                    if len(found) > most:
                        await _drop(request, most)
                        raise large
        except TimeoutError:
            raise Refusal(408, "slow_body", f"the body was not there in {self.limits.arriving:g} seconds") from None
        except ClientDisconnect:
            raise Refusal(400, "broken_off", "the request was broken off") from None
        return bytes(found)

    def _read(self, route: AnyRoute, body: bytes) -> Any:
        try:
            return self._readers[route.name].validate_json(body, strict=True)
        except ValidationError as error:
            raise Refusal(400, "bad_input", _fault(error)) from None


def refused(status: int, code: str, message: str) -> Response:
    """Return an error. Its connection ends, since a part of the request may be unread."""
    content = Refused(error=Fault(code=code, message=message)).model_dump_json()
    return Response(content, status, {"Connection": "close"}, JSON)


async def _drop(request: Request, most: int) -> None:
    """Read and drop some of a body that is too large: an answer may be lost where a connection ends on unread bytes."""
    seen = 0
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(LINGER):
            async for part in request.stream():
                seen += len(part)
                if seen > DROPPED * most:
                    return


def _check_method(request: Request, method: str) -> None:
    if request.method != method:
        raise Refusal(405, "wrong_method", f"this path answers {method} alone")


def _fault(error: ValidationError) -> str:
    """Return the first fault of a request in one line, without the value that is wrong."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return plain(f"{place}: {first['msg']}" if place else first["msg"], 300)
