"""Repair of a device's damaged store: what still opens takes its place, and the damaged file is kept next to it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from fedrec.durable import sync
from fedrec.errors import FedrecError, InputError
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.store import KeySource, Salvaged, Store, salvage
from fedrec_client.store.key_sources import KeyFile, source_of
from fedrec_client.store.vault import Vault

_LOGS = ("-wal", "-shm")


@dataclass(frozen=True)
class Repaired:
    """What became of a damaged store.

    Attributes:
        saved: what the store in its place has.
        damaged: the damaged file. It is sealed, and `forget` does not reach it: delete it once it is not needed.
    """

    saved: Salvaged
    damaged: Path


def repair(path: Path, key: KeySource | None = None) -> Repaired:
    """Replace the store of a device's folder by what still opens of it. Nobody may have it open.

    Args:
        path: the device's folder.
        key: source of the master key; None for the usual one.

    Raises:
        InputError: where there is no store, or the key does not fit.
        VerificationError: where nothing can be saved.
    """
    store = DeviceFolder(path.absolute()).store
    if not store.is_file():
        raise InputError(f"{store}: there is no store; check the folder")
    source = key or _source(store)
    fresh, stem = store.with_name(".events.saved"), f"{store.name}.damaged-"
    aside = next((each for each in store.parent.glob(f"{stem}*") if each.samefile(store)), None)  # a kill's
    if aside is None or not fresh.exists():
        for left in ("", *_LOGS):
            fresh.with_name(fresh.name + left).unlink(missing_ok=True)
        saved = salvage(store, fresh, source)
    else:
        with Store.open(fresh, source) as found:
            saved = Salvaged(len(found.events()), len(found.states()), None)
    aside = aside or store.with_name(f"{stem}{time.strftime('%Y%m%dT%H%M%S')}")
    if not aside.exists():
        os.link(store, aside)
    for end in _LOGS:
        log = store.with_name(store.name + end)
        if log.exists():  # a log of the old file must not meet the new one
            log.rename(aside.with_name(aside.name + end))
    fresh.rename(store)
    sync(store.parent)
    return Repaired(saved, aside)


def _source(store: Path) -> KeySource:
    try:
        return source_of(Vault.kind_of_key(store), store)
    except FedrecError:
        return KeyFile(store.with_suffix(".key"))
