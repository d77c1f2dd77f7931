"""Finds algorithms and released models by name: every module of this folder is looked at, nothing is registered."""

import hashlib
import importlib
import inspect
import json
import pkgutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

import fedrec.algorithms
from fedrec.algorithms.base import Algorithm, ReleasedModel
from fedrec.errors import InputError, nearest
from fedrec.received_files import read_below


def _classes(base: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(fedrec.algorithms.__path__):
        members = vars(importlib.import_module(f"fedrec.algorithms.{module.name}"))
        for member in members.values():
            if inspect.isclass(member) and issubclass(member, base) and not inspect.isabstract(member):
                found[getattr(member, "name" if base is Algorithm else "kind")] = member
    return found


def algorithms() -> dict[str, type[Algorithm]]:
    """Every algorithm by its name."""
    return _classes(Algorithm)


def algorithm(name: str) -> type[Algorithm]:
    """The algorithm called `name`. Raises: InputError that names the nearest."""
    known = algorithms()
    if name not in known:
        raise InputError(f"unknown algorithm '{name}'.{nearest(name, known)}")
    return known[name]


_LARGEST_MANIFEST, _LARGEST_MODEL = 1 << 26, 1 << 36  # bytes that are read


def load_model(folder: Path) -> ReleasedModel:
    """A released model from the folder that `fedrec simulate` wrote (`model.safetensors` and `manifest.json`).

    Raises: InputError when the folder holds none, or its tensors are not those that the manifest fixes by hash;
        VerificationError where one of the two files is a link.
    """
    manifest_file, tensor_file = folder / "manifest.json", folder / "model.safetensors"
    about = read_below(folder, manifest_file.name, _LARGEST_MANIFEST) if folder.is_dir() else None
    content = None if about is None else read_below(folder, tensor_file.name, _LARGEST_MODEL)
    if about is None or content is None:
        raise InputError(f"{folder}: no model here (needs manifest.json and model.safetensors)")
    known = _classes(ReleasedModel)
    try:
        manifest = json.loads(about)
        kind, settings, digest = str(manifest["kind"]), manifest["model"], manifest["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{manifest_file}: no model's manifest ({error}); write the model again") from None
    if kind not in known:
        raise InputError(f"{manifest_file}: unknown model kind '{kind}'.{nearest(kind, known)}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{tensor_file}: is not the file that manifest.json names by its SHA-256; bring back that one")
    try:
        model: ReleasedModel = known[kind].restore(load(content), settings)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: the manifest and the tensors do not fit each other ({error})") from None
    return model
