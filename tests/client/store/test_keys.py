"""Sources of the master key, what each refuses, and the rotation of both keys."""

import json
import os
import sys
import types
from pathlib import Path

import pytest
from fedrec_client.store import Credential, Event, KeyFile, Keyring, Passphrase, Store
from fedrec_client.store.key_sources import first_source

from fedrec.errors import FedrecError, InputError, VerificationError
from tests.client.store.stores import contents, filled, items, opened


def refused(path: Path, key, text: str, kind: type[FedrecError] = InputError) -> None:
    with pytest.raises(kind) as error:
        Store.open(path, key)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_key_file_is_refused_where_others_can_read_it(tmp_path: Path) -> None:
    filled(tmp_path, 1).close()
    key = tmp_path / "me.key"
    for mode in (0o644, 0o640, 0o604, 0o660):
        key.chmod(mode)
        refused(tmp_path / "me.store", KeyFile(key), f"others can read this key (mode {mode:04o})")
    key.chmod(0o600)
    (tmp_path / "link").symlink_to(key)
    refused(tmp_path / "me.store", KeyFile(tmp_path / "link"), "is a link")
    os.mkfifo(tmp_path / "pipe", 0o600)
    refused(tmp_path / "me.store", KeyFile(tmp_path / "pipe"), "no regular file")
    assert items(opened(tmp_path)) == ["item-0"]


@pytest.mark.parametrize("content", [b"", b"short", b"z" * 64, b"ab" * 31, b"ab" * 33, b"\xff" * 31])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "me.key").write_bytes(content)
    (tmp_path / "me.key").chmod(0o600)
    refused(tmp_path / "me.store", KeyFile(tmp_path / "me.key"), "holds no key")
    assert not (tmp_path / "me.store").exists()


def test_raw_bytes_and_digits_are_the_same_key(tmp_path: Path) -> None:
    filled(tmp_path, 1).close()
    raw = tmp_path / "raw"
    raw.write_bytes(bytes.fromhex((tmp_path / "me.key").read_text()))
    raw.chmod(0o600)
    with Store.open(tmp_path / "me.store", KeyFile(raw)) as store:
        assert items(store) == ["item-0"]


def test_a_wrong_or_lost_key_is_one_line_and_makes_no_new_one(tmp_path: Path) -> None:
    filled(tmp_path, 1).close()
    opened(tmp_path, "other").close()
    path = tmp_path / "me.store"
    refused(path, KeyFile(tmp_path / "other.key"), "does not open with this key file")
    refused(path, KeyFile(tmp_path / "lost.key"), "cannot be read")
    refused(path, Passphrase("a long passphrase"), "opens with a key file, and a passphrase was given")
    assert not (tmp_path / "lost.key").exists()
    (tmp_path / "me.key").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        Store.open(path)


def test_a_passphrase_opens_by_argon2(tmp_path: Path) -> None:
    path = tmp_path / "me.store"
    with Store.open(path, Passphrase("caf\u00e9 at noon")) as store:
        store.append(Event("x"))
        hint = json.loads(store._vault._record.hint)
    assert (hint["memory"], hint["passes"], len(hint["salt"])) == (19456, 2, 32)
    with Store.open(path, Passphrase("cafe\u0301 at noon")) as store:
        assert items(store) == ["x"]
    refused(path, Passphrase("cafe at noon"), "does not open with this passphrase")
    refused(path, KeyFile(tmp_path / "key"), "opens with a passphrase, and a key file was given")
    refused(path, None, "opens with a passphrase; give it")
    with pytest.raises(InputError, match="at least 12"):
        Passphrase("short")
    assert "noon" not in repr(Passphrase("caf\u00e9 at noon"))


@pytest.mark.parametrize("hint", [b"{}", b"[]", b"", b"\xff", b'{"salt":"00","memory":99999999,"passes":1,"lanes":1}'])
def test_a_changed_salt_is_one_line(tmp_path: Path, hint: bytes) -> None:
    with pytest.raises(VerificationError, match="salt"):
        list(Passphrase("a long passphrase").keys(hint))


def test_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "me.store"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    refused(path, Credential(), "$CREDENTIALS_DIRECTORY is not set")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    refused(path, Credential(), "cannot be read")
    (tmp_path / "fedrec-store-key").write_text("ab" * 32)
    (tmp_path / "fedrec-store-key").chmod(0o440)  # what an access list looks like
    assert isinstance(first_source(path), Credential)
    with Store.open(path) as store:
        store.append(Event("x"))
    with Store.open(path) as store:
        assert items(store) == ["x"]
        with pytest.raises(InputError, match="cannot be replaced in its place"):
            store.rotate_master_key()
    with pytest.raises(InputError, match="without a folder"):
        Credential("../key")


def test_the_keyring_comes_last_and_may_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: dict[tuple[str, str], str] = {}
    fake = types.ModuleType("keyring")
    fake.get_password = lambda *name: entries.get(name)  # type: ignore[attr-defined]
    fake.set_password = lambda service, user, value: entries.update({(service, user): value})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", fake)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with Store.open(tmp_path / "me.store") as store:
        store.append(Event("x"))
    with Store.open(tmp_path / "me.store") as store:
        assert items(store) == ["x"]
    assert not (tmp_path / "me.key").exists()
    assert len(entries) == 1
    entries.clear()
    refused(tmp_path / "me.store", None, "no entry")

    def headless(*name: str) -> None:
        raise RuntimeError("No recommended backend was available")

    fake.get_password = headless  # type: ignore[attr-defined]
    refused(tmp_path / "me.store", Keyring(), "the keyring does not answer (RuntimeError)")
    assert isinstance(first_source(tmp_path / "new.store"), KeyFile)
    monkeypatch.setitem(sys.modules, "keyring", None)
    refused(tmp_path / "me.store", Keyring(), "pip install keyring")


def test_rotation_of_both_keys_ends_the_old_ones(tmp_path: Path) -> None:
    with filled(tmp_path, 30) as store, opened(tmp_path) as other:
        store.set_state("age", b"30")
        for rotate in (store.rotate_data_key, store.rotate_master_key):
            before, key = store._vault._record, (tmp_path / "me.key").read_bytes()
            rotate()
            after = store._vault._record
            assert before.wrapped != after.wrapped
            assert before.wrapped[:12] not in contents(tmp_path)
            assert (key == (tmp_path / "me.key").read_bytes()) == (rotate == store.rotate_data_key)
            assert items(store) == items(other) == [f"item-{n}" for n in range(30)]
            assert other.append(Event("x")).number == store.undo().number
            assert store.states() == other.states() == {"age": b"30"}
        assert not (tmp_path / "me.key.new").exists()
    with opened(tmp_path) as store:
        assert len(items(store)) == 30


def test_a_store_moves_to_another_source(tmp_path: Path) -> None:
    with filled(tmp_path, 3) as store, opened(tmp_path) as other:
        store.rotate_master_key(Passphrase("a long passphrase"))
        store.append(Event("x"))
        store.rotate_data_key()
        with pytest.raises(InputError, match="opens with a passphrase"):
            other.events()
    refused(tmp_path / "me.store", KeyFile(tmp_path / "me.key"), "opens with a passphrase")
    with Store.open(tmp_path / "me.store", Passphrase("a long passphrase")) as store:
        assert len(items(store)) == 4
