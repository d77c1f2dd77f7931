"""Steps from an older layout of the store to the next one."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """How layout n becomes layout n + 1. Every row is sealed anew afterwards, since its version is bound to it.

    Attributes:
        convert: makes the new content of a row from its table and its old content.
        statements: SQL that changes the tables, which hold no rows then.
    """

    convert: Callable[[str, bytes], bytes]
    statements: tuple[str, ...] = ()


STEPS: dict[int, Step] = {}
"""Layout -> the step to the next one. Layout 1 is the first."""


def converted(version: int, target: int, table: str, content: bytes) -> bytes:
    """Return a row's content in the layout `target`."""
    for each in range(version, target):
        content = STEPS[each].convert(table, content)
    return content


def statements(version: int, target: int) -> list[str]:
    """Return the SQL from layout `version` to `target`."""
    return [line for each in range(version, target) for line in STEPS[each].statements]
