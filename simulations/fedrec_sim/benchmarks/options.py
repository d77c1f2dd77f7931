"""Parsers of the options of `fedrec bench`, and a description of the machine. All raise InputError."""

import json
import os
from typing import Any

from fedrec.errors import InputError, nearest


def read_names(text: str | None, known: tuple[str, ...] | None, option: str) -> list[str]:
    """Parse the names in `text`, each of them `known` (None: any name); no name where `text` is None."""
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        if known is not None and name not in known:
            raise InputError(f"{option}: unknown '{name}'.{nearest(name, known)}")
    return names


def read_sizes(text: str | None, dataset: str, option: str = "--users") -> list[int | None]:
    """Parse numbers of generated users; [None] for the users of a dataset."""
    if dataset != "synthetic":
        if text is not None:
            raise InputError("--users is for generated users; leave out --dataset, or --users")
        return [None]
    try:
        sizes = [int(size.replace("_", "")) for size in (text or "10000").split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: must be whole numbers, e.g. 10000,100000") from None
    if min(sizes) < 1:
        raise InputError(f"{option} {text}: must be at least 1")
    return list(sizes)


def read_numbers(text: str, option: str) -> list[int]:
    """Parse the whole numbers in `text`."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: must be whole numbers, e.g. 0,1,2") from None


def read_settings(changes: list[str]) -> dict[str, Any]:
    """Parse settings of an algorithm from KEY=VALUE texts, values as JSON or as texts."""
    settings: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise InputError(f"--set {change}: must be KEY=VALUE, e.g. dim=32")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Describe the machine of a measurement: versions, system, load."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("fedrec", "torch", "implicit", "flwr", "ray"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "versions": versions,
        "machine": {"system": platform.platform(), "python": platform.python_version(), "load_at_the_end": load},
    }
