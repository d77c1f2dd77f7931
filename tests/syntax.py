"""The syntax of Python files, parsed once a process: several tests read every file of the packages."""

import ast
from functools import cache


@cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of a file's text; nobody may change it."""
    return ast.parse(source)


@cache
def imports(source: str) -> frozenset[str]:
    """Every name that a file imports, dotted, also inside functions; `torch.load(...)` counts as one."""
    found: set[str] = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: write it in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            found.add(f"torch.{node.attr}")
    return frozenset(found)


@cache
def calls(source: str) -> tuple[tuple[str, ast.Call], ...]:
    """Each call of a file with the dotted name of what it calls; other expressions have the name of their last part."""
    found = []
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Call):
            parts, place = [], node.func
            while isinstance(place, ast.Attribute):
                parts.append(place.attr)
                place = place.value
            parts.append(place.id if isinstance(place, ast.Name) else "")
            found.append((".".join(reversed(parts)), node))
    return tuple(found)
