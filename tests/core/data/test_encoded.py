"""Encoders of vector columns are bound by the catalogue's digest, and vectors join a dataset by item id."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedrec.data.catalogue import Catalogue, Numbers, Vectors
from fedrec.data.datasets import NODES, DataConfig, load, public_catalogue
from fedrec.data.encoded import KEY, encoders_of, write
from fedrec.errors import InputError
from fedrec.federation.data_request import DataRequest

PLAIN = Catalogue(
    ("a", "b"),
    ("A", "B"),
    (Numbers("year", np.array([1.0, np.nan])), Vectors("v", np.array([[1, 2], [0, 0]], np.float32))),
)


def test_a_catalogue_without_encoders_keeps_its_digest() -> None:
    assert PLAIN.digest == "877cc97048e34b60d8131cc2c7bc8ea5edb89e033f95b60f85f5880fae92dace"  # of the version before
    assert PLAIN.encoders == {}


def test_another_encoder_is_another_catalogue() -> None:
    year, vectors = PLAIN.blocks
    named = [Catalogue(PLAIN.ids, PLAIN.titles, (year, replace(vectors, encoder=text))) for text in ("e5", "e6")]
    assert len({PLAIN.digest, *(each.digest for each in named)}) == 3
    assert named[0].encoders == {"v": "e5"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "log.csv"
    file.write_text("user_id,item_id\nann,1\nann,2\nbob,2\nbob,3\n")
    return file


def vectors(folder: Path, ids: list[int] | list[str]) -> Path:
    name, file = "text_vector", folder / f"vectors-{'-'.join(map(str, ids))}.parquet"
    rows = np.arange(2 * len(ids), dtype=np.float32).reshape(-1, 2) + 1
    table = pl.DataFrame({"item_id": ids, name: pl.Series(rows, dtype=pl.Array(pl.Float32, 2)), "year": 1.0})
    write(table, {name: "e5 (1), sha256 00"}, file)
    return file


def test_vectors_join_the_items_by_id(log: Path, tmp_path: Path) -> None:
    found = load(DataConfig(path=log, vectors=vectors(tmp_path, [2, 1, 9])), None, seed=0).catalogue
    assert found.ids == ("1", "2", "3")
    assert found.encoders == {"text_vector": "e5 (1), sha256 00"}
    (block,) = found.blocks
    assert block.values.tolist() == [[3, 4], [1, 2], [0, 0]], "and item 3, which the file lacks, has none"
    as_text = load(DataConfig(path=log, vectors=vectors(tmp_path, ["2", "1", "x"])), None, seed=0).catalogue
    assert as_text.digest == found.digest


def test_they_join_a_given_catalogue_too(log: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\n1,A\n2,B\n3,C\n4,D\n")
    config = DataConfig(path=log, catalogue=items, vectors=vectors(tmp_path, [4, 2]))
    found = load(config, None, seed=0).catalogue
    assert [each.name for each in found.blocks] == ["title", "text_vector"]
    assert found.blocks[1].values.tolist() == [[0, 0], [3, 4], [0, 0], [1, 2]]


def test_what_does_not_fit_is_one_line(log: Path, tmp_path: Path) -> None:
    plain, items = tmp_path / "plain.csv", tmp_path / "items.csv"
    plain.write_text("item_id,year\n1,1990\n2,1991\n")
    items.write_text("item_id,text_vector\n1,A\n2,B\n3,C\n")
    for changes, line in (
        ({"vectors": plain}, "has no column of vectors"),
        ({"vectors": vectors(tmp_path, [1, 1])}, "item 1 occurs twice"),
        ({"vectors": vectors(tmp_path, [7, 8])}, "has none of the items"),
        ({"vectors": vectors(tmp_path, [1]), "catalogue": items}, "have a column 'text_vector' already"),
        ({"vectors": tmp_path / "nowhere.parquet"}, "nowhere.parquet"),
    ):
        with pytest.raises(InputError, match=line):
            load(DataConfig(path=log, **changes), None, seed=0)


@pytest.mark.parametrize("text", ["no json", "[1]", '{"v": 1}', "[" * 100_000])
def test_metadata_of_a_stranger_that_are_no_table_of_texts_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "v.parquet"
    pl.DataFrame({"item_id": [1]}).write_parquet(file, metadata={KEY: text})
    with pytest.raises(InputError, match="encode it again"):
        encoders_of(file)


def test_no_server_chooses_a_file_of_a_node(log: Path, tmp_path: Path) -> None:
    file = vectors(tmp_path, [1, 2])
    config = DataConfig(name=NODES, catalogue=file, vectors=file)
    assert file in config.files
    with pytest.raises(InputError, match=r"no data\.path, data\.vectors"):
        public_catalogue(config, None, 0)
    found, _ = public_catalogue(DataConfig(name=NODES, catalogue=file), None, 0)
    assert found.encoders == {"text_vector": "e5 (1), sha256 00"}


def test_a_request_without_vectors_reads_as_before() -> None:
    assert '"vectors"' not in DataRequest(data=DataConfig(), seed=1).text()
    assert '"vectors": "v.parquet"' in DataRequest(data=DataConfig(vectors=Path("v.parquet")), seed=1).text()
