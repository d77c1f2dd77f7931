"""Keys that only their owner can read, on one line for everybody else; and the notes that they sign."""

import os
import stat
from pathlib import Path

import pytest

from fedrec.audit.log import checkpoint, keys
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import SigningKey, load_key, new_key, public_key
from fedrec.errors import InputError

ROOT = bytes(range(32))


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = new_key(tmp_path / "keys" / "key.pem")
    finally:
        os.umask(before)
    path = tmp_path / "keys" / "key.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(path).public == made.public
    with pytest.raises(InputError, match="never overwritten"):
        new_key(path)
    for mode in (0o640, 0o604, 0o660, 0o644):
        path.chmod(mode)
        with pytest.raises(InputError, match=f"mode {mode:04o}.*chmod 600"):
            load_key(path)


def test_half_a_key_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left"):
            new_key(tmp_path / "key.pem")
    made = new_key(tmp_path / "key.pem")
    assert load_key(tmp_path / "key.pem").public == made.public


def test_a_passphrase_is_needed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.pem"
    made = new_key(path, "correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    assert load_key(path, "correct horse").public == made.public
    with pytest.raises(InputError, match="the passphrase does not open it"):
        load_key(path, "wrong")
    with pytest.raises(InputError, match=keys.PASSPHRASE_VARIABLE):
        load_key(path)
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "correct horse")
    assert load_key(path).public == made.public


def test_the_default_key_is_made_once_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(keys.KEY_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = keys.default_key()
    told = capsys.readouterr()
    assert str(tmp_path / "fedrec" / "ledger-key.pem") in told.err
    assert made.public.text in told.err
    assert told.out == ""
    assert keys.default_key().public == made.public
    assert capsys.readouterr().err == ""


def test_public_keys_in_every_form(tmp_path: Path) -> None:
    made = SigningKey.generate()
    pem, text = tmp_path / "key.pub", tmp_path / "key.txt"
    pem.write_bytes(made.public.pem())
    text.write_text(made.public.text + "\n")
    for form in (made.public.text, str(pem), str(text)):
        assert public_key(form) == made.public


@pytest.mark.parametrize(
    ("content", "message"),
    [("ed25519:AAAA", "no public key"), ("nonsense", "no public key in PEM"), ("", "no public key in PEM")],
)
def test_what_is_no_public_key_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(InputError, match=message):
        public_key(str(tmp_path / "key"))
    with pytest.raises(InputError, match="cannot be read"):
        public_key(str(tmp_path / "none"))


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    with pytest.raises(InputError, match="is a private key"):
        public_key(str(tmp_path / "key.pem"))
    (tmp_path / "other.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    (tmp_path / "other.pem").chmod(0o600)
    with pytest.raises(InputError, match="no private key in PEM"):
        load_key(tmp_path / "other.pem")


def test_a_signature_is_of_one_key_on_one_message() -> None:
    one, other = SigningKey.generate(), SigningKey.generate()
    signature = one.sign(b"message")
    assert one.public.verifies(signature, b"message")
    assert not one.public.verifies(signature, b"massage")
    assert not other.public.verifies(signature, b"message")
    assert not one.public.verifies(b"", b"message")


# Checkpoints, as C2SP writes them down


def test_a_checkpoint_is_read_as_it_was_written() -> None:
    key, witness = SigningKey.generate(), SigningKey.generate()
    note = Checkpoint("aa", 7, ROOT).signed(key).cosigned("witness/1", witness, 1_700_000_000)
    again = checkpoint.parsed(note.note)
    assert again == note
    assert again.note.startswith(
        "fedrec/run/aa\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n\u2014 fedrec/run/aa "
    )
    assert again.signed_by(key.public)
    assert not again.signed_by(witness.public)
    assert again.cosigned_at(witness.public) == 1_700_000_000
    assert again.cosigned_at(key.public) is None
    assert again.witnesses == {"witness/1": 1_700_000_000}


def test_the_published_example_has_the_key_hashes_that_the_specification_defines() -> None:
    """Key hash: SHA-256(name, newline, type, key), 4 bytes; so a signature under another name is none."""
    key = SigningKey.generate()
    note = Checkpoint("aa", 7, ROOT).signed(key)
    other = Checkpoint("bb", 7, ROOT, ((Checkpoint("bb", 7, ROOT).origin, note.lines[0][1]),))
    assert not other.signed_by(key.public)
    example = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo"
        "+zyWE+xeMcTOAYQ8=\n"
    )
    with pytest.raises(ValueError, match="no checkpoint of a ledger"):
        checkpoint.parsed(example)


@pytest.mark.parametrize(
    "change", [("7", "07"), ("7", "-7"), ("7", "+7"), ("\n\n", "\n"), ("\u2014", "-"), ("8=", "9=")]
)
def test_other_spellings_are_refused(change: tuple[str, str]) -> None:
    note = Checkpoint("aa", 7, ROOT).signed(SigningKey.generate()).note
    text, _, lines = note.partition("\u2014")
    changed = (text + "\u2014" + lines).replace(*change, 1)
    assert changed != note
    with pytest.raises(ValueError, match="no checkpoint of a ledger"):
        checkpoint.parsed(changed)
