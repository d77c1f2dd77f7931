"""The HTTP service of a device: its methods, and the JavaScript client."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrec.http.described import About
from fedrec.http.entrance import Entrance
from fedrec.http.routes import Route
from fedrec.http.service import Limits, Service, Static
from fedrec_client.edge.client import EdgeClient
from fedrec_client.serve.routes import ROUTES

FILE = "http-token"
"""Name of the file with the token, in the device's folder."""
MODULE = "/fedrec.mjs"
ABOUT = About(
    "fedrec on a device",
    "Recommendations on the device of one person. The server listens on this machine alone. Each call needs the token "
    "of the device's file `http-token` in the header Authorization.",
)


def device_service(
    client: EdgeClient,
    entrance: Entrance,
    routes: Sequence[Route[EdgeClient, Any, Any]] = ROUTES,
    files: Mapping[str, Static] | None = None,
    limits: Limits | None = None,
) -> Service[EdgeClient]:
    """Return the ASGI application of a device.

    Args:
        client: the open device.
        entrance: who may ask.
        routes: its table.
        files: path -> public file, next to the JavaScript client.
        limits: of requests.
    """
    module = Path(__file__).with_name("fedrec.mjs").read_bytes()
    found = {MODULE: Static(module, "text/javascript; charset=utf-8"), **(files or {})}
    return Service(client, entrance, routes, ABOUT, found, limits or Limits())
