"""Names that a package hands on from its modules, each imported when it is first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make the `__getattr__`, `__dir__` and `__all__` of a package (PEP 562).

    Args:
        package: its `__name__`.
        homes: name -> the module that defines it.

    Returns:
        The three. An unknown name is an AttributeError that names the nearest known one.
    """

    def get(name: str) -> Any:
        if name in homes:
            from fedrec.extras import named

            with named(name):
                return getattr(importlib.import_module(homes[name]), name)
        if name == "__version__":
            from importlib.metadata import version

            return version(package)
        from fedrec.errors import nearest

        hint = "" if name.startswith("_") else nearest(name, homes)
        raise AttributeError(f"module '{package}' has no attribute '{name}'.{hint}", name=name)

    return get, lambda: sorted([*homes, "__version__"]), sorted(homes)
