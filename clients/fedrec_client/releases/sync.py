"""Get the newest release: verified, downloaded, tried, installed.

| step | what a failure leaves |
|---|---|
| 1 the signed metadata (`trusted`): signatures, expiry, versions, digest and length of the record | the old model |
| 2 the ledger's proof (`fedrec.releases.proven`): head, closing record, growth, witnesses | the old model |
| 3 the parts (`download`): exact lengths and digests | the old model, and parts for a later try |
| 4 the installation: the new model opens, makes lists, and gives the publisher's scores | the old model |
| 5 the pointer of the device names the new model | the new model |

Nothing that the server chooses is used before it is checked. A kill at any moment leaves the old model or the new one.
"""

import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from fedrec.audit.log.keys import PublicKey, public_key
from fedrec.errors import InputError, VerificationError
from fedrec.extras import missing
from fedrec.releases import parity, proven, record
from fedrec_client.releases.download import Progress, fetch
from fedrec_client.releases.places import ReleasePlaces
from fedrec_client.releases.web import PATIENCE, WebServer

if TYPE_CHECKING:
    from types import ModuleType

    from fedrec_client.edge.private_state import PrivateState

MOST = 1 << 30
"""Most bytes of a release, where the caller names no other limit."""


@dataclass(frozen=True)
class Synced:
    """The answer of a sync.

    Attributes:
        changed: whether another model is in use now.
        sequence: number of the newest release.
        run: id of its run.
        size: bytes of its files.
        downloaded: bytes of its parts that the server sent now.
    """

    changed: bool
    sequence: int
    run: str
    size: int
    downloaded: int


@dataclass(frozen=True)
class SyncOptions:
    """How to sync.

    Attributes:
        witnesses: keys of witnesses that must have cosigned the ledger; none for those of the last sync.
        most: most bytes of a release.
        jitter: seconds; the sync waits for a random part of them, so that its time says less about the person.
        patience: seconds that the server may be silent.
        progress: gets bytes that are here, and bytes of the release.
    """

    witnesses: Sequence[str] = ()
    most: int = MOST
    jitter: float = 0.0
    patience: float = PATIENCE
    progress: Progress | None = None


def synced(
    device: Path, url: str | None, keys: Sequence[str], options: SyncOptions | None, lock: RLock, state: "PrivateState"
) -> Synced:
    """Get the newest release of a device.

    Args:
        device: its folder.
        url: address of the releases; None for that of the last sync.
        keys: root keys, pinned by the first sync.
        options: how; None for the usual.
        lock: of the client, held while the new model is installed and never while the server is asked.
        state: of the client, which installs models.

    Raises:
        InputError: where the server cannot be reached, the disk is full, or the new model makes no list.
        VerificationError: for what is not signed, not proven, old or false. The old model stays.
    """
    how = options or SyncOptions()
    trusted = _trusted_module()
    places = ReleasePlaces(device)
    if not 0 <= how.jitter < 1e6:
        raise InputError("jitter: must be seconds, at least 0")
    if how.jitter:
        time.sleep(random.uniform(0, how.jitter))
    with places.alone():
        source = places.source(url, _keys(keys), _keys(how.witnesses))
        server = WebServer(source.url, how.patience)
        try:
            newest = trusted.newest(places, source, server)
            release = record.parsed(newest.content)
            if release.size > how.most:
                raise VerificationError(
                    f"{source.url}: its release has {release.size:,} bytes, more than {how.most:,}; allow it by most="
                )
            head = proven.check(release, newest.ledgers, places.seen(release.run), source.witnesses)
            places.keep_seen(release.run, head)
            now, digest = state.pointer(), hashlib.sha256(newest.content).hexdigest()
            if now is not None and places.installed() == (digest, now.name):
                places.tidy()
                return Synced(False, release.sequence, release.run, release.size, 0)
            old = None if now is None else device / "models" / now.name
            fetched = fetch(release, places, server, old, how.progress or (lambda *_: None))
        finally:
            server.close()
        with lock:
            fresh = state.install(
                fetched.folder,
                None,
                release.min_rating,
                lambda model: parity.check(model.model, model.ids, release.lists),
            )
        places.keep_installed(digest, fresh.pointer.name)
        places.tidy()
    return Synced(True, release.sequence, release.run, release.size, fetched.from_server)


def _keys(texts: Sequence[str]) -> list[PublicKey]:
    return [public_key(text) for text in ([texts] if isinstance(texts, str) else texts)]


def _trusted_module() -> "ModuleType":
    try:
        from fedrec_client.releases import trusted
    except ModuleNotFoundError as error:
        raise missing(error, "client sync") or error from None
    return trusted
