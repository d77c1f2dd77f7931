"""Finds algorithms and released models by name: in the modules of this folder, and among the installed plug-ins.

Nothing is registered: a built-in algorithm is a file here, one of another package is an entry point of the group
`fedrec.algorithms` (see `fedrec.plugins`).
"""

import hashlib
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

import fedrec.algorithms
from fedrec import plugins
from fedrec.algorithms.base import Algorithm
from fedrec.errors import InputError, nearest
from fedrec.model import ReleasedModel
from fedrec.packed_tensors import unpack
from fedrec.received_files import read_below
from fedrec.settings import Settings

GROUP: Final = "fedrec.algorithms"


def _members(module: Any, base: type) -> dict[str, Any]:
    """The concrete classes of kind `base` in a module, by name."""
    return {
        getattr(member, "name" if base is Algorithm else "kind"): member
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, base) and not inspect.isabstract(member)
    }


def _built_in(base: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(fedrec.algorithms.__path__):
        found |= _members(importlib.import_module(f"fedrec.algorithms.{module.name}"), base)
    return found


def _unusable(found: Any, name: str) -> str | None:
    if not (inspect.isclass(found) and issubclass(found, Algorithm)):
        return "is no subclass of fedrec.algorithms.base.Algorithm"
    if inspect.isabstract(found):
        return f"lacks {', '.join(sorted(found.__abstractmethods__))}"
    if getattr(found, "name", None) != name or not name:
        return f"its class is named {getattr(found, 'name', None)!r}; entry point and class must have the same name"
    config = getattr(found, "Config", None)
    return None if inspect.isclass(config) and issubclass(config, Settings) else "its Config is no subclass of Settings"


def algorithms() -> dict[str, type[Algorithm]]:
    """Every usable algorithm by its name, those of other packages included."""
    return plugins.every(GROUP, _built_in(Algorithm), _unusable)


def algorithm(name: str) -> type[Algorithm]:
    """The algorithm called `name`, built in or installed. Never one that is named by its place in the code.

    Raises: InputError that names the nearest; PluginRefused where this process does not allow it.
    """
    return plugins.discover(GROUP, name, _built_in(Algorithm), _unusable)


def own_algorithm(reference: str) -> type[Algorithm]:
    """The algorithm at `package.module:Class` or `file.py:Class`, for a simulation of one's own.

    Raises: InputError where there is none; PluginRefused on a node.
    """
    kind: type[Algorithm] = plugins.referenced(reference, _unusable)
    if kind.name in _built_in(Algorithm):
        raise InputError(f"{reference}: the name '{kind.name}' is built in; give the class a name of its own")
    return kind


def _model_kinds(made_by: str, own: type[Algorithm] | None) -> dict[str, Any]:
    """Kinds of released models: the built-in ones, and those in the module of the installed algorithm `made_by`."""
    found = _built_in(ReleasedModel)
    if own is None and (made_by in _built_in(Algorithm) or made_by not in plugins.plugins(GROUP)):
        return found
    kind = algorithm(made_by) if own is None else own
    return _members(sys.modules[kind.__module__], ReleasedModel) | found


_LARGEST_MANIFEST, _LARGEST_ITEMS, _LARGEST_MODEL = 1 << 26, 1 << 30, 1 << 36  # bytes that are read


def items_text(items: Sequence[str]) -> bytes:
    """The content of `items.json`: the ids of a model's items, in catalogue order, a line each."""
    return ("[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]\n").encode()


def load_model(folder: Path, items: Sequence[str] | None = None, own: type[Algorithm] | None = None) -> ReleasedModel:
    """A released model from the folder that `fedrec simulate` wrote (`model.safetensors` and `manifest.json`).

    Args:
        folder: the run's `model/`.
        own: an algorithm of one's own whose module may define the model; a manifest never names a module.
        items: ids of the catalogue that the model is used with, in order; None where position alone matters.

    Raises: InputError when the folder holds none, its tensors are not those that the manifest fixes by hash, or its
        items are others than `items`; VerificationError where one of the files is a link.
    """
    manifest_file, tensor_file = folder / "manifest.json", folder / "model.safetensors"
    about = read_below(folder, manifest_file.name, _LARGEST_MANIFEST) if folder.is_dir() else None
    content = None if about is None else read_below(folder, tensor_file.name, _LARGEST_MODEL)
    if about is None or content is None:
        raise InputError(f"{folder}: no model here (needs manifest.json and model.safetensors)")
    try:
        manifest = json.loads(about)
        kind, settings, digest = str(manifest["kind"]), manifest["model"], manifest["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{manifest_file}: no model's manifest ({error}); write the model again") from None
    known = _model_kinds(str(manifest.get("made_by", "")), own)
    if kind not in known:
        raise InputError(f"{manifest_file}: unknown model kind '{kind}'.{nearest(kind, known)}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{tensor_file}: is not the file that manifest.json names by its SHA-256; bring back that one")
    try:
        tensors = load(content)
        if "packed" in manifest:
            tensors = {name: torch.from_numpy(value) for name, value in _unpacked(tensors, manifest["packed"]).items()}
        model: ReleasedModel = known[kind].restore(tensors, settings)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}: the manifest and the tensors do not fit each other ({error})") from None
    if items is not None and "items" in manifest:  # models of older versions name no items
        _check_items(folder, manifest["items"], items)
    model.made_by = str(manifest.get("made_by", ""))
    return model


def _unpacked(tensors: Mapping[str, Tensor], packed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return unpack({name: tensor.numpy() for name, tensor in tensors.items()}, packed)


def model_items(folder: Path) -> list[str]:
    """The ids of a model's items, in catalogue order. Raises: InputError when `items.json` is none, or not there."""
    content = read_below(folder, "items.json", _LARGEST_ITEMS)
    try:
        found = json.loads(content or b"")
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise ValueError("no list of ids")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder / 'items.json'}: no list of items ({error}); bring back that of the run") from None
    return found


def _check_items(folder: Path, fixed: Any, items: Sequence[str]) -> None:
    if isinstance(fixed, dict) and hashlib.sha256(items_text(items)).hexdigest() == fixed.get("sha256"):
        return
    own = model_items(folder)
    if len(own) != len(items):
        raise InputError(
            f"{folder}: trained on {len(own):,} items, the data hold {len(items):,}; use the run's catalogue"
        )
    place = next((place for place, pair in enumerate(zip(own, items, strict=True)) if pair[0] != pair[1]), 0)
    raise InputError(
        f"{folder}: position {place} is item '{own[place]}' for the model and '{items[place]}' in the data: another "
        f"catalogue, or another order; use the run's catalogue"
    )
