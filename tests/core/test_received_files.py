"""A received folder or archive does not reach the reader's other files, memory or time."""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedrec.audit.evidence import archive, received_run
from fedrec.audit.evidence.received_run import CHECKPOINT, LEDGER, MODEL, PUBLIC_KEY, STATEMENT
from fedrec.audit.log.keys import load_key, new_key
from fedrec.cli import run as fedrec
from fedrec.durable import replace
from fedrec.errors import InputError, VerificationError
from fedrec.received_files import digest_below, names_below, read_below, refuse_links, write_below
from tests.core.audit import ledgers
from tests.core.audit.ledgers import KEY

SECRET = b"the reader's own secret"
PLAN = ledgers.plan_of(epsilon=2.0)
LINES = ledgers.lines_of(ledgers.payloads_of(PLAN))


def audit(*arguments: Any) -> int:
    return fedrec(["audit", *map(str, arguments)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run as it was received."""
    lines = LINES
    found = ledgers.evidence(lines, **ledgers.stated(lines))
    for name, content in found.files.items():
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "run" / name).write_bytes(content)
    (tmp_path / "run" / PUBLIC_KEY).write_bytes(KEY.public.pem())
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "secret").write_bytes(SECRET)
    return tmp_path / "run"


def linked(place: Path, target: Path) -> None:
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def test_export_packs_nothing_that_a_link_points_to(run: Path, tmp_path: Path, capsys: Any) -> None:
    for name in ("privacy/statement.md", "scenario.toml", "privacy/witness-1.note", STATEMENT, LEDGER):
        kept = (run / name).read_bytes() if (run / name).exists() else None
        linked(run / name, tmp_path / "secret")
        assert audit("export", run, "-o", tmp_path / "out.zip") == 4, name
        assert not (tmp_path / "out.zip").exists()
        (run / name).unlink()
        if kept is not None:
            (run / name).write_bytes(kept)
    (run / "privacy" / "statement.md").unlink()
    os.link(tmp_path / "secret", run / "privacy" / "statement.md")
    assert audit("export", run, "-o", tmp_path / "out.zip") == 4
    assert "hard link" in capsys.readouterr().err
    (run / "privacy" / "statement.md").unlink()
    assert audit("export", run, "-o", tmp_path / "out.zip") == 0


@pytest.mark.parametrize("what", ["a file", "the folder"])
def test_report_writes_through_no_link(run: Path, tmp_path: Path, what: str) -> None:
    if what == "a file":
        linked(run / "privacy" / "report.html", tmp_path / "secret")
        linked(run / "privacy" / ".report.html.new", tmp_path / "secret")
        assert audit("report", run) in (0, 2, 4)
    else:
        (tmp_path / "folder" / "report.html").write_bytes(SECRET)
        (run / "privacy").rename(tmp_path / "aside")
        (run / "privacy").symlink_to(tmp_path / "folder")
        for name in ("ledger.jsonl", "checkpoint", "ledger.pub"):
            (tmp_path / "folder" / name).write_bytes((tmp_path / "aside" / name).read_bytes())
        assert audit("report", run) == 4
        assert (tmp_path / "folder" / "report.html").read_bytes() == SECRET
    assert (tmp_path / "secret").read_bytes() == SECRET


def test_a_report_that_is_named_replaces_a_link(run: Path, tmp_path: Path) -> None:
    linked(tmp_path / "mine.html", tmp_path / "secret")
    assert audit("report", run, "-o", tmp_path / "mine.html") in (0, 2, 4)
    assert (tmp_path / "secret").read_bytes() == SECRET


def test_witness_writes_through_no_link(run: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "witness.pem")
    note = run / "privacy" / f"witness-{load_key(tmp_path / 'witness.pem').public.id}.note"
    command = ["witness", run, "--key", KEY.public.text, "--witness-key", tmp_path / "witness.pem"]
    linked(note, tmp_path / "secret")
    assert audit(*command, "--memory", tmp_path / "memory") == 4
    assert (tmp_path / "secret").read_bytes() == SECRET
    note.unlink()
    assert audit(*command, "--memory", tmp_path / "memory") == 0
    linked(tmp_path / "cosigned.note", tmp_path / "secret")
    assert audit(*command, "--memory", tmp_path / "memory", "-o", tmp_path / "cosigned.note") == 0
    assert (tmp_path / "secret").read_bytes() == SECRET


def pipe(place: Path) -> None:
    os.mkfifo(place)


def folder(place: Path) -> None:
    place.mkdir()


def far_too_large(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("make", [pipe, folder, far_too_large])
def test_what_is_no_small_file_is_refused_at_once(run: Path, tmp_path: Path, make: Callable[[Path], None]) -> None:
    for name in (LEDGER, CHECKPOINT, STATEMENT, "scenario.toml", "privacy/witness-2.note"):
        kept = (run / name).read_bytes() if (run / name).exists() else None
        (run / name).unlink(missing_ok=True)
        make(run / name)
        for command in ("verify", "export", "prove"):
            options: dict[str, list[Any]] = {
                "verify": ["--trust-run-key"],
                "export": ["-o", tmp_path / "x.zip"],
                "prove": ["--record", 0],
            }
            assert audit(command, run, *options[command]) in (2, 4), (name, command)
        (run / name).rmdir() if make is folder else (run / name).unlink()
        if kept is not None:
            (run / name).write_bytes(kept)


def test_commands_that_write_into_a_run_refuse_links_in_it(run: Path, tmp_path: Path) -> None:
    (run / "plots").mkdir()
    (run / "plots" / "a.svg").symlink_to(tmp_path / "secret")
    new_key(tmp_path / "old.pem")
    new_key(tmp_path / "new.pem")
    assert audit("keys", "rotate", run, "--new", tmp_path / "new.pem", "--key", tmp_path / "old.pem") == 4
    assert audit("budget", "settle", tmp_path / "budget.json", run) == 4
    with pytest.raises(VerificationError, match=r"plots/a.svg: is a link"):
        refuse_links(run)
    refuse_links(tmp_path / "nowhere")


def test_files_below_a_folder(tmp_path: Path) -> None:
    top = tmp_path / "top"
    write_target = tmp_path / "other"
    (top / "in").mkdir(parents=True)
    write_target.mkdir()
    (top / "link").symlink_to(write_target)
    (top / "in" / "file").write_bytes(b"abc")
    assert read_below(top, "in/file", 3) == b"abc"
    assert read_below(top, "in/none", 3) is None
    assert read_below(top, "none/file", 3) is None
    assert digest_below(top, "in/file") is not None
    assert names_below(top, "in") == ["file"]
    assert names_below(top, "none") == []
    with pytest.raises(VerificationError, match="larger than 2 bytes"):
        read_below(top, "in/file", 2)
    for refused in (
        lambda: read_below(top, "link/file", 3),
        lambda: write_below(top, "link/file", b""),
        lambda: names_below(top, "link"),
        lambda: digest_below(top, "link/file"),
    ):
        with pytest.raises(VerificationError, match="link"):
            refused()
    assert list(write_target.iterdir()) == []
    write_below(top, "in/file", b"new")
    write_below(top, "in/fresh", b"new", 0o600)
    assert (top / "in" / "file").read_bytes() == b"new"
    assert stat.S_IMODE((top / "in" / "fresh").stat().st_mode) == 0o600
    with pytest.raises(InputError, match="cannot be written"):
        write_below(top, "none/file", b"")


def test_a_file_is_replaced_and_its_link_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    for name in ("file", ".file.new"):
        (tmp_path / name).symlink_to(tmp_path / "secret")
    replace(tmp_path / "file", b"new")
    assert (tmp_path / "secret").read_bytes() == SECRET
    assert not (tmp_path / "file").is_symlink()


# Archives


def packed(files: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, value in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            change(entry)
            file.writestr(entry, value)
    return content.getvalue()


def bomb(path: Path, name: str, size: int, said: int) -> None:
    """A zip whose one file unpacks to `size` zero bytes and says that it has `said`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = bytes(1 << 20)
    body = b"".join(packer.compress(chunk) for _ in range(size >> 20)) + packer.flush()
    crc = 0
    for _ in range(size >> 20):
        crc = zlib.crc32(chunk, crc)
    encoded = name.encode()
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, crc, len(body), said, len(encoded), 0)
    local = b"PK\x03\x04" + common + encoded
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + encoded
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, len(central), len(local) + len(body), 0)
    path.write_bytes(local + body + central + end)


