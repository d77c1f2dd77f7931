"""Which encoder makes which column: the options of `fedrec data encode` and the arguments of `fedrec.encode`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from fedrec.data.columns import CatalogueColumns
from fedrec.data.datasets import DataConfig, has_folder, read
from fedrec.data.encoded import encoders_of
from fedrec.data.movielens import read_own_catalogue
from fedrec.data.readers import FOLDERS, GENERATED, others
from fedrec.encoders.base import KINDS, Encoder, Kind, default
from fedrec.encoders.base import encoder as encoder_of
from fedrec.encoders.catalogue import NAMES, Job, check_columns
from fedrec.errors import InputError
from fedrec.settings import parse

OPTIONS: dict[Kind, str] = {"text": "--text", "image": "--images", "audio": "--audio"}


def items_of(catalogue: str, data_dir: Path | None) -> tuple[pl.DataFrame, Path, dict[str, str]]:
    """Read the items of a catalogue file or of a dataset.

    Returns:
        The items with a column `item`, the folder of their pictures and sounds, and the encoders of vector columns that
        the file has already.

    Raises:
        InputError: when there is no such catalogue, or an item occurs twice.
    """
    named = catalogue in (*FOLDERS, *GENERATED, *others()) or (
        has_folder(catalogue, data_dir) and not Path(catalogue).is_file()
    )
    if named:
        log = read(parse(DataConfig, {"name": catalogue}, "fedrec data encode"), data_dir, seed=0)
        if log.items is None:
            raise InputError(f"dataset '{catalogue}' has no features of its items; give a file of items")
        table, folder, before = log.items, Path(log.source), dict[str, str]()
    else:
        file = Path(catalogue).expanduser()
        table, folder, before = read_own_catalogue(file, CatalogueColumns()), file.parent, encoders_of(file)
    if table["item"].is_duplicated().any():
        twice = table["item"].filter(table["item"].is_duplicated())[0]
        raise InputError(f"{catalogue}: item {twice} occurs twice; keep one row an item")
    return table, folder, before


def jobs_of(
    table: pl.DataFrame,
    columns: Mapping[Kind, Sequence[str]],
    encoders: Sequence[str] = (),
    hashes: Sequence[str] = (),
    before: Mapping[str, str] | None = None,
) -> tuple[list[Job], list[str]]:
    """Make the encoders for the named columns.

    Args:
        table: the items.
        columns: kind -> columns of that kind; empty for none.
        encoders: `NAME` or `NAME=MODEL`, at most one a kind.
        hashes: `HASH` where one encoder is named, or `NAME=HASH`.
        before: vector columns that the table has, with their encoders; a new one of the same name replaces it.

    Returns:
        The jobs, and lines for the user on encoders that were chosen for him.

    Raises:
        InputError: one line, when they do not fit.
    """
    wanted = [kind for kind in KINDS if columns.get(kind)]
    if not wanted:
        raise InputError("nothing to encode: name columns by --text, --images or --audio")
    given = dict(_parted(each) for each in encoders)
    if len(given) != len(encoders):
        raise InputError(f"--encoder: one is named twice in {', '.join(encoders)}; give one a kind of input")
    pins = _pins(hashes, list(given))
    made: dict[str, Encoder] = {}
    jobs, remarks = [], []
    for kind in wanted:
        check_columns(table, columns[kind], OPTIONS[kind])
        if NAMES[kind] in table.columns and NAMES[kind] not in (before or {}):
            raise InputError(f"the catalogue has a column '{NAMES[kind]}' that no encoder made; rename or drop it")
        fitting = [name for name in given if kind in encoder_of(name).kinds]
        if len(fitting) > 1:
            raise InputError(f"--encoder: {fitting[0]} and {fitting[1]} are both for {kind}; give one")
        if fitting:
            name = fitting[0]
        else:
            found, why = default(kind)
            name = found.name
            remarks.append(f"encoder for {kind}: {name}" + (f" ({why})" if why else ""))
        if name not in made:
            made[name] = encoder_of(name)(given.get(name, ""), pins.pop(name, ""))
        jobs.append(Job(kind, tuple(columns[kind]), made[name]))
    if idle := [name for name in given if name not in made]:
        kinds = " and ".join(sorted(encoder_of(idle[0]).kinds))
        raise InputError(f"--encoder {idle[0]}: is for {kinds}, and no column of it is named")
    if pins:
        raise InputError(f"--sha256 {next(iter(pins))}=...: no such encoder is used")
    return jobs, remarks


def _parted(text: str) -> tuple[str, str]:
    name, _, model = text.partition("=")
    return name.strip(), model


def _pins(hashes: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return encoder -> hash. Raises: InputError for a text that is no hash, or belongs to no single encoder."""
    found = {}
    for text in hashes:
        name, _, digest = text.rpartition("=")
        if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
            raise InputError(f"--sha256 {text}: is no SHA-256, which has 64 hexadecimal digits")
        if not name and len(names) != 1:
            raise InputError(f"--sha256 {text}: of which encoder? Give NAME={digest[:8]}...")
        found[name or names[0]] = digest.lower()
    return found
