"""Vector columns for a catalogue: inputs in row order, in parts that are kept on disk until the whole is done.

A part is the vectors of `PART` items. Its file is named by a hash of the encoder and of the inputs, so an encoding that
died continues with the first part that is missing, and no part of another encoder or another text is taken for it.
Memory holds one part's inputs and the finished column.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fedrec.durable import replace
from fedrec.encoders import media
from fedrec.encoders.base import Encoder, Kind
from fedrec.encoders.sentences import sentences
from fedrec.errors import InputError, nearest
from fedrec.progress import step

PART = 64
"""Items of a file."""
BATCH = 16
"""Items that an encoder gets at a time."""
NAMES: dict[Kind, str] = {"text": "text_vector", "image": "image_vector", "audio": "audio_vector"}
"""Kind of input -> the column of its vectors."""
SHOWN = 3
"""Unreadable files that a message names."""


@dataclass(frozen=True)
class Job:
    """One column of vectors.

    Attributes:
        kind: of input.
        columns: the columns that it comes from: several of text, one of pictures or sounds.
        encoder: for it.
    """

    kind: Kind
    columns: tuple[str, ...]
    encoder: Encoder

    @cached_property
    def source(self) -> str:
        """Text that names the encoder and its columns, for file, digest and statement. Read it after `prepare`."""
        return f"{self.encoder.identity}, of {', '.join(self.columns)}"


@dataclass
class Encoded:
    """A table with vector columns.

    Attributes:
        table: the items, with a column of vectors for each job; null where an item has no vector.
        encoders: vector column -> text that names its encoder.
        widths: vector column -> length of a vector.
        unreadable: files that could not be read, with the reason, in row order.
        reused: items whose vectors an earlier, broken-off call had left.
    """

    table: pl.DataFrame
    encoders: dict[str, str] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    reused: int = 0

    def remark(self) -> str:
        """Return one line on what could not be read; empty where all could."""
        if not self.unreadable:
            return ""
        rest = len(self.unreadable) - SHOWN
        named = "; ".join(self.unreadable[:SHOWN]) + (f"; and {rest:,} more" if rest > 0 else "")
        return f"{len(self.unreadable):,} files could not be read, and their items have no vector: {named}"


def check_columns(table: pl.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raises: InputError naming the first of `columns` that the table lacks, or that cannot be its kind of input."""
    for name in columns:
        if name not in table.columns or name == "item":
            raise InputError(f"{what}: the catalogue has no column '{name}'.{nearest(name, table.columns[1:])}")
        dtype = table[name].dtype
        inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
        if inner.is_nested() or inner == pl.Binary:
            raise InputError(f"{what}: column '{name}' holds {dtype}; name columns of text, numbers or labels")
        if what != "--text" and dtype != pl.String:
            raise InputError(f"{what}: column '{name}' holds {dtype}; name one of paths to files, as text")


def encode_table(table: pl.DataFrame, jobs: Sequence[Job], folder: Path, keep: Path | None = None) -> Encoded:
    """Add a column of vectors for each job.

    Args:
        table: the items, as `fedrec.data.item_tables` reads them.
        jobs: at most one a kind.
        folder: the catalogue's folder, which holds its pictures and sounds.
        keep: folder for finished parts; None keeps none.

    Raises:
        InputError: for a column that does not fit, a path out of the folder, or an encoder that fails.
    """
    found = Encoded(table)
    for job in jobs:
        inputs = _inputs(table, job, folder)
        if not inputs:
            raise InputError(f"{', '.join(job.columns)}: empty in every row; name columns that hold something")
        job.encoder.prepare(each.text for each in inputs.values() if isinstance(each, Sentence))
        vectors = np.full((len(table), job.encoder.width), np.nan, np.float32)
        rows = list(inputs)
        with step(f"encoding {job.kind} with {job.encoder.name}", len(rows)) as advance:
            for start in range(0, len(rows), PART):
                part = rows[start : start + PART]
                vectors[part] = _part(job, {row: inputs[row] for row in part}, keep, found)
                advance(len(part))
        name = NAMES[job.kind]
        found.table = found.table.drop(name, strict=False).with_columns(_column(name, vectors))
        found.encoders[name], found.widths[name] = job.source, job.encoder.width
    return found


@dataclass(frozen=True)
class Sentence:
    """The text of an item."""

    text: str

    def digest(self) -> bytes:
        return hashlib.sha256(self.text.encode()).digest()

    def open(self) -> str:
        return self.text


