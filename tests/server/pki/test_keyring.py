"""Keys of a deployment: their owner's alone, whole or not at all, renewed without a gap, refused in one line."""

import contextlib
import os
import shlex
import shutil
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from fedrec_server.pki import certificates, key_making
from fedrec_server.pki.keyring import Keyring

from fedrec.cli import run
from fedrec.errors import InputError
from fedrec.transport.node_key import new_node_key, public_part, read_public
from tests.docs.fences import blocks

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "deep" / "keys"
    before = os.umask(0)
    try:
        key_making.make(path, ["Fed.Example.org", "10.1.2.3", "[2001:db8::0001]"], ["hub", "phone.1"], NOW)
    finally:
        os.umask(before)
    return path


@pytest.fixture
def keyring(made: Path, tmp_path: Path) -> Keyring:
    shutil.copytree(made, tmp_path / "keys")
    return Keyring(tmp_path / "keys")


def modes(path: Path) -> dict[str, int]:
    return {str(file.relative_to(path)): stat.S_IMODE(file.stat().st_mode) for file in [path, *path.rglob("*")]}


MODES = {
    ".": 0o700,
    "ca.key": 0o600,
    "ca.crt": 0o644,
    "server.key": 0o600,
    "server.crt": 0o644,
    "nodes": 0o700,
    "nodes/hub.key": 0o600,
    "nodes/hub.pub": 0o644,
    "nodes/phone.1.key": 0o600,
    "nodes/phone.1.pub": 0o644,
}


def test_every_file_has_its_mode_whatever_the_umask(made: Path, tmp_path: Path) -> None:
    assert modes(made) == MODES
    before = os.umask(0o077)
    try:
        made_so = key_making.make(tmp_path / "keys", [], ["hub"], NOW)
    finally:
        os.umask(before)
    assert {name: mode for name, mode in MODES.items() if "phone" not in name} == modes(made_so.path)


