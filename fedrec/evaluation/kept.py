"""The ranks of a run in one file, for tests of significance and further metrics later.

They reveal each user's held-out items and their ranks: private data, which no guarantee covers. A simulation keeps
them only when asked, and a deployment never makes them.
"""

import os
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from fedrec.errors import InputError
from fedrec.evaluation.ranking import Ranks

NOTE = "private data of the users: what was held out of each and where it came; no guarantee covers this file"
TENSORS = ("owners", "targets", "full", "sampled", "others", "lists")


def save_ranks(found: Ranks, path: Path) -> None:
    """Write `found` as a compressed .npz, readable by its owner alone, with a note that no guarantee covers it."""
    arrays: dict[str, Any] = {name: _small(tensor) for name in TENSORS if (tensor := getattr(found, name)) is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        np.savez_compressed(
            file, note=NOTE, users=_small(torch.from_numpy(found.users)), n_items=found.n_items, **arrays
        )


def load_ranks(path: Path) -> Ranks:
    """Read a file of `save_ranks`.

    Raises:
        InputError: when the file is missing or has another content.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        tensors: dict[str, Any] = {
            name: torch.from_numpy(held[name].astype(np.int64)) for name in TENSORS if name in held
        }
        users, n_items = held["users"].astype(np.int64), int(held["n_items"])
        tensors["lists"] = tensors["lists"].int()
        return Ranks(users=users, n_items=n_items, **{"sampled": None, **tensors})
    except FileNotFoundError:
        raise InputError(f"{path}: no ranks were kept; run again with --set evaluation.keep_ranks=true") from None
    except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile, RuntimeError, zlib.error) as error:
        raise InputError(f"{path}: not a file of ranks: {error}") from None


def _small(tensor: torch.Tensor) -> np.ndarray:
    """Return the same whole numbers in the narrowest type that fits."""
    values = tensor.numpy()
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    return values.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))
