"""Which tensors of a released model are packed, and the files of the packed model."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fedrec.compress.settings import Steps
from fedrec.errors import InputError
from fedrec.ondevice.tensor_file import header_of
from fedrec.packed_tensors import Packing, pack, pruned

NETWORK, LAYERS = "network", ("network/", "encoder.")
"""A network in one tensor; beginnings of the names of the layers of others, whose matrices are packed."""
LEAST = 256
"""Numbers of a tensor that is packed."""


def chosen(name: str, tensor: np.ndarray, items: int) -> bool:
    """Whether a tensor is packed: a table with a row for each item, or a part of a network. Popularity, biases and
    Gram matrices stay as they are."""
    if tensor.dtype != np.float32 or tensor.size < LEAST:
        return False
    if name == "numbers":  # compared with the numbers of other items, not multiplied
        return False
    layer = tensor.ndim > 1 and name.startswith(LAYERS)  # not its biases and scales
    return (tensor.ndim == 2 and len(tensor) == items) or name == NETWORK or layer


def packed(
    tensors: Mapping[str, np.ndarray], items: int, steps: Steps
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Prune and quantise the tensors of a model.

    Args:
        tensors: of the model.
        items: size of the catalogue.
        steps: `prune` and `bits`.

    Returns:
        The tensors of the file, and the part `packed` of the manifest.

    Raises:
        InputError: for steps that do not go together, or a model without such a tensor.
    """
    if steps.prune is not None and steps.bits == 4:
        raise InputError("compress: --prune and --int4 do not go together; use --prune with --int8")
    if steps.prune is None and steps.bits is None:
        return dict(tensors), {}
    form: Literal["float32", "int8", "int4"] = {None: "float32", 8: "int8", 4: "int4"}[steps.bits]  # type: ignore[assignment]
    found, about = dict(tensors), dict[str, dict[str, Any]]()
    for name, tensor in tensors.items():
        if not chosen(name, tensor, items):
            continue
        packing = Packing(form, tensor.shape, steps.prune is not None)
        parts = pack(found.pop(name) if steps.prune is None else pruned(found.pop(name), steps.prune), packing)
        found |= {f"{name}@{part}": value for part, value in parts.items()}
        about[name] = packing.about
    if not about:
        raise InputError("compress: this model has no table or network that could be packed")
    return found, about


def files_of(
    manifest: Mapping[str, Any], source: str, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> tuple[bytes, bytes]:
    """Return the compressed model.safetensors and manifest.json.

    Args:
        manifest: of the model that was compressed.
        source: SHA-256 of that manifest, hex.
        tensors: of the file.
        about: the part `packed` of the manifest.
    """
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    head = header_of([(name, value.dtype, value.shape) for name, value in arrays.items()], {})
    content = head + b"".join(value.tobytes() for value in arrays.values())
    made = {name: value for name, value in manifest.items() if name not in ("sha256", "packed", "derived_from")}
    made |= {"sha256": hashlib.sha256(content).hexdigest(), "derived_from": source}
    if about:
        made["packed"] = dict(about)
    return content, (json.dumps(made, indent=2, sort_keys=True) + "\n").encode()
