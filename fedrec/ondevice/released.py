"""A released model's folder on a device: which form its kind has, its files checked, its tensors opened."""

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec.errors import InputError, VerificationError, nearest
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.ids import HeldIds, ItemIds, StoredIds
from fedrec.ondevice.index_file import made_for, make_index, open_index, read_ids
from fedrec.ondevice.packed_file import PackedFile
from fedrec.ondevice.source import Source
from fedrec.ondevice.tensor_file import TensorFile
from fedrec.received_files import digest_below, read_below

FORMS = {
    "als": ("fedrec.ondevice.factors", "ALSForm"),
    "spectral": ("fedrec.ondevice.factors", "SpectralForm"),
    "tower": ("fedrec.ondevice.factors", "TowerForm"),
    "tower-ratings": ("fedrec.ondevice.factors", "RatingTowerForm"),
    "stars": ("fedrec.ondevice.stars", "StarsForm"),
    "popularity": ("fedrec.ondevice.factors", "PopularityForm"),
    "sequence": ("fedrec.ondevice.sequences", "SequenceForm"),
    "generative": ("fedrec.ondevice.generative", "GenerativeForm"),
    "residual": ("fedrec.ondevice.residual", "ResidualForm"),
    "kernel": ("fedrec.ondevice.kernel", "KernelForm"),
    "fedrecon": ("fedrec.ondevice.local_training", "FedReconForm"),
    "pfedrec": ("fedrec.ondevice.local_training", "PFedRecForm"),
    "fedncf": ("fedrec.ondevice.local_training", "FedNCFForm"),
    "gpfedrec": ("fedrec.ondevice.personal_items", "GPFedRecForm"),
    "cofedrec": ("fedrec.ondevice.personal_items", "CoFedRecForm"),
    "fedvlr": ("fedrec.ondevice.personal_items", "FedVLRForm"),
    "fedrap": ("fedrec.ondevice.personal_items", "FedRAPForm"),
}
"""Kind of a released model -> module and class of its device form, imported when it is used."""

WITHOUT_FORM: dict[str, str] = {}
"""Kind of a released model that no device uses -> why."""

_LARGEST_MANIFEST = 1 << 26


def form_of(kind: str) -> type[DeviceModel]:
    """The device form of a kind.

    Raises:
        InputError: for a kind without one.
    """
    if kind in WITHOUT_FORM:
        raise InputError(f"model kind '{kind}': is not for devices: {WITHOUT_FORM[kind]}")
    if kind not in FORMS:
        raise InputError(f"model kind '{kind}': has no form for devices; use a newer fedrec.{nearest(kind, FORMS)}")
    module, name = FORMS[kind]
    found: type[DeviceModel] = getattr(importlib.import_module(module), name)
    return found


@dataclass(frozen=True)
class Released:
    """A released model on a device, and the ids of its items; None for a model of an older version without them."""

    model: DeviceModel
    ids: ItemIds | None


def model_folder(release: Path) -> Path:
    """Return the folder of a released model.

    Args:
        release: a run, its `release/`, or the model's own folder.

    Raises:
        InputError: where there is none.
    """
    for below in ("", "model", "release/model"):
        if (release / below / "manifest.json").exists():
            return release / below
    raise InputError(f"{release}: no released model; name a run, its release/, or the folder with manifest.json")


def load(folder: Path) -> DeviceModel:
    """Open the model in `folder` alone; see `open_released`."""
    return open_released(folder, ids=False).model


def open_released(folder: Path, index: Path | None = None, *, ids: bool = True) -> Released:
    """Open the model in `folder` (model.safetensors, manifest.json and items.json).

    Args:
        folder: the model's folder; it is only read.
        index: where to keep what is derived from the model, a file of some bytes an item and number. It is made when it
            is missing or of another model. None derives it anew each time, in memory.
        ids: False to leave the ids out.

    Raises:
        InputError: where there is none, its kind has no form, or its files are not those that the manifest names.
        VerificationError: where one of the files is a link.
    """
    manifest, content = read_manifest(folder)
    form = form_of(manifest["kind"])
    path = folder / "model.safetensors"
    if path.is_symlink():
        raise VerificationError(f"{path}: is a link, and a model's folder holds none; copy the file itself")
    about = made_for(content, path) if path.is_file() else {}
    stored = None if index is None else open_index(index, about)
    ids = ids and "items" in manifest
    if stored is None:
        _check(folder, path.name, manifest["sha256"])
        if "items" in manifest and (ids or index is not None):
            _check(folder, "items.json", str(manifest["items"]["sha256"]))
    try:
        file = PackedFile(path, manifest["packed"]) if "packed" in manifest else TensorFile(path)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: the manifest and the tensors do not fit each other ({error})") from None
    if stored is None and index is not None:
        stored = make_index(index, file, form.tables, folder / "items.json" if "items" in manifest else None, about)
    try:
        model = form.open(Source(file, stored), manifest["model"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{folder}: the manifest and the tensors do not fit each other ({error})") from None
    model.by(str(manifest.get("made_by", "")))
    names: ItemIds | None = None
    if ids:
        names = HeldIds(list(read_ids(folder / "items.json"))) if stored is None else StoredIds(stored)
        if len(names) != model.n_items:
            raise InputError(f"{folder}: {model.n_items:,} items in the model, {len(names):,} ids; fetch it again")
    return Released(model, names)


def _check(folder: Path, name: str, digest: str) -> None:
    if digest_below(folder, name) != digest:
        raise InputError(f"{folder / name}: is not the file that manifest.json names by its SHA-256; fetch it again")


def read_manifest(folder: Path) -> tuple[dict[str, Any], bytes]:
    """A model's manifest, with `kind`, `model` and `sha256`, and its bytes. Raises: InputError."""
    content = read_below(folder, "manifest.json", _LARGEST_MANIFEST) if folder.is_dir() else None
    if content is None:
        raise InputError(f"{folder}: no model here (needs manifest.json and model.safetensors)")
    try:
        found = json.loads(content)
        if not isinstance(found["kind"], str) or not isinstance(found["model"], dict):
            raise ValueError("no kind or no settings")
        if not isinstance(found["sha256"], str) or len(found["sha256"]) != len(hashlib.sha256().hexdigest()):
            raise ValueError("no digest")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder}/manifest.json: no model's manifest ({error}); fetch the model again") from None
    return dict(found), content
