"""A node's own log is read by the node's own settings: its columns, its repeats and dislikes; never by the server's."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from fedrec_client import sources
from fedrec_client.node import UserNode
from fedrec_client.node_config import ConfigError
from fedrec_client.sources import finder

from fedrec.data.columns import LogColumns
from fedrec.data.datasets import DataConfig, load
from fedrec.data.histories import Histories
from fedrec.data.splits import split
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest

ROWS = "ann;1;5;10\nann;2;-1;20\nann;1;5;30\nbob;1;-1;5\nbob;3;4;15\n"


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """The configuration of a node whose files have their own columns."""
    (tmp_path / "events.csv").write_text("who;what;stars;when\n" + ROWS)
    (tmp_path / "items.csv").write_text("sku;label\n" + "".join(f"{item};Film {item}\n" for item in range(9)))
    (tmp_path / "columns.toml").write_bytes(
        b'\xef\xbb\xbf[columns]\nuser = "who"\nitem = "what"\nrating = "stars"\ntime = "when"\n'
        b'[catalogue_columns]\nitem = "sku"\ntitle = "label"\n'
    )
    names = {"data": "events.csv", "catalogue": "items.csv", "columns": "columns.toml"}
    return {key: str(tmp_path / name) for key, name in names.items()}


def hosted(node: dict[str, str], **settings: object) -> Histories:
    source = finder(node)(DataRequest(data=DataConfig.model_validate(settings), seed=1).text()).source
    assert isinstance(source, Histories)
    return source


def test_a_node_reads_its_own_columns_whatever_the_server_names(node: dict[str, str]) -> None:
    for columns in (LogColumns(), LogColumns(user="stars", item="when", header=False)):
        answer = UserNode(finder(node)).answer(
            exchange.ask_hello(DataRequest(data=DataConfig(columns=columns), seed=1))
        )
        assert answer.facts["users"] == 2
        assert hosted(node, columns=columns).lengths.tolist() == [2, 2]


def test_a_node_without_its_columns_says_so_in_its_log_alone(node: dict[str, str], caplog: object) -> None:
    del node["columns"]
    answer = UserNode(finder(node)).answer(exchange.ask_hello(DataRequest(data=DataConfig(), seed=1)))
    assert answer.facts["code"] == "data"
    assert "who" not in str(answer.facts)


def test_a_folder_of_a_node_may_hold_packed_files(node: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "events.csv.gz").write_bytes(gzip.compress(Path(node["data"]).read_bytes()))
    (folder / "catalogue.CSV").write_bytes(Path(node["catalogue"]).read_bytes())
    assert hosted({"data": str(folder), "columns": node["columns"]}).lengths.tolist() == [2, 2]


@pytest.mark.parametrize("text", ["[columns]\nusers = 1\n", "no toml", "\xff"])
def test_a_bad_file_of_columns_is_refused(node: dict[str, str], text: str) -> None:
    Path(node["columns"]).write_bytes(text.encode("iso-8859-1"))
    with pytest.raises(ConfigError, match="columns="):
        finder(node)


def test_a_node_keeps_repeats_where_the_run_asks_for_them(node: dict[str, str]) -> None:
    assert hosted(node, repeats="keep").lengths.tolist() == [3, 2]


def test_a_nodes_dislikes_are_negatives_on_the_device(node: dict[str, str]) -> None:
    asked = {"min_rating": 0, "mask_dropped": True, "dropped_as_negatives": True}
    found = hosted(node, **asked)
    assert found.lengths.tolist() == [1, 1]
    assert found.disliked is not None
    assert [found.disliked.row(user).tolist() for user in range(2)] == [[2], [1]]
    more = hosted({**node, "users": 5}, **asked)  # type: ignore[dict-item]
    assert more.disliked is not None
    assert len(more) == len(more.disliked) == 5
    drawn = more.batch(np.arange(5), seed=3).negatives(40, stream=1)
    assert set(drawn[0, 1::2].tolist()) == {2}
    assert hosted(node, min_rating=0).disliked is None


def test_only_a_virtual_node_reads_the_file_that_a_run_names(
    node: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a simulation the run and the data are one person's; any other node refuses."""
    columns = LogColumns(user="who", item="what", rating="stars", time="when")
    data = DataConfig(path=Path(node["data"]), columns=columns)
    request = DataRequest(data=data, seed=1).text()
    shard = {"partition-id": 0, "num-partitions": 1}
    with pytest.raises(ConfigError, match="reads files only that its own configuration names"):
        finder(shard)(request)
    monkeypatch.setenv(sources.VIRTUAL, "1")
    found = finder(shard)(request)
    wanted = split(load(data, None, 1), "leave-one-out", "test", 1).train
    assert isinstance(found.source, Histories)
    assert found.source.items.tolist() == wanted.items.tolist()