@pytest.mark.parametrize("said", [100 << 20, 1000])
@pytest.mark.parametrize("name", [LEDGER, STATEMENT, "unknown"])
def test_a_small_archive_does_not_fill_the_memory(tmp_path: Path, name: str, said: int) -> None:
    import tracemalloc

    bomb(tmp_path / "bomb.zip", name, 100 << 20, said)
    assert (tmp_path / "bomb.zip").stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        assert audit("verify", tmp_path / "bomb.zip", "--key", KEY.public.text) in (2, 4)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_all_that_is_unpacked_has_one_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_UNPACKED", 3000)
    (tmp_path / "run.zip").write_bytes(packed({LEDGER: b"x" * 2000, STATEMENT: b"x" * 2000}))
    with pytest.raises(VerificationError, match="larger when unpacked"):
        received_run.received(tmp_path / "run.zip")
    (tmp_path / "run.zip").write_bytes(packed({LEDGER: b"x" * 2000, MODEL: b"x" * 2000}))
    with pytest.raises(VerificationError, match="larger when unpacked"):
        received_run.received(tmp_path / "run.zip")
    (tmp_path / "run.zip").write_bytes(packed({LEDGER: b"x" * 2000, "other": b"x" * 2000}))
    assert list(received_run.received(tmp_path / "run.zip").files) == [LEDGER]


