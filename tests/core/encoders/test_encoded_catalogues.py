"""Vector columns: sentences, gaps, continued encodings, hostile catalogues and encoders, the command and the API."""

import io
import struct
import wave
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import fedrec
from fedrec import cli
from fedrec.data.columns import CatalogueColumns
from fedrec.data.encoded import encoders_of
from fedrec.data.item_tables import read_catalogue
from fedrec.encoders import catalogue, media
from fedrec.encoders.base import Encoder, Identity, Kind
from fedrec.encoders.catalogue import Job, encode_table
from fedrec.encoders.recordings import read_wav
from fedrec.encoders.sentences import sentences
from fedrec.encoders.words import Words
from fedrec.errors import InputError

ITEMS = pl.DataFrame(
    {
        "item": ["a", "b", "c"],
        "title": ["Heat\n", "", None],
        "release_year": [1995.0, None, float("nan")],
        "genres": [["Action", "", "Crime"], [], None],
    }
)


def test_all_columns_make_one_sentence_and_gaps_are_left_out() -> None:
    found = sentences(ITEMS, ["title", "release_year", "genres"])
    assert found == ["Title: Heat; release year: 1995; genres: Action, Crime", None, None]
    assert sentences(ITEMS, ["genres", "title"])[0] == "Genres: Action, Crime; title: Heat"


class Counting(Encoder):
    """Text to its length and one more number; counts calls, and fails at a text when asked."""

    name = "counting"
    kinds = frozenset({"text"})
    width = 2
    identity = Identity("counting", "1", "0" * 64)
    seen: list[str]
    fails = "-"
    returned: Any = None

    def encode(self, inputs: Sequence[Any], kind: Kind) -> np.ndarray:
        if self.fails in inputs:
            raise KeyboardInterrupt
        self.seen += inputs
        rows = np.array([[len(text), 1] for text in inputs], np.float32)
        return rows if self.returned is None else self.returned(rows)


def counting(**changes: Any) -> Job:
    made = Counting()
    made.seen = []
    for name, value in changes.items():
        setattr(made, name, value)
    return Job("text", ("title",), made)


def many(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"item": [str(n) for n in range(count)], "title": [None if n == 3 else f"t{n}" for n in range(count)]}
    )


def test_an_encoding_that_dies_continues_where_it_was(tmp_path: Path) -> None:
    items, keep = many(150), tmp_path / "parts"
    died = counting(fails="Title: t140")
    with pytest.raises(KeyboardInterrupt):
        encode_table(items, [died], tmp_path, keep)
    assert len(died.encoder.seen) >= 2 * catalogue.PART  # type: ignore[attr-defined]
    again = counting()
    found = encode_table(items, [again], tmp_path, keep)
    assert found.reused == 2 * catalogue.PART
    assert len(again.encoder.seen) == 149 - 2 * catalogue.PART  # type: ignore[attr-defined]
    whole = encode_table(items, [counting()], tmp_path)
    assert found.table.equals(whole.table)
    assert found.table["text_vector"].null_count() == 1
    assert found.table["text_vector"][3] is None
    other = counting()
    changed = items.with_columns(pl.when(pl.col("item") == "1").then(pl.lit("new")).otherwise("title").alias("title"))
    assert encode_table(changed, [other], tmp_path, keep).reused == 149 - catalogue.PART
    stranger = counting(identity=Identity("counting", "2", "0" * 64))
    assert encode_table(items, [stranger], tmp_path, keep).reused == 0
    part = next(keep.iterdir())
    part.write_bytes(b"no array")
    assert encode_table(items, [counting()], tmp_path, keep).table.equals(whole.table)


