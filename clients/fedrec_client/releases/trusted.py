"""The newest release's record, as the client workflow of the TUF specification finds it (python-tuf runs it).

The pinned keys choose the first root: the first version in the folder that every one of them signed as a key of its
root role. From there on each root is signed by enough keys of the one before. So a key that was rotated in later can be
pinned, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from securesystemslib.exceptions import StorageError
from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from fedrec.audit.log.keys import PREFIX, PublicKey, public_key
from fedrec.durable import sync
from fedrec.errors import FedrecError, InputError, VerificationError
from fedrec.received_files import read_below
from fedrec.releases import record
from fedrec_client.releases.places import ReleasePlaces, Source
from fedrec_client.releases.web import Missing, Unreachable, WebServer

MOST_ROOTS = 256
LIMITS = UpdaterConfig(
    max_root_rotations=MOST_ROOTS,
    root_max_length=1 << 17,
    timestamp_max_length=1 << 14,
    snapshot_max_length=1 << 16,
    targets_max_length=1 << 18,
)


class Fetcher(FetcherInterface):
    """python-tuf's downloads through our own server, with its limits of bytes and time."""

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self.failed: FedrecError | None = None

    def download_bytes(self, url: str, max_length: int) -> bytes:
        return b"".join(self._kept(url, max_length))

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[BytesIO]:
        yield BytesIO(self.download_bytes(url, max_length))

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._kept(url, record.LARGEST)

    def _kept(self, url: str, most: int) -> Iterator[bytes]:
        """Yield the bytes of a file; an error of the network must not look like one of the signatures."""
        try:
            with self._server.get(url, most) as answer:
                yield from answer.blocks
        except Missing as error:
            raise exceptions.DownloadHTTPError(f"status {error.status}", error.status) from None
        except FedrecError as error:
            self.failed = error
            raise exceptions.DownloadError(str(error)) from None


@dataclass(frozen=True)
class Newest:
    """The newest release. Attributes: content: its record; ledgers: keys that the root names for ledgers."""

    content: bytes
    ledgers: tuple[PublicKey, ...]


def newest(places: ReleasePlaces, source: Source, server: WebServer) -> Newest:
    """Return the newest release, its signatures, version, expiry, length and digest checked.

    Args:
        places: of the device, locked.
        source: whom it trusts.
        server: of the releases.

    Raises:
        VerificationError: for what the specification refuses, one line.
        InputError: where the server cannot be reached.
    """
    if not source.root:
        source = replace(source, root=_first_root(source, server))
        places.keep_source(source)
    elif not all(_signed(source.root, key) for key in source.keys):
        raise places.damaged("source.json")
    fetcher = Fetcher(server)
    place = places.path / record.TARGET
    try:
        metadata, targets = server.url + "metadata/", server.url + "targets/"
        updater = Updater(str(places.metadata), metadata, None, targets, fetcher, LIMITS, bootstrap=source.root)
        updater.refresh()
        about = updater.get_targetinfo(record.TARGET)
        if about is None or about.length > record.LARGEST:
            raise VerificationError(f"{server.url}: its signed targets name no release; ask its publisher")
        if updater.find_cached_target(about, str(place)) is None:
            updater.download_target(about, str(place))
    except exceptions.DownloadError as error:
        if fetcher.failed is not None:
            raise fetcher.failed from None
        raise Unreachable(f"{server.url}: lacks a file of its releases ({error}); ask its publisher") from None
    except (exceptions.RepositoryError, DeserializationError, StorageError) as error:
        raise VerificationError(f"{server.url}: {_why(error)}") from None
    for file in [*places.metadata.glob("*.json"), *(places.metadata / "root_history").glob("*.json"), places.metadata]:
        sync(file)
    places.keep_source(source)
    return Newest(_kept(places.path), _ledgers(places))


def _ledgers(places: ReleasePlaces) -> tuple[PublicKey, ...]:
    """Return the keys of ledgers in the newest root, which was checked and kept."""
    root = Metadata[Root].from_file(str(places.metadata / "root.json")).signed
    found = root.unrecognized_fields.get(record.LEDGER_KEYS)
    try:
        if isinstance(found, list):
            return tuple(public_key(text) for text in found if isinstance(text, str) and text.startswith(PREFIX))
    except InputError:
        pass
    raise VerificationError(f"{places.metadata}/root.json: names no keys of ledgers; ask its publisher")


def _kept(folder: Path) -> bytes:
    found = read_below(folder, record.TARGET, record.LARGEST)
    if found is None:
        raise VerificationError(f"{folder}/{record.TARGET}: was removed meanwhile; sync again")
    return found


def _first_root(source: Source, server: WebServer) -> bytes:
    """Return the first root that every pinned key signed."""
    for version in range(1, MOST_ROOTS + 1):
        try:
            with server.get(f"metadata/{version}.root.json", LIMITS.root_max_length) as answer:
                content = b"".join(answer.blocks)
        except Missing:
            break
        if all(_signed(content, key) for key in source.keys):
            return content
    raise VerificationError(f"{server.url}: no root there is signed by the pinned key; check --url and --key")


def _signed(content: bytes, key: PublicKey) -> bool:
    """Whether a key of the root role of these metadata is `key`, and signed them."""
    try:
        found: Metadata[Root] = Metadata[Root].from_bytes(content)
        for keyid in found.signed.roles[Root.type].keyids:
            own = found.signed.keys[keyid].keyval.get("public") == key.raw.hex()
            signature = found.signatures.get(keyid)
            if own and signature and key.verifies(bytes.fromhex(signature.signature), found.signed_bytes):
                return True
    except (exceptions.RepositoryError, DeserializationError, KeyError, ValueError, TypeError, AttributeError):
        pass
    return False


def _why(error: Exception) -> str:
    if isinstance(error, exceptions.ExpiredMetadataError):
        return "its newest statement has expired: it is not renewed, or an old one is replayed; check this clock, too"
    if isinstance(error, exceptions.BadVersionNumberError):
        return f"offers an older version than this device has seen, a rollback ({error})"
    if isinstance(error, exceptions.UnsignedMetadataError):
        return f"a file is not signed by the keys that this device trusts ({error})"
    if isinstance(error, exceptions.LengthOrHashMismatchError):
        return f"files of different releases are mixed, or one was changed ({error})"
    return f"its metadata cannot be used ({error})"