def as_link(entry: zipfile.ZipInfo) -> None:
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16


def as_bzip(entry: zipfile.ZipInfo) -> None:
    entry.compress_type = zipfile.ZIP_BZIP2


@pytest.mark.parametrize("change", [as_link, as_bzip])
def test_entries_that_no_export_has_are_refused(tmp_path: Path, change: Callable[[zipfile.ZipInfo], None]) -> None:
    (tmp_path / "run.zip").write_bytes(packed({LEDGER: b"x"}, change))
    with pytest.raises(VerificationError):
        received_run.received(tmp_path / "run.zip")


def test_a_table_of_contents_of_millions_is_not_read(tmp_path: Path) -> None:
    whole = packed({f"{number}": b"" for number in range(10_000)} | {LEDGER: b"x"})
    (tmp_path / "run.zip").write_bytes(whole)
    with pytest.raises(InputError, match="neither"):
        received_run.received(tmp_path / "run.zip")
    (tmp_path / "run.zip").write_bytes(packed({f"{number}": b"" for number in range(1500)} | {LEDGER: b"x"}))
    with pytest.raises(VerificationError, match="1,501 files"):
        received_run.received(tmp_path / "run.zip")


def test_an_archive_with_a_model_hashes_it(tmp_path: Path, run: Path) -> None:
    names = (LEDGER, CHECKPOINT, MODEL, "model/manifest.json", STATEMENT, "privacy/statement.md")
    files = {name: (run / name).read_bytes() for name in names}
    (tmp_path / "run.zip").write_bytes(packed(files))
    found = received_run.received(tmp_path / "run.zip")
    assert MODEL not in found.files
    assert audit("verify", tmp_path / "run.zip", "--key", KEY.public.text) == 0
    (tmp_path / "run.zip").write_bytes(packed(files | {MODEL: b"other"}))
    assert audit("verify", tmp_path / "run.zip", "--key", KEY.public.text) == 4