@pytest.mark.parametrize(
    "returned",
    [
        lambda rows: rows[:-1],
        lambda rows: np.where(rows == 1, np.nan, rows),
        lambda rows: np.concatenate([rows, rows], 1),
    ],
)
def test_an_encoder_that_returns_something_else_is_refused(returned: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"encoder 'counting' returned .*nothing was written"):
        encode_table(many(5), [counting(returned=returned)], tmp_path, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_a_text_without_words_gives_no_vector(tmp_path: Path) -> None:
    items = pl.DataFrame({"item": ["a", "b"], "title": ["Heat", "Alien"], "note": ["...", "x"]})
    made = encode_table(items, [Job("text", ("title",), Words())], tmp_path)
    assert made.table["text_vector"].null_count() == 0
    with pytest.raises(InputError, match="empty in every row"):
        encode_table(pl.DataFrame({"item": ["a"], "title": [" "]}), [Job("text", ("title",), Words())], tmp_path)


def png(width: int, height: int) -> bytes:
    """A valid start of a PNG of this size; it unpacks to far more than it holds."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_a_picture_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    pytest.importorskip("PIL")
    with pytest.raises(media.Unreadable, match="60000 x 2000 pixels are too many"):
        media.picture(png(60000, 2000))
    with pytest.raises(media.Unreadable, match="bomb"):
        media.picture(png(60000, 60000))
    for data in (b"", b"GIF89a", b"%PDF-1.4 no picture", png(10, 1000)[:60]):
        with pytest.raises(media.Unreadable):
            media.picture(data)


def test_pictures_are_reduced_when_they_are_unpacked() -> None:
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.new("P", (2000, 1000), 3).save(stream, "PNG")
    found = media.picture(stream.getvalue())
    assert (found.mode, found.size) == ("RGB", (2 * media.SHORT_SIDE, media.SHORT_SIDE))


@pytest.mark.parametrize("path", ["../secret.wav", "/etc/passwd", "link/secret.wav", "loop", "", "a\0b"])
def test_a_catalogue_leads_to_no_file_outside_its_folder(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(InputError, match=r"row 7: 'photo' = .* leads out of") as refused:
        media.located(path, folder, 7, "photo")
    assert "\0" not in str(refused.value)


def recording(samples: np.ndarray, size: int, channels: int = 1) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(size)
        file.setframerate(8000)
        whole = (samples * (2.0 ** (8 * size - 1) - 1)).astype("<i8") + (128 if size == 1 else 0)
        file.writeframes(whole.view(np.uint8).reshape(-1, 8)[:, :size].tobytes())
    return stream.getvalue()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_sounds_are_read_at_every_depth_and_channels_are_averaged(size: int) -> None:
    left = np.sin(np.arange(800) / 9)
    found = read_wav(recording(np.stack([left, np.zeros(800)], 1).ravel(), size, channels=2))
    assert found.samples == pytest.approx(left / 2, abs=0.01)


def test_files_that_cannot_be_read_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.wav").write_bytes(recording(np.sin(np.arange(4000) / 5), 2))
    for name in ("bad1.wav", "bad2.wav", "bad3.wav"):
        (tmp_path / name).write_bytes(b"RIFF no sound")
    paths = ["good.wav", "bad1.wav", "bad2.wav", "bad3.wav", "gone.wav", ""]
    file, out = tmp_path / "items.csv", tmp_path / "out.parquet"
    file.write_text("item_id,clip\n" + "".join(f"i{n},{path}\n" for n, path in enumerate(paths)))
    assert cli.run(["data", "encode", str(file), "--audio", "clip", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "4 files could not be read" in shown.err
    assert "row 2 'bad1.wav' (no WAV file" in shown.err
    assert "and 1 more" in shown.err
    assert "audio_vector: 1 of 6 items, 120 numbers each, by sound" in shown.out
    assert not out.with_name("out.parquet.parts").exists()
    vectors = read_catalogue(out, CatalogueColumns())["audio_vector"]
    assert vectors.is_null().to_list() == [False, True, True, True, True, True]


def test_the_command_writes_a_catalogue_that_names_its_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items, log, out = tmp_path / "items.csv", tmp_path / "log.csv", tmp_path / "v.parquet"
    items.write_text("item_id,title,year\na,Heat,1995\nb,Alien,1979\nc,,\n")
    log.write_text("user_id,item_id\nann,a\nbob,b\nann,b\n")
    line = ["data", "encode", str(items), "--text", "title,year", "--encoder", "words", "--out", str(out)]
    assert cli.run(line) == 0
    assert "2 of 3 items, 512 numbers each, by words (rule 1), sha256" in capsys.readouterr().out
    data = fedrec.read_log(log, out)
    found = data.dataset.catalogue
    assert list(found.encoders) == ["text_vector"]
    assert found.encoders == encoders_of(out)
    assert "of title, year" in found.encoders["text_vector"]
    assert [each.name for each in found.blocks] == ["title", "year", "text_vector"]
    assert not found.blocks[2].values[2].any()
    assert cli.run(["data", "describe", str(log), "--catalogue", str(out)]) == 0
    assert "vectors, by words" in " ".join(capsys.readouterr().out.split())
    again = [*line[:2], str(out), *line[3:]]
    assert cli.run(again) == 0, "an encoder's own column is made anew"
    pl.read_parquet(out).write_parquet(out)  # without metadata
    assert cli.run(again) == 2
    assert "a column 'text_vector' that no encoder made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--text titel", "no column 'titel'. Did you mean 'title'"),
        ("--images year", "column 'year' holds Float64"),
        ("", "nothing to encode"),
        ("--text title --encoder words --encoder onnx=m", "are both for text"),
        ("--text title --encoder words --encoder sound", "is for audio, and no column"),
        ("--text title --encoder words --sha256 12", "is no SHA-256"),
        (f"--text title --encoder words --sha256 sound={'0' * 64}", "no such encoder is used"),
        ("--text title --encoder onnx=nowhere.onnx", "no such file"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    options: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "items.csv"
    file.write_text("item_id,title,year\na,Heat,1995\nb,Alien,1979\n")
    assert cli.run(["data", "encode", str(file), *options.split(), "--out", str(tmp_path / "o.parquet")]) == 2
    shown = capsys.readouterr().err
    assert line in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "o.parquet").exists()


def test_an_ending_other_than_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="written as parquet"):
        fedrec.encode({"item_id": ["a"], "title": ["Heat"]}, text="title", encoder="words", out=tmp_path / "o.csv")
