"""Sources of a store's master key: systemd credential, key file, passphrase, keyring.

| source | protects against | note |
|---|---|---|
| `Credential` | a copy of the disk, where systemd seals it with a TPM | `LoadCredentialEncrypted=` of a unit |
| `KeyFile` | a copy of the store's file alone | keep the key file out of backups |
| `Passphrase` | a copy of the disk, as long as nobody guesses the passphrase | Argon2id, 19 MiB, 2 passes |
| `Keyring` | other users, as well as the desktop's keyring does | needs the package `keyring` and a desktop session |
"""

import json
import os
import secrets
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from glob import escape
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from fedrec import private_files
from fedrec.durable import sync
from fedrec.errors import InputError
from fedrec_client.store.damage import Damage
from fedrec_client.store.sealer import KEY

SHORTEST_PASSPHRASE = 12
"""Characters: a thief of the file tries passphrases at the price of one Argon2id each."""
_MEMORY, _PASSES, _LANES = 19 * 1024, 2, 1  # KiB; OWASP's first choice for Argon2id
_LARGEST = {"memory": 1 << 18, "passes": 64, "lanes": 16}


class KeySource(ABC):
    """Where the master key of a store comes from.

    A `hint` is public bytes that the store keeps for the source: a salt, or nothing.
    """

    kind: ClassVar[str]

    @abstractmethod
    def new(self) -> tuple[bytes, bytes]:
        """Return hint and master key for a new store, or for one that changes to this source.

        Raises: InputError where there is no key and none can be made.
        """

    @abstractmethod
    def keys(self, hint: bytes) -> Iterator[bytes]:
        """Yield the master keys to try, in order; make none. Raises: InputError, Damage."""

    def renew(self, current: bytes) -> tuple[bytes, bytes]:
        """Prepare a new master key in place of `current`, durably and next to it; return hint and key."""
        raise InputError(f"a key from a {self.kind} cannot be replaced in its place; give the new key as well")

    def settle(self, current: bytes) -> None:
        """Drop the key that was replaced, now that `current` is the store's master key."""
        return


class KeyFile(KeySource):
    """A file of mode 0600 with 64 hexadecimal digits, or 32 bytes; made where it is missing and the store is new.

    A key file belongs to one store: `rotate_master_key` replaces it. While it does, the new key is in `PATH.new`.

    Args:
        path: of the file. A link is refused, and so is a file that others may read.
    """

    kind = "key file"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._next = self.path.with_name(f"{self.path.name}.new")

    def new(self) -> tuple[bytes, bytes]:
        if not os.path.lexists(self.path):
            self._make()
        return b"", self._read(self.path)

    def keys(self, hint: bytes) -> Iterator[bytes]:
        yield self._read(self.path)
        if os.path.lexists(self._next):
            yield self._read(self._next)
            yield self._read(self.path)  # another process may have finished a rotation in between

    def renew(self, current: bytes) -> tuple[bytes, bytes]:
        self.settle(current)
        private_files.exchange(self._next, f"{secrets.token_hex(KEY)}\n".encode())
        sync(self._next.parent)
        return b"", self._read(self._next)

    def settle(self, current: bytes) -> None:
        if os.path.lexists(self._next) and self._read(self._next) == current:
            os.replace(self._next, self.path)
            sync(self.path.parent)
        for left in self.path.parent.glob(f".{escape(self.path.name)}.made-*"):  # a kill may leave a second name
            left.unlink(missing_ok=True)

    def _make(self) -> None:
        """Make the file whole, or leave the one that another process made first."""
        fresh = self.path.with_name(f".{self.path.name}.made-{secrets.token_hex(8)}")
        private_files.create(fresh, f"{secrets.token_hex(KEY)}\n".encode())
        try:
            with suppress(FileExistsError, FileNotFoundError):  # another process was faster
                os.link(fresh, self.path)
            fresh.unlink(missing_ok=True)
            sync(self.path.parent)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be made ({error.strerror}); choose another folder") from None

    def _read(self, path: Path) -> bytes:
        return _key(private_files.read(path, follow=False), path)


