"""Damaged and malicious archives: unpacked inside the folder, or reported in one line and deleted."""

import io
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrec.data import unpack
from fedrec.errors import InputError


def packed(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        made.writestr("top/a.txt", "hello world " * 20)
        made.writestr("top/ü.txt", "x" * 40)
    return out.getvalue()


METHODS = [packed(how) for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)]


@given(st.sampled_from(METHODS), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_is_damaged_is_unpacked_or_told_in_one_line(whole: bytes, changes: list[tuple[float, int]]) -> None:
    body = bytearray(whole)
    for place, value in changes:
        body[int(place * len(body))] = value
    with tempfile.TemporaryDirectory() as folder:
        file, inside = Path(folder) / "x.zip", Path(folder) / "inside"
        file.write_bytes(body)
        inside.mkdir()
        told = None
        try:
            unpack.unpack(file, inside)
        except InputError as error:
            told = str(error)
        assert told is None or "\n" not in told
        assert file.exists() == (told is None), "a damaged archive would be taken for a whole one again and again"
        assert {entry.name for entry in Path(folder).iterdir()} <= {"x.zip", "inside"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for number, other in enumerate(("a/b", "a/b/c")):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as made:
            made.writestr("x", "")
            made.writestr("a/b", "one")
            made.writestr(other, "two")
        file = tmp_path / f"{number}.zip"
        file.write_bytes(out.getvalue())
        with pytest.raises(InputError, match="two files of one name"):
            unpack.unpack(file, tmp_path)
        assert not file.exists()
