"""Creation and renewal of a server's keys: complete or not at all, without overwriting a key that is still needed.

A new authority replaces an old one in two steps, so that every node always trusts the server. First,
`renew(authority=True)` adds a new authority to `ca.crt`, and the server's certificate stays. When every node has the
new `ca.crt`, `renew` signs the server's certificate with the new authority and removes the old one.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from fedrec import private_files
from fedrec.durable import replace, sync
from fedrec.errors import InputError
from fedrec.transport.node_key import NodePublicKey, new_node_key, read_public, write_public
from fedrec_server.pki import certificates, node_limits
from fedrec_server.pki.certificates import Issued
from fedrec_server.pki.keyring import Keyring

DAYS = 365
"""Days that a server's certificate is valid."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def make(path: Path, hosts: Sequence[str], nodes: Sequence[str], now: datetime, days: int = DAYS) -> Keyring:
    """Make an authority, a server's certificate and keys of nodes in a new folder.

    Args:
        path: the new folder.
        hosts: names and addresses of the server.
        nodes: names of the nodes.
        now: time of the begin of the certificates, with a zone.
        days: validity of the server's certificate.
    Raises: InputError when the folder is not empty, or a host or name cannot be used.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already; keys are never overwritten, choose another folder, or renew them")
    names, everywhere = list(map(_checked, dict.fromkeys(nodes))), certificates.all_hosts(hosts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # mode 0700
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be made ({error.strerror}); choose another one") from None
    try:
        keyring = Keyring(unfinished)
        keyring.nodes_folder.mkdir(mode=0o700)
        authority = certificates.new_authority(now)
        private_files.create(keyring.ca_key, authority.key_pem())
        _put(keyring.ca_certificate, certificates.pem(authority.certificate))
        server = certificates.new_server(authority, everywhere, now, days)
        private_files.create(keyring.server_key, server.key_pem())
        _put(keyring.server_certificate, certificates.pem(server.certificate))
        for name in names:
            add_node(keyring, name)
        sync(keyring.nodes_folder)
        sync(unfinished)
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    sync(path.parent)
    return Keyring(path)


def add_node(keyring: Keyring, name: str, public: Path | None = None) -> NodePublicKey:
    """Admit the node `name`, with the public key in the file `public` or with a key pair made here.

    Raises: InputError for a name that is taken or cannot be used, a file that holds no such key, or one that is known.
    """
    _checked(name)
    if not keyring.nodes_folder.is_dir():
        raise InputError(f"{keyring.path}: holds no keys; make them with `fedrec keys init {keyring.path}`")
    private, listed = keyring.nodes_folder / f"{name}.key", keyring.nodes_folder / f"{name}.pub"
    if private.exists() or listed.exists():
        raise InputError(f"{listed}: there is a node of that name; choose another, or `--remove` it first")
    if public is None:
        return new_node_key(private, listed)
    key = read_public(public)
    for other, known in keyring.public_keys().items():
        if known == key:
            raise InputError(f"{public}: is the key of node '{other}' already; each node needs its own")
    write_public(listed, key)
    return key


def remove_node(keyring: Keyring, name: str) -> None:
    """Remove the node `name`: its public key, its private key if that is here, and its limits.

    Raises: InputError for an unknown name.
    """
    if name not in keyring.nodes:
        known = ", ".join(keyring.nodes) or "none"
        raise InputError(f"{keyring.path}: no node '{name}'; known: {known}")
    private, public = keyring.nodes[name]
    public.unlink()
    if private is not None:
        private.unlink()
    node_limits.forget(keyring)


def renew(
    keyring: Keyring, hosts: Iterable[str], now: datetime, days: int = DAYS, authority: bool = False
) -> list[Path]:
    """Make a new key and certificate for the server, or a new authority.

    Args:
        keyring: the folder of keys.
        hosts: hosts of the certificate, added to those of the old one.
        now: time of the begin of the certificate, with a zone.
        days: validity of the certificate.
        authority: make a new authority instead.
    Returns: the files that changed.
    Raises: InputError where `ca.key` is missing or belongs to no certificate in `ca.crt`.
    """
    trusted = keyring.authorities()
    if authority:
        fresh = certificates.new_authority(now)
        still = [old for old in trusted if old.not_valid_after_utc > now]
        # In this order a crash leaves a key with its certificate.
        _put(keyring.ca_certificate, certificates.pem(fresh.certificate, *still))
        private_files.exchange(keyring.ca_key, fresh.key_pem())
        sync(keyring.path)
        return [keyring.ca_certificate, keyring.ca_key]
    signs = _authority(keyring)
    before = certificates.hosts_of(keyring.server()) if keyring.server_certificate.exists() else []
    server = certificates.new_server(signs, certificates.all_hosts([*before, *hosts]), now, days)
    private_files.exchange(keyring.server_key, server.key_pem())
    _put(keyring.server_certificate, certificates.pem(server.certificate))
    changed = [keyring.server_key, keyring.server_certificate]
    if len(trusted) > 1:
        _put(keyring.ca_certificate, certificates.pem(signs.certificate))
        changed.append(keyring.ca_certificate)
    sync(keyring.path)
    return changed


def _authority(keyring: Keyring) -> Issued:
    key = keyring.private_key(keyring.ca_key)
    for certificate in keyring.authorities():
        if certificate.public_key() == key.public_key():
            return Issued(certificate, key)
    raise InputError(
        f"{keyring.ca_key}: belongs to no certificate in {keyring.ca_certificate}; bring back the right one"
    )


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"node '{name}': use letters, digits, '.', '_' and '-', a letter or digit first, at most 64")
    return name


def _put(path: Path, content: bytes) -> None:
    replace(path, content)
    path.chmod(0o644)
