"""A reader of another package: found by its name, checked, and named in the ledger; no node runs it."""

import hashlib
import sys
from pathlib import Path

import pytest

import fedrec
from fedrec import cli, plugins
from fedrec.audit.log.ledger import read_ledger
from fedrec.data import datasets
from fedrec.data.datasets import DataConfig
from fedrec.data.readers import FOLDERS
from fedrec.errors import InputError
from tests.foreign import install

READER = """
import polars as pl
from fedrec.data.events import typed_events
from fedrec.data.log import Log


def read(folder):
    file = folder / "events.txt"
    table = pl.read_csv(file, separator=";", has_header=False, new_columns=["user_id", "item_id", "timestamp"])
    events = typed_events(table, file)
    {more}
    return Log(str(folder), events)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with one dataset in a format that only the stranger's reader knows."""
    place = tmp_path / "data" / "shop-diary"
    place.mkdir(parents=True)
    lines = [f"{user};{(user * 3 + step) % 30};{step}" for user in range(60) for step in range(6)]
    (place / "events.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def add(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, source: str, name: str = "shop-diary") -> None:
    install(monkeypatch, tmp_path, "stranger", module, source, {f"fedrec.readers:{name}": "read"})


def test_a_packages_reader_reads_the_folder_of_its_name(tmp_path, monkeypatch, folder, capsys):
    add(monkeypatch, tmp_path, "reader_a", READER.format(more=""))
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.run(["data", "list", "--data-dir", str(folder)]) == 0
    assert "stranger 1.5" in capsys.readouterr().out
    assert "reader_a" not in sys.modules, "imported before a run named it"
    data = fedrec.load_dataset("shop-diary", folder)
    assert data.counts == {"users": 60, "items": 30, "interactions": 360}
    assert cli.run(["data", "describe", "shop-diary", "--data-dir", str(folder)]) == 0
    with pytest.raises(InputError, match=r"unknown dataset 'shop-dairy'\. Did you mean 'shop-diary'"):
        datasets.read(DataConfig(name="shop-dairy"), folder, 0)
    monkeypatch.delenv("FEDREC_DATA", raising=False)
    with pytest.raises(InputError, match="needs a folder of datasets"):
        datasets.read(DataConfig(name="shop-diary"), None, 0)


def test_the_ledger_names_the_reader(tmp_path, monkeypatch, folder, capsys):
    source = READER.format(more="")
    add(monkeypatch, tmp_path, "reader_b", source)
    out = tmp_path / "run"
    command = ["simulate", "quickstart", "--quiet", "--seed", "3", "--data-dir", str(folder), "--out", str(out)]
    changes = ["data.name=shop-diary", "algorithm.name=popularity", "evaluation.baselines=false", "evaluation.every=0"]
    assert cli.run([*command, *(part for change in changes for part in ("--set", change))]) == 0, capsys.readouterr()
    begin = read_ledger(out / "release" / "privacy" / "ledger.jsonl")[0][0].payload
    named = f"stranger 1.5, reader_b.py, sha256 {hashlib.sha256(source.encode()).hexdigest()}"
    assert begin["software"]["reader shop-diary"] == named
    assert len(begin["notes"]) == 1
    assert named in begin["notes"][0]
    assert "which events are whose" in begin["notes"][0]
    assert cli.run(["audit", "verify", str(out), "--trust-run-key"]) == 0
    assert cli.run(["evaluate", str(out), "--data-dir", str(folder)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("return events", "returned no Log, but DataFrame"),
        ("events = events.drop('item')", "returned events without the column 'item'"),
        ("events = events.with_columns(user=None)", "returned events with an empty 'user'"),
        ("events = events.with_columns(pl.col('item').cast(pl.Float64))", "whose 'item' is Float64"),
        ("events = events.with_columns(timestamp=pl.lit(float('inf')))", "'timestamp' is not finite"),
        ("events = events.with_columns(rating=pl.lit('good'))", "whose 'rating' is String"),
        ("return Log('x', events, items=pl.DataFrame({'title': ['a']}))", "returned items without the column 'item'"),
        ("raise KeyError('no such thing')", "failed (KeyError: 'no such thing')"),
    ],
)
def test_a_reader_that_returns_no_usable_log_is_one_line(tmp_path, monkeypatch, folder, capsys, more, reason):
    add(monkeypatch, tmp_path, f"reader_{abs(hash(more))}", READER.format(more=more))
    assert cli.run(["data", "describe", "shop-diary", "--data-dir", str(folder)]) == 2
    line = capsys.readouterr().err
    assert "the reader 'shop-diary' of stranger 1.5" in line
    assert reason in line
    assert line.count("\n") == 1


def test_no_package_takes_the_name_of_a_built_in_dataset(tmp_path, monkeypatch, caplog):
    source = READER.format(more="") + "\nraise SystemError('imported')\n"
    for place, name in enumerate(("ml-100k", "quickstart", "file", "nodes", "frame", "amazon-books")):
        install(monkeypatch, tmp_path, f"thief{place}", "thief_reader", source, {f"fedrec.readers:{name}": "read"})
    assert len(datasets.read(DataConfig(name="quickstart", users=30, items=20), None, 0).events)
    for name in ("ml-100k", "nodes", "frame", "amazon-books"):
        with pytest.raises(InputError):
            datasets.read(DataConfig(name=name), tmp_path, 0)
    assert "thief_reader" not in sys.modules
    assert "reader 'ml-100k' of package thief0 1.5 is not used: the name is built in" in caplog.text
    assert all(reader.__module__.startswith("fedrec.") for reader in FOLDERS.values())


def test_a_process_that_does_not_allow_a_reader_never_imports_it(tmp_path, monkeypatch, folder):
    add(monkeypatch, tmp_path, "reader_c", READER.format(more=""))
    with plugins.only([]), pytest.raises(plugins.PluginRefused, match="reader 'shop-diary' is not built in"):
        datasets.read(DataConfig(name="shop-diary"), folder, 0)
    assert "reader_c" not in sys.modules
    with plugins.only(["shop-diary"]):
        assert len(datasets.read(DataConfig(name="shop-diary"), folder, 0).events) == 360
