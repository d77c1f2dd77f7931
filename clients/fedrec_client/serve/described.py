"""The OpenAPI 3.1 document of a table of routes."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from fedrec import __version__
from fedrec_client.serve.messages import Refused
from fedrec_client.serve.routes import Route

_ABOUT = (
    "Recommendations on the device of one person. The server listens on this machine alone. Each call needs the token "
    "of the device's file `http-token` in the header Authorization."
)


def described(routes: Sequence[Route[Any, Any]]) -> dict[str, Any]:
    """Return the document, JSON-able.

    Args:
        routes: the table; each of them is a path of the document.
    """
    types: list[tuple[Any, Any, Any]] = [
        ((each.name, "takes"), "validation", TypeAdapter(each.takes)) for each in routes
    ]
    types += [((each.name, "gives"), "serialization", TypeAdapter(each.gives)) for each in routes]
    types.append((("", "refused"), "serialization", TypeAdapter(Refused)))
    keyed, definitions = TypeAdapter.json_schemas(types, ref_template="#/components/schemas/{model}")
    refused = {"description": "Refused or failed.", "content": _json(keyed[("", "refused"), "serialization"])}
    paths = {}
    for each in routes:
        paths[each.path] = {
            "post": {
                "operationId": each.name,
                "summary": each.about,
                "requestBody": {"required": True, "content": _json(keyed[(each.name, "takes"), "validation"])},
                "responses": {
                    "200": {"description": "Done.", "content": _json(keyed[(each.name, "gives"), "serialization"])},
                    "default": refused,
                },
            }
            | ({"security": []} if each.public else {})
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "fedrec on a device", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