class Credential(KeySource):
    """A credential that systemd hands to a service: a file in $CREDENTIALS_DIRECTORY.

    systemd guards that folder, by an access list that the mode does not show; so only links are refused.

    Args:
        name: of the credential in the unit file.
    """

    kind = "systemd credential"

    def __init__(self, name: str = "fedrec-store-key") -> None:
        if name != Path(name).name or name in ("", ".", ".."):
            raise InputError(f"'{name}' is no name of a credential; give it without a folder")
        self.name = name

    @property
    def path(self) -> Path | None:
        """The credential's file; None outside a service that has credentials."""
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        return Path(folder) / self.name if os.path.isabs(folder) else None

    def new(self) -> tuple[bytes, bytes]:
        return b"", next(self.keys(b""))

    def keys(self, hint: bytes) -> Iterator[bytes]:
        path = self.path
        if path is None:
            raise InputError(
                f"$CREDENTIALS_DIRECTORY is not set; run under systemd with LoadCredentialEncrypted={self.name}"
            )
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                regular = stat.S_ISREG(os.fstat(handle).st_mode)
                content = file.read(4 * KEY) if regular else b""
        except OSError as error:
            raise InputError(f"{path}: the credential cannot be read ({error.strerror}); check the unit") from None
        yield _key(content, path)


class Passphrase(KeySource):
    """A passphrase of the person, stretched by Argon2id (RFC 9106). It stays in memory while the store is open.

    Args:
        text: at least 12 characters.
    """

    kind = "passphrase"

    def __init__(self, text: str) -> None:
        if len(text) < SHORTEST_PASSPHRASE:
            raise InputError(f"the passphrase is short; use at least {SHORTEST_PASSPHRASE} characters")
        self._text = unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass")

    def new(self) -> tuple[bytes, bytes]:
        costs = {"salt": secrets.token_hex(16), "memory": _MEMORY, "passes": _PASSES, "lanes": _LANES}
        hint = json.dumps(costs, separators=(",", ":")).encode()
        return hint, next(self.keys(hint))

    def keys(self, hint: bytes) -> Iterator[bytes]:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        try:
            costs = json.loads(hint)
            salt = bytes.fromhex(costs["salt"])
            memory, passes, lanes = (int(costs[name]) for name in ("memory", "passes", "lanes"))
            for name, value in (("memory", memory), ("passes", passes), ("lanes", lanes)):
                if not 0 < value <= _LARGEST[name]:
                    raise ValueError(name)
            made = Argon2id(salt=salt, length=KEY, iterations=passes, lanes=lanes, memory_cost=memory)
        except (ValueError, KeyError, TypeError):
            raise Damage("the salt of its passphrase is missing") from None
        yield made.derive(self._text)


class Keyring(KeySource):
    """The keyring of the desktop, by the optional package `keyring`, which raises on a machine without a desktop.

    Args:
        service: name of the entry.
        user: name in the entry; give each store its own.
    """

    kind = "keyring"

    def __init__(self, service: str = "fedrec", user: str = "store") -> None:
        self.service, self.user = service, user

    def new(self) -> tuple[bytes, bytes]:
        found = self._ask("get_password", self.service, self.user)
        if found is None:
            self._ask("set_password", self.service, self.user, secrets.token_hex(KEY))
        return b"", next(self.keys(b""))

    def keys(self, hint: bytes) -> Iterator[bytes]:
        found = self._ask("get_password", self.service, self.user)
        if found is None:
            raise InputError(f"the keyring has no entry '{self.service}' of '{self.user}'; give the store's key")
        yield _key(found.encode(), f"keyring entry '{self.service}'")

    def _ask(self, call: str, *values: str) -> Any:
        try:
            return getattr(import_module("keyring"), call)(*values)
        except ImportError:
            raise InputError("the package keyring is missing; `pip install keyring`, or use a key file") from None
        except Exception as error:  # its backends raise what they like
            raise InputError(f"the keyring does not answer ({type(error).__name__}); use a key file") from None


def first_source(beside: Path) -> KeySource:
    """Choose the source of a new store: credential, else key file, else keyring, else a new key file.

    Args:
        beside: the store's path; its key file has the ending `.key`.
    """
    credential = Credential()
    if credential.path is not None and os.path.lexists(credential.path):
        return credential
    file = KeyFile(beside.with_suffix(".key"))
    if os.path.lexists(file.path):
        return file
    keyring = Keyring(user=str(beside.absolute()))
    try:
        keyring.new()
    except InputError:
        return file
    return keyring


def source_of(kind: str, beside: Path) -> KeySource:
    """Return the usual source of a store whose key is of this kind. Raises: InputError where it has to be given."""
    usual = {
        Credential.kind: Credential(),
        KeyFile.kind: KeyFile(beside.with_suffix(".key")),
        Keyring.kind: Keyring(user=str(beside.absolute())),
    }
    if kind not in usual:
        raise InputError(f"{beside}: opens with a {kind}; give it")
    return usual[kind]


def _key(content: bytes, place: object) -> bytes:
    if len(content) == KEY:
        return content
    try:
        found = bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        found = b""
    if len(found) != KEY:
        raise InputError(f"{place}: holds no key; a key is 32 random bytes, or 64 hexadecimal digits")
    return found
