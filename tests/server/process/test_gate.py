"""The gate before Flower's link: what is not for nodes is for this machine, and asks for a secret."""

import asyncio

import pytest
from fedrec_server.process.gate import Gate

from fedrec.transport.control import HEADER

SECRET = "s" * 64
HERE, ELSEWHERE = ("127.0.0.1", 50000), ("192.0.2.7", 50000)


async def inner(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def status(path: str, client=HERE, secret: str | None = None, server=("127.0.0.1", 9092), kind: str = "http"):
    """The status of the answer, or what else was sent first."""
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    headers = [] if secret is None else [(HEADER.encode(), secret.encode())]
    scope = {"type": kind, "path": path, "headers": headers, "client": client, "server": server}
    asyncio.run(Gate(inner, SECRET)(scope, None, send))
    return sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize(
    ("path", "client", "secret", "expected"),
    [
        ("/v1/fleet/pull-messages", ELSEWHERE, None, 200),
        ("/v1/fleet/pull-messages", None, None, 200),
        ("/v1/runtime/acquire-task", HERE, None, 200),
        ("/v1/runtime/acquire-task", ("::1", 1), None, 200),
        ("/v1/runtime/acquire-task", ("::ffff:127.0.0.1", 1), None, 200),
        ("/v1/runtime/acquire-task", ELSEWHERE, None, 403),
        ("/v1/runtime/acquire-task", None, None, 403),
        ("/v1/runtime/acquire-task", ("testclient", 1), None, 403),
        ("/v1/control/start-run", HERE, SECRET, 200),
        ("/v1/control/start-run", HERE, None, 403),
        ("/v1/control/start-run", HERE, SECRET[:-1], 403),
        ("/v1/control/start-run", HERE, SECRET + "s", 403),
        ("/v1/control/start-run", ELSEWHERE, SECRET, 403),
        ("/docs", HERE, SECRET, 403),
        ("/openapi.json", HERE, SECRET, 403),
        ("/", HERE, None, 403),
        ("/v1/fleet", ELSEWHERE, None, 403),
        ("/v1/fleet/../control/start-run", HERE, SECRET, 403),
        ("//v1/control/start-run", HERE, SECRET, 403),
        ("/V1/CONTROL/start-run", HERE, SECRET, 403),
    ],
)
def test_who_gets_through(path, client, secret, expected) -> None:
    assert status(path, client, secret) == expected


def test_this_machine_by_its_own_address_is_this_machine() -> None:
    own = ("192.0.2.1", 9092)
    assert status("/v1/runtime/x", ("192.0.2.1", 40000), server=own) == 200
    assert status("/v1/runtime/x", ("192.0.2.2", 40000), server=own) == 403


def test_nothing_but_http_gets_through() -> None:
    assert status("/v1/fleet/x", kind="websocket") == "websocket.close"


def test_a_weak_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        Gate(inner, "")
