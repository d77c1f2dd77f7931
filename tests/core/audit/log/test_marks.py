"""A key does not sign two histories of one run: roll-backs and forks of a run's folder are refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fedrec.audit.evidence.received_run import LEDGER, PUBLIC_KEY
from fedrec.audit.log.keys import KEY_VARIABLE, MARKS_VARIABLE, SigningKey, load_key, new_key
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.log.marks import Mark
from fedrec.cli import run as fedrec
from fedrec.errors import InputError, VerificationError
from tests.core.audit import ledgers

PLAN = ledgers.plan_of(epsilon=2.0)
PAYLOADS = ledgers.payloads_of(PLAN)


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return new_key(tmp_path / "key.pem")


def written(folder: Path, key: SigningKey, count: int = 3) -> Ledger:
    ledger = Ledger(folder / LEDGER, key)
    for number in range(count):
        ledger.append({"type": "note", "number": number})
    return ledger


def test_a_folder_that_was_put_back_is_not_continued(tmp_path: Path, key: SigningKey) -> None:
    written(tmp_path / "run", key)
    shutil.copytree(tmp_path / "run", tmp_path / "backup")
    Ledger(tmp_path / "run" / LEDGER, key).append({"type": "note", "number": 3})
    shutil.rmtree(tmp_path / "run")
    shutil.copytree(tmp_path / "backup", tmp_path / "run")
    before = (tmp_path / "run" / LEDGER).read_bytes()
    with pytest.raises(VerificationError, match=r"signed 4 records .* 3 here"):
        Ledger(tmp_path / "run" / LEDGER, load_key(tmp_path / "key.pem"))
    assert (tmp_path / "run" / LEDGER).read_bytes() == before


def test_of_two_copies_one_is_continued(tmp_path: Path, key: SigningKey) -> None:
    first = written(tmp_path / "a", key)
    first.seal()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = Ledger(tmp_path / "b" / LEDGER, load_key(tmp_path / "key.pem"))
    first.append({"type": "note", "number": 3})
    before = (tmp_path / "b" / LEDGER).read_bytes()
    for _ in range(2):
        with pytest.raises(VerificationError, match="second copy of the run"):
            second.append({"type": "note", "number": "other"})
    assert (tmp_path / "b" / LEDGER).read_bytes() == before
    first.append({"type": "note", "number": 4})


@pytest.mark.parametrize("point", ["ledger", "mark"])
def test_a_crash_around_the_mark_loses_nothing(
    tmp_path: Path, key: SigningKey, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = written(tmp_path / "run", key)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Mark, "write", crash) if point == "mark" else patch.setattr(Ledger, "_written", crash)
        with pytest.raises(KeyboardInterrupt):
            ledger.append({"type": "note", "number": 3})
    again = Ledger(tmp_path / "run" / LEDGER, key)
    assert len(again.entries) == (4 if point == "mark" else 3)
    again.append({"type": "note", "number": 5})
    mark = Mark(tmp_path / "key.pem.signed", again.run).read()
    assert mark is not None
    assert (mark.size, mark.root.hex()) == (len(again.entries), again.head)


def test_the_mark_is_there_before_append_returns(tmp_path: Path, key: SigningKey) -> None:
    ledger = Ledger(tmp_path / "run" / LEDGER, key)
    for number in range(12):
        ledger.append({"type": "note", "number": number})
        mark = Mark(tmp_path / "key.pem.signed", ledger.run).read()
        assert mark is not None
        assert (mark.size, mark.root.hex()) == (number + 1, ledger.head)
        assert mark.signed_by(key.public)


def test_a_key_that_handed_over_signs_no_older_state(tmp_path: Path, key: SigningKey) -> None:
    ledger = written(tmp_path / "run", key)
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    ledger.rotate(new_key(tmp_path / "new.pem"))
    ledger.append({"type": "note"})
    with pytest.raises(VerificationError, match="older state"):
        Ledger(tmp_path / "before" / LEDGER, key)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    Ledger(tmp_path / "run" / LEDGER, load_key(tmp_path / "new.pem")).append({"type": "note"})
    with pytest.raises(VerificationError, match="older state"):
        Ledger(tmp_path / "copy" / LEDGER, load_key(tmp_path / "new.pem"))


def test_a_deleted_mark_is_forgotten_and_a_damaged_one_is_refused(tmp_path: Path, key: SigningKey) -> None:
    ledger = written(tmp_path / "run", key)
    place = tmp_path / "key.pem.signed" / f"{ledger.run}.note"
    assert place.stat().st_mode & 0o777 == 0o600
    content = place.read_bytes()
    for damaged in (content[:-20], b"x" * len(content), content.replace(b"\n3\n", b"\n4\n")):
        place.write_bytes(damaged)
        with pytest.raises(VerificationError):
            Ledger(tmp_path / "run" / LEDGER, key)
    place.unlink()
    Ledger(tmp_path / "run" / LEDGER, key).append({"type": "note"})
    assert place.is_file()


def test_a_mark_is_no_link(tmp_path: Path, key: SigningKey) -> None:
    ledger = written(tmp_path / "run", key)
    place = tmp_path / "key.pem.signed" / f"{ledger.run}.note"
    (tmp_path / "victim").write_bytes(b"")
    place.unlink()
    place.symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match=MARKS_VARIABLE):
        Ledger(tmp_path / "run" / LEDGER, key)
    assert (tmp_path / "victim").read_bytes() == b""


def test_marks_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_key(tmp_path / "key.pem")
    (tmp_path / "key.pem.signed").write_bytes(b"")
    with pytest.raises(InputError, match=MARKS_VARIABLE):
        written(tmp_path / "run", load_key(tmp_path / "key.pem"))
    monkeypatch.setenv(MARKS_VARIABLE, str(tmp_path / "marks"))
    ledger = written(tmp_path / "run", load_key(tmp_path / "key.pem"))
    assert (tmp_path / "marks" / f"{ledger.run}.note").is_file()


def test_verify_and_show_compare_with_the_own_key(
    tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "key.pem"))
    folder = tmp_path / "run"
    ledger = Ledger(folder / LEDGER, key)
    begin = PAYLOADS[0] | {"parties": [{"role": "operator", "key": key.public.text}]}
    for payload in (begin, *PAYLOADS[1:]):
        ledger.append(payload)
    ledger.seal()
    for name, content in (ledgers.FILES | {PUBLIC_KEY: key.public.pem()}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for name, content in ledgers.stated((folder / LEDGER).read_bytes().splitlines()).items():
        (folder / name).write_bytes(content)
    shutil.copytree(folder, tmp_path / "copy")
    ledger.append({"type": "note"})
    for command in (["verify", tmp_path / "copy", "--key", key.public.text], ["show", tmp_path / "copy"]):
        assert fedrec(["audit", *map(str, command)]) == 4
        told = capsys.readouterr()
        assert "your own key signed 6 records" in told.out + told.err
    # A fork: the same key extends the copy on a machine that has no marks.
    Ledger(tmp_path / "copy" / LEDGER, SigningKey(key._key)).append({"type": "note", "what": "other"})
    assert fedrec(["audit", "verify", str(tmp_path / "copy"), "--key", key.public.text]) == 4
    assert "a fork" in capsys.readouterr().out
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nowhere"))
    assert fedrec(["audit", "verify", str(tmp_path / "copy"), "--key", key.public.text]) == 0
