"""Installed models: checked copies of released ones, and the pointer to the one in use.

A new model is copied into a folder of its own, checked, opened and tried. Then one small file, which is replaced
atomically, names it, and the old folder is removed. Until that moment the old model is the one in use.
"""

import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedrec.data.spellings import canonical_id
from fedrec.durable import replace, sync
from fedrec.errors import FedrecError, InputError
from fedrec.ondevice import lists
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.history import History
from fedrec.ondevice.ids import ItemIds
from fedrec.ondevice.lists import Rows
from fedrec.ondevice.public_items import PublicItems
from fedrec.ondevice.released import model_folder, open_released, read_manifest
from fedrec.received_files import read_below
from fedrec_client.edge.answers import Filters, Freshness, Installed
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.edge.received_models import PUBLIC, copy_model, try_lists

INDEX = "index"
"""Derived from a model, in its folder."""


@dataclass(frozen=True)
class Pointer:
    """The content of `model.json`.

    Attributes:
        name: of the folder in `models/`.
        min_rating: least rating that a model of events learns from; None for any.
    """

    name: str
    min_rating: float | None = None


@dataclass(frozen=True)
class OpenModel:
    """A model that is open.

    Attributes:
        pointer: to it.
        model: itself.
        ids: of its items.
        public: public features of its items; None where none were given.
        rated: True if it needs ratings.
        about: for the app.
    """

    pointer: Pointer
    model: DeviceModel
    ids: ItemIds
    public: PublicItems | None
    rated: bool
    about: Installed

    def place(self, item: str | int) -> int:
        """Return the position of an item. Raises: InputError where the model has no such item; it shows no id."""
        found = self.ids.find(canonical_id(item))
        if found is None:
            raise InputError("the model has no item with this id; check it, or install a newer model")
        return found

    def title(self, item: str) -> str:
        """Return the title of an item that the model has, by its id; the id where no title is known."""
        place = self.ids.find(item)
        return item if self.public is None or place is None else self.public.title(place) or item

    @property
    def rows(self) -> Rows | None:
        """The public features as rows for likeness; None where the model has rows of its own, or there are none."""
        if self.public is None or self.model.item_rows(np.zeros(1, np.int64)) is not None:
            return None
        return self.public.rows

    def allowed(self, filters: Filters) -> np.ndarray:
        """Return which items pass, (items,) bool. Raises: InputError for an unknown block or label."""
        found = np.ones(self.model.n_items, bool)
        if filters.having or filters.without or filters.between:
            if self.public is None:
                raise InputError("filters by public features need those of the items; install with public=FILE")
            found &= self.public.mask(filters.having, filters.between, filters.without)
        if filters.only is not None:
            listed = np.zeros(self.model.n_items, bool)
            listed[self.ids.positions(map(canonical_id, filters.only))] = True
            found &= listed
        found[self.ids.positions(map(canonical_id, filters.exclude))] = False
        return found

    def freshness(self, wish: Freshness) -> lists.Freshness:
        """Return the ages of the items. Raises: InputError for an unknown block, or one without values."""
        if self.public is None:
            raise InputError("freshness needs the public features of the items; install with public=FILE")
        values = self.public.number(wish.number)
        known = values[np.isfinite(values)]
        if not len(known):
            raise InputError(f"freshness: no item has a number '{wish.number}'; name another")
        newest = float(known.max()) if wish.now is None else wish.now
        return lists.Freshness(newest - values, wish.half_life, wish.weight)


class Models:
    """The models of a device's folder. Processes share it."""

    def __init__(self, folder: DeviceFolder) -> None:
        self._folder = folder
        self._read: tuple[tuple[int, ...], Pointer | None] | None = None

    def pointer(self) -> Pointer | None:
        """Return the pointer to the model in use; None before the first was installed. Raises: InputError.

        The file is only ever replaced. It is read again when it is another file than before.
        """
        try:
            about = os.lstat(self._folder.pointer)
        except OSError:
            return self._pointer()
        file = (about.st_dev, about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_mode)
        if self._read is None or self._read[0] != file:  # before the content: a file of in between is read next time
            self._read = (file, self._pointer())
        return self._read[1]

    def _pointer(self) -> Pointer | None:
        content = read_below(self._folder.path, self._folder.pointer.name, 1 << 12)
        if content is None:
            return None
        try:
            found = json.loads(content)
            name, least = found["name"], found["min_rating"]
            if not isinstance(name, str) or len(bytes.fromhex(name)) != 8 or not isinstance(least, float | None):
                raise ValueError("no folder's name")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{self._folder.pointer}: damaged; install a release again") from None
        return Pointer(name, least)

    def open(self, pointer: Pointer) -> OpenModel:
        """Open an installed model.

        Raises:
            InputError, VerificationError: for damaged files, one line.
        """
        try:
            return self._opened(self._folder.models / pointer.name, pointer)
        except FedrecError as error:
            raise type(error)(f"{error} (install a release again)") from None

    def install(
        self,
        release: Path,
        public: Path | None,
        min_rating: float | None,
        history_of: Callable[[OpenModel], History],
        check: Callable[[OpenModel], None],
    ) -> OpenModel:
        """Copy, check and try a released model, then make it the one in use.

        Args:
            release: see `model_folder`.
            public: see `copy_model`.
            min_rating: see `Pointer`.
            history_of: gives the person's history for a model, which is tried with it.
            check: refuses an open model by an error.

        Raises:
            InputError, VerificationError: where it cannot be used; the old model stays in use.
        """
        source = model_folder(release)
        if min_rating is not None and not math.isfinite(min_rating):
            raise InputError("min_rating: must be a finite number, or None")
        pointer = Pointer(secrets.token_hex(8), None if min_rating is None else float(min_rating))
        with self._alone():
            fresh = self._folder.models / pointer.name
            try:
                fresh.mkdir(mode=0o700)
                copy_model(source, fresh, public)
                found = self._opened(fresh, pointer)
                try_lists(found.model, history_of(found), str(release))
                check(found)
                sync(fresh)
                sync(fresh.parent)
                content = json.dumps({"name": pointer.name, "min_rating": pointer.min_rating})
                replace(self._folder.pointer, content.encode(), mode=0o600)
                sync(self._folder.path)
            except BaseException as error:
                shutil.rmtree(fresh, ignore_errors=True)
                if isinstance(error, OSError):
                    raise InputError(
                        f"{self._folder.models}: a model cannot be written ({error.strerror}); check disk and rights"
                    ) from None
                raise
            for other in self._folder.models.iterdir():
                if other.is_dir() and other.name != pointer.name:
                    shutil.rmtree(other, ignore_errors=True)
        return found

    def _opened(self, place: Path, pointer: Pointer) -> OpenModel:
        _, content = read_manifest(place)
        released = open_released(place, place / INDEX)
        if released.ids is None:
            raise InputError(f"{place}: a model of an older version, without the ids of its items; release it again")
        file, model = place / PUBLIC, released.model
        public = PublicItems.read(file, model.n_items) if file.is_file() and not file.is_symlink() else None
        rated = model.needs_ratings
        about = Installed(model.called, model.n_items, hashlib.sha256(content).hexdigest(), rated)
        return OpenModel(pointer, model, released.ids, public, rated, about)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the models: one process installs at a time."""
        models = self._folder.models
        try:
            models.mkdir(exist_ok=True, mode=0o700)
            handle = os.open(models / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"{models}: cannot be used ({error.strerror}); check disk and rights") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
