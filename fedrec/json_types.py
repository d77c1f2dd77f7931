"""JSON at the edges: the type of what was parsed, and has no type of its own here."""

from typing import TypeAlias

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
Json: TypeAlias = dict[str, JsonValue]
"""A JSON object."""
