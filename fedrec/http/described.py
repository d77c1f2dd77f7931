"""The OpenAPI 3.1 document of a table of routes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from fedrec import __version__
from fedrec.http.records import Refused
from fedrec.http.routes import AnyRoute


@dataclass(frozen=True)
class About:
    """What an API is. Attributes: title; text: for whom, and how to call it."""

    title: str
    text: str


def described(routes: Sequence[AnyRoute], about: About, *, token: bool = True) -> dict[str, Any]:
    """Return the document, JSON-able.

    Args:
        routes: the table; each of them is a path of the document.
        about: the API.
        token: whether routes that are not public need a token.
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
        answer = keyed[(each.name, "gives"), "serialization"]
        content = {each.media.partition(";")[0]: {"schema": answer}} if each.gives is str else _json(answer)
        operation: dict[str, Any] = {
            "operationId": each.name,
            "summary": each.about,
            "responses": {"200": {"description": "Done.", "content": content}, "default": refused},
        }
        if each.method == "POST":
            body = _json(keyed[(each.name, "takes"), "validation"])
            operation["requestBody"] = {"required": True, "content": body}
        if each.public and token:
            operation["security"] = []
        paths[each.path] = {each.method.lower(): operation}
    components: dict[str, Any] = {"schemas": definitions.get("$defs", {})}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": about.title, "version": __version__, "description": about.text},
        "paths": paths,
        "components": components,
    }
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