@dataclass(frozen=True)
class Media:
    """A picture or a sound of an item. Both functions raise `Unreadable`."""

    file: Path
    unpack: Callable[[bytes], Any]

    def digest(self) -> bytes:
        return hashlib.sha256(media.content(self.file)).digest()

    def open(self) -> Any:
        return self.unpack(media.content(self.file))


def _inputs(table: pl.DataFrame, job: Job, folder: Path) -> dict[int, Sentence | Media]:
    """Return the known inputs by row, from 0."""
    if job.kind == "text":
        return {row: Sentence(text) for row, text in enumerate(sentences(table, job.columns)) if text is not None}
    column, unpack = job.columns[0], media.picture if job.kind == "image" else media.sound
    return {
        row: Media(media.located(cell, folder, row + 1, column), unpack)
        for row, cell in enumerate(table[column].to_list())
        if cell is not None and cell.strip()
    }


def _part(job: Job, inputs: dict[int, Sentence | Media], keep: Path | None, found: Encoded) -> np.ndarray:
    """Return the vectors of a part, (n, width) float32, NaN where there is none: from its file, or computed."""
    shape, key, faults = (len(inputs), job.encoder.width), hashlib.sha256(job.source.encode()), dict[int, str]()
    for row, each in inputs.items():
        try:
            key.update(each.digest())
        except media.Unreadable as error:
            faults[row] = str(error)
            key.update(b"unreadable")
    file = None if keep is None else keep / f"{key.hexdigest()}.npy"
    vectors = None if file is None else _kept(file, shape)
    if vectors is not None:
        found.reused += len(inputs)
        for row, vector, each in zip(inputs, vectors, inputs.values(), strict=True):
            if isinstance(each, Media) and np.isnan(vector).any():
                faults.setdefault(row, "unreadable")
    else:
        vectors = np.full(shape, np.nan, np.float32)
        places = [place for place, row in enumerate(inputs) if row not in faults]
        rows = list(inputs)
        for start in range(0, len(places), BATCH):
            usable: dict[int, Any] = {}
            for place in places[start : start + BATCH]:
                try:
                    usable[place] = inputs[rows[place]].open()
                except media.Unreadable as error:
                    faults[rows[place]] = str(error)
            if usable:
                vectors[list(usable)] = _encoded(job, list(usable.values()))
        if file is not None:
            _keep(file, vectors)
    for row in sorted(faults):
        each = inputs[row]
        name = each.file.name if isinstance(each, Media) else ""
        found.unreadable.append(f"row {row + 1} '{name}' ({faults[row]})")
    return vectors


def _encoded(job: Job, inputs: list[Any]) -> np.ndarray:
    """Return the encoder's vectors (n, width) float32, NaN in rows of zeros. Raises: InputError for other content."""
    made, width = np.asarray(job.encoder.encode(inputs, job.kind)), job.encoder.width
    if made.shape != (len(inputs), width) or not np.isfinite(made).all():
        raise InputError(
            f"encoder '{job.encoder.name}' returned {made.shape} for {len(inputs)} inputs of width {width}, or a "
            "number that is not finite; nothing was written"
        )
    return np.where(made.any(1, keepdims=True), made, np.nan).astype(np.float32)


def _keep(file: Path, vectors: np.ndarray) -> None:
    file.parent.mkdir(exist_ok=True)
    stream = io.BytesIO()
    np.save(stream, vectors, allow_pickle=False)
    replace(file, stream.getvalue())


def parts_of(out: Path) -> Path:
    """Return the folder of finished parts for the parquet file `out`. Raises: InputError for another ending."""
    if out.suffix.lower() != ".parquet":
        raise InputError(f"{out}: vectors are written as parquet; give the file a name that ends in .parquet")
    return out.with_name(f"{out.name}.parts")


def clear(keep: Path) -> None:
    """Remove a folder of finished parts, and nothing else that is in it."""
    if keep.is_dir():
        for file in keep.glob("*.npy"):
            file.unlink()
        if not any(keep.iterdir()):
            keep.rmdir()


def _kept(file: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Return the vectors of a part's file; None where there is no usable one."""
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if isinstance(found, np.ndarray) and found.shape == shape and found.dtype == np.float32 else None


def _column(name: str, vectors: np.ndarray) -> pl.Series:
    """Return vectors as a column of arrays, null in rows of NaN."""
    known = ~np.isnan(vectors).any(1)
    column = pl.Series(name, np.nan_to_num(vectors), dtype=pl.Array(pl.Float32, vectors.shape[1]))
    return pl.select(pl.when(pl.Series(known)).then(column).alias(name)).to_series()
