"""Vectors of items from pretrained encoders, from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fedrec.api.frames import table_of
from fedrec.data.columns import CatalogueColumns
from fedrec.data.encoded import write
from fedrec.data.folder import data_folder
from fedrec.data.item_tables import typed_catalogue
from fedrec.encoders.catalogue import clear, encode_table, parts_of
from fedrec.encoders.jobs import items_of, jobs_of

if TYPE_CHECKING:
    from fedrec.encoders.base import Kind


def encode(
    catalogue: Any,
    *,
    text: Sequence[str] | str = (),
    images: str | None = None,
    audio: str | None = None,
    encoder: Sequence[str] | str = (),
    sha256: Sequence[str] | str = (),
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> pl.DataFrame:
    """Encode items' public texts, pictures and sounds as vectors (`fedrec data encode` explains the choices).

    Args:
        catalogue: a file of items, the name of a dataset, or a table of polars, pandas or pyarrow with `item_id`.
        text: columns that make one sentence an item.
        images: column of paths to pictures, relative to the catalogue's folder (of a table: the working directory).
        audio: column of paths to WAV files, as for `images`.
        encoder: `NAME` or `NAME=MODEL`, at most one a kind of input; left out, the best that is installed.
        sha256: hash that the weights must have in place of the pinned one, or `NAME=HASH`.
        out: parquet file for the catalogue with its vectors, as `data.catalogue` and `data.vectors` read it. It names
            each column's encoder, which the table in memory cannot. Finished parts are kept beside it until then.
        data_dir: the folder of datasets; left out, the environment's FEDREC_DATA.

    Returns:
        The items with columns `text_vector`, `image_vector` and `audio_vector`; null where an item has none.

    Raises:
        InputError: one line, when a column, a file or an encoder cannot be used.

    >>> import fedrec
    >>> items = {"item_id": ["a", "b"], "title": ["Heat", "Alien"], "year": [1995, 1979]}
    >>> found = fedrec.encode(items, text=["title", "year"], encoder="words")
    >>> found.columns, found["text_vector"].dtype.shape
    (['item_id', 'title', 'year', 'text_vector'], (512,))
    """
    if isinstance(catalogue, str | Path):
        table, folder, before = items_of(str(catalogue), data_folder(None if data_dir is None else Path(data_dir)))
    else:
        found = table_of(catalogue, "the catalogue")
        table, folder = typed_catalogue(found, Path("the catalogue"), CatalogueColumns()), Path()
        before = dict[str, str]()
    columns: dict[Kind, list[str]] = {
        "text": _list(text),
        "image": [images] if images else [],
        "audio": [audio] if audio else [],
    }
    jobs, _ = jobs_of(table, columns, _list(encoder), _list(sha256), before)
    file = None if out is None else Path(out)
    made = encode_table(table, jobs, folder, None if file is None else parts_of(file))
    whole = made.table.rename({"item": "item_id"})
    if file is not None:
        write(whole, {**before, **made.encoders}, file)
        clear(parts_of(file))
    return whole


def _list(given: Sequence[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