def test_no_private_file_is_ever_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the whole folder each time that a file is made, under the laxest umask."""
    seen: list[str] = []
    real = os.open

    def looking(path, flags, *rest, **more):
        handle = real(path, flags, *rest, **more)
        if flags & os.O_CREAT:
            for file in (file for file in tmp_path.rglob("*") if ".key" in file.name):
                seen.append(file.name)
                assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
        return handle

    before = os.umask(0)
    monkeypatch.setattr(os, "open", looking)
    try:
        keyring = key_making.make(tmp_path / "keys", [], ["hub"], NOW)
        key_making.renew(keyring, [], NOW, authority=True)
        key_making.renew(keyring, [], NOW)
    finally:
        os.umask(before)
    assert {"ca.key", "server.key", "hub.key", ".ca.key.new", ".server.key.new"} <= set(seen)


def test_certificates_say_what_they_are_for(made: Path) -> None:
    keyring = Keyring(made)
    server, authority = keyring.server(), keyring.issuer()
    hosts = ["localhost", "127.0.0.1", "::1", "fed.example.org", "10.1.2.3", "2001:db8::1"]
    assert certificates.hosts_of(server) == hosts
    assert isinstance(server.public_key(), ec.EllipticCurvePublicKey)
    assert server.public_key().curve.name == authority.public_key().curve.name == "secp384r1"
    of = server.extensions.get_extension_for_class
    assert list(of(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not of(x509.BasicConstraints).value.ca
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert of(x509.AuthorityKeyIdentifier).value.key_identifier == identifier
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert limits.value == x509.BasicConstraints(ca=True, path_length=0)
    verifier = PolicyBuilder().store(Store([authority])).time(NOW + DAY).build_server_verifier
    assert verifier(x509.DNSName("fed.example.org")).verify(server, []) == [server, authority]
    with pytest.raises(x509.verification.VerificationError):
        verifier(x509.DNSName("evil.example.org")).verify(server, [])


def test_openssl_takes_what_it_checks_strictly(keyring: Keyring) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keyring.server_certificate, keyring.server_key)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(keyring.ca_certificate)


def test_nothing_is_overwritten(keyring: Keyring, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in keyring.path.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match="never overwritten"):
        key_making.make(keyring.path, [], [], NOW)
    for name in ("hub", "phone.1"):
        with pytest.raises(InputError, match="there is a node of that name"):
            key_making.add_node(keyring, name)
    with pytest.raises(InputError, match="never overwritten"):
        new_node_key(keyring.nodes_folder / "fresh.key", keyring.nodes_folder / "hub.pub")
    assert {file: file.read_bytes() for file in keyring.path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("hosts", "nodes"),
    [(["https://x"], []), (["a:1"], []), (["1.2.3.999"], []), ([], ["../x"]), ([], [""]), ([], ["a b"])],
)
def test_a_wrong_name_leaves_nothing_behind(tmp_path: Path, hosts: list[str], nodes: list[str]) -> None:
    with pytest.raises(InputError, match=r"--host|node '"):
        key_making.make(tmp_path / "keys", hosts, nodes, NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_keys_are_made_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(key_making, "add_node", breaks)
    with pytest.raises(OSError, match="disk full"):
        key_making.make(tmp_path / "keys", [], ["hub"], NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_node_brings_the_key_that_it_made(keyring: Keyring, tmp_path: Path) -> None:
    own = new_node_key(tmp_path / "node.key")
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600
    assert public_part(tmp_path / "node.key") == own == read_public(tmp_path / "node.key.pub")
    assert key_making.add_node(keyring, "tablet", tmp_path / "node.key.pub") == own
    assert keyring.nodes["tablet"] == (None, keyring.nodes_folder / "tablet.pub")
    assert keyring.public_keys()["tablet"] == own
    assert own.fingerprint.startswith("SHA256:")
    keyring.check(now=NOW)
    with pytest.raises(InputError, match="is the key of node 'tablet' already"):
        key_making.add_node(keyring, "again", tmp_path / "node.key.pub")
    with pytest.raises(InputError, match="stays on its node"):
        key_making.add_node(keyring, "again", tmp_path / "node.key")
    with pytest.raises(InputError, match="not a node's public key"):
        key_making.add_node(keyring, "again", keyring.ca_certificate)
    shutil.copy(tmp_path / "node.key.pub", keyring.nodes_folder / "zebra.pub")
    with pytest.raises(InputError, match=r"the same key as tablet\.pub"):
        keyring.check(now=NOW)


def test_a_node_is_forgotten(keyring: Keyring) -> None:
    key_making.remove_node(keyring, "phone.1")
    assert list(keyring.nodes) == ["hub"]
    assert not list(keyring.nodes_folder.glob("phone*"))
    with pytest.raises(InputError, match=r"no node 'phone\.1'; known: hub"):
        key_making.remove_node(keyring, "phone.1")


def test_a_renewal_keeps_hosts_and_authority(keyring: Keyring) -> None:
    authority, before, old_key = keyring.ca_certificate.read_bytes(), keyring.server(), keyring.server_key.read_bytes()
    assert key_making.renew(keyring, ["new.example.org"], NOW + 300 * DAY, days=90)
    after = keyring.server()
    assert certificates.hosts_of(after) == [*certificates.hosts_of(before), "new.example.org"]
    assert after.not_valid_after_utc == NOW + 390 * DAY
    assert after.public_key() != before.public_key()
    assert keyring.server_key.read_bytes() != old_key
    assert keyring.ca_certificate.read_bytes() == authority
    assert modes(keyring.path) == MODES
    assert keyring.check("new.example.org", NOW + 301 * DAY) == []


def test_a_certificate_never_outlives_its_authority(keyring: Keyring) -> None:
    late = NOW + timedelta(days=certificates.AUTHORITY_DAYS - 10)
    key_making.renew(keyring, [], late)
    assert keyring.server().not_valid_after_utc == keyring.issuer().not_valid_after_utc
    with pytest.raises(InputError, match="--authority"):
        key_making.renew(keyring, [], late + 11 * DAY)


def test_one_authority_follows_another(keyring: Keyring) -> None:
    old, server = keyring.issuer(), keyring.server()
    key_making.renew(keyring, [], NOW + DAY, authority=True)
    new = keyring.authorities()[0]
    assert keyring.authorities() == [new, old]
    assert new.subject != old.subject
    assert keyring.server() == server
    assert keyring.issuer() == old
    keyring.check(now=NOW + DAY)
    key_making.renew(keyring, [], NOW + 2 * DAY)
    assert keyring.authorities() == [new]
    assert keyring.issuer() == new
    keyring.check(now=NOW + 2 * DAY)
    assert modes(keyring.path) == MODES


@pytest.mark.parametrize("writes", range(3))
def test_a_crash_while_an_authority_is_followed_is_mended(
    keyring: Keyring, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of either step is replaced as a whole; after a crash between two, the next renewal repairs it."""
    count = 0
    real = os.replace

    def breaks(*arguments, **more):
        nonlocal count
        count += 1
        if count > writes:
            raise KeyboardInterrupt
        real(*arguments, **more)

    for authority in (True, False):
        count = 0
        monkeypatch.setattr(os, "replace", breaks)
        with contextlib.suppress(KeyboardInterrupt):
            key_making.renew(keyring, [], NOW, authority=authority)
        monkeypatch.setattr(os, "replace", real)
    key_making.renew(keyring, [], NOW)
    keyring.check(now=NOW)
    assert len(keyring.authorities()) == 1


def test_a_server_starts_without_the_key_of_the_authority(keyring: Keyring) -> None:
    keyring.ca_key.unlink()
    assert keyring.check("fed.example.org", NOW) == []
    assert keyring.check("0.0.0.0", NOW) == keyring.check("::", NOW) == keyring.check("[2001:DB8::1]", NOW) == []
    with pytest.raises(InputError, match=r"ca\.key: missing"):
        key_making.renew(keyring, [], NOW)


@pytest.mark.parametrize("name", ["ca.crt", "server.crt", "server.key"])
def test_a_missing_file_is_named(keyring: Keyring, name: str) -> None:
    (keyring.path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: missing"):
        keyring.check(now=NOW)


@pytest.mark.parametrize("name", ["ca.key", "server.key", "nodes/hub.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_private_file_open_to_others_is_refused(keyring: Keyring, name: str, mode: int) -> None:
    (keyring.path / name).chmod(mode)
    with pytest.raises(InputError, match=rf"{name}: others can read this key \(mode {mode:04o}\).*chmod 600"):
        keyring.check(now=NOW)


def test_a_folder_open_to_others_is_refused(keyring: Keyring, tmp_path: Path) -> None:
    keyring.path.chmod(0o750)
    with pytest.raises(InputError, match=r"open to others \(mode 0750\).*chmod 700"):
        keyring.check(now=NOW)
    with pytest.raises(InputError, match="fedrec keys init"):
        Keyring(tmp_path / "none").check(now=NOW)


def test_what_does_not_belong_together_is_refused(keyring: Keyring, tmp_path: Path) -> None:
    other = key_making.make(tmp_path / "other", [], [], NOW)
    mine = keyring.server_key.read_bytes()
    keyring.server_key.write_bytes(other.server_key.read_bytes())
    with pytest.raises(InputError, match=r"server.key: does not belong to .*server.crt"):
        keyring.check(now=NOW)
    keyring.server_key.write_bytes(mine)
    keyring.ca_certificate.write_bytes(other.ca_certificate.read_bytes())
    with pytest.raises(InputError, match=r"server.crt: not signed by .*ca.crt"):
        keyring.check(now=NOW)
    with pytest.raises(InputError, match=r"ca.key: belongs to no certificate"):
        key_making.renew(keyring, [], NOW)
    keyring.server_certificate.write_bytes(b"no certificate")
    with pytest.raises(InputError, match=r"server.crt: no certificate in PEM"):
        keyring.check(now=NOW)
    keyring.server_key.write_bytes(b"no key")


def test_dates_and_hosts_are_refused_in_one_line(keyring: Keyring) -> None:
    assert keyring.check(now=NOW + 330 * DAY) == []
    assert keyring.check(now=NOW - certificates.CLOCKS_DIFFER) == []
    (soon,) = keyring.check(now=NOW + 336 * DAY)
    assert "expires in 29 days, on 2027-01-31" in soon
    with pytest.raises(InputError, match=r"server.crt: expired on 2027-01-31.*fedrec keys renew"):
        keyring.check(now=NOW + 365 * DAY)
    with pytest.raises(InputError, match=r"ca.crt: expired on 2036-01-29.*--authority"):
        keyring.check(now=NOW + 3650 * DAY)
    with pytest.raises(InputError, match="valid only from 2026-01-31"):
        keyring.check(now=NOW - DAY)
    with pytest.raises(InputError, match=r"good for localhost, .*, not for evil.org; .*--host evil.org"):
        keyring.check("evil.org", NOW)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, key = str(tmp_path / "keys"), tmp_path / "own"
    new_node_key(key)
    assert run(["keys", "init", folder, "--host", "fed.example.org", "--node", "hub"]) == 0
    assert run(["keys", "node", folder, "tablet", "--public", f"{key}.pub"]) == 0
    assert run(["keys", "node", folder, "phone"]) == 0
    assert "Move" in capsys.readouterr().out
    assert run(["keys", "show", folder]) == 0
    shown = capsys.readouterr().out
    assert public_part(key).fingerprint in shown
    assert "fed.example.org" in shown
    assert "PRIVATE" not in shown
    assert run(["keys", "renew", folder, "--authority"]) == 0
    assert "Hand" in capsys.readouterr().out
    assert run(["keys", "renew", folder, "--host", "10.9.8.7", "--days", "20"]) == 0
    assert run(["keys", "node", folder, "phone", "--remove"]) == 0
    capsys.readouterr()
    assert run(["keys", "show", folder]) == 0
    shown = capsys.readouterr().out
    assert "warning: " in shown
    assert "phone" not in shown
    assert run(["keys", "init", folder]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_commands_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of docs/deploy.md about keys, in its order; the node's and the server's files side by side."""
    guide = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = guide.split("## Keys and certificates")[1].split("\n## ")[0]
    lines = [line for block in blocks(section, "bash") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("fedrec ")]
    assert {tuple(command[:2]) for command in commands} == {
        *(("keys", word) for word in ("init", "node", "renew", "show")),
        ("client", "key"),
    }
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert run(command) == 0, command
    keyring = Keyring(Path("keys"))
    assert keyring.check("fed.example.org") == keyring.check("fed2.example.org") == []
    assert keyring.public_keys() == {"clinic-a": public_part(Path("new.key"))}
