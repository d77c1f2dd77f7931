"""A run from Python is the run of the command line: the same bits, record, errors and folder."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import fedrec
from fedrec.algorithms.kernel_rank import KernelRankConfig
from fedrec.api.audit import Report
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as command
from fedrec.errors import FedrecError

SMALL = {"data.users": 120, "data.items": 50, "algorithm.rounds": 2, "evaluation.baselines": False}


def model_of(folder: Path) -> str:
    return hashlib.sha256((folder / "release" / "model" / "model.safetensors").read_bytes()).hexdigest()


def charges_of(folder: Path) -> list[Any]:
    entries = read_ledger(folder / "release" / "privacy" / "ledger.jsonl")[0]
    found = [entry.payload for entry in entries if entry.payload["type"] == "charge"]
    assert found
    return found


def test_the_command_line_gives_the_same_bits(tmp_path: Path) -> None:
    made = fedrec.simulate(fedrec.load_scenario("quickstart", SMALL), seed=1, progress=False)
    saved = made.save(tmp_path / "saved")
    again = tmp_path / "again"
    assert command(["simulate", str(saved / "release" / "scenario.toml"), "--quiet", "--out", str(again)]) == 0
    assert model_of(saved) == model_of(again)
    assert charges_of(saved) == charges_of(again)
    theirs = json.loads((again / "private" / "summary.json").read_text())
    assert made.metrics.result == theirs["metrics"]
    assert made.epsilon == theirs["privacy"]["epsilon"]


def test_a_table_in_memory_gives_the_bits_of_its_file(
    log: pl.DataFrame, catalogue: pl.DataFrame, run: fedrec.Run, tmp_path: Path
) -> None:
    log.write_parquet(tmp_path / "log.parquet")
    catalogue.write_parquet(tmp_path / "items.parquet")
    data = fedrec.read_log(tmp_path / "log.parquet", catalogue=tmp_path / "items.parquet")
    settings = {"algorithm.rounds": 1, "evaluation.baselines": False}
    made = fedrec.simulate("kernel-rank", data, epsilon=8, delta=1e-3, seed=1, settings=settings, progress=False)
    assert model_of(made.folder) == model_of(run.folder)
    assert fedrec.load_run(made.save(tmp_path / "r")).data.users == data.users  # found again by its full path


def test_the_settings_of_an_algorithm_are_its_name_and_them(run: fedrec.Run, data: fedrec.Data) -> None:
    settings = {"evaluation.baselines": False}
    config = KernelRankConfig(rounds=1)
    made = fedrec.simulate(config, data, epsilon=8, delta=1e-3, seed=1, settings=settings, progress=False)
    assert model_of(made.folder) == model_of(run.folder)


def test_no_id_of_a_user_is_in_what_is_handed_on(run: fedrec.Run, data: fedrec.Data) -> None:
    assert data.users[0] == "person-zqxjkv00"
    assert run.data.users == data.users
    files = [file for file in (run.folder / "release").rglob("*") if file.is_file()]
    assert len(files) >= 10
    assert not [file for file in files if b"zqxjkv" in file.read_bytes()]
    private = [file for file in (run.folder / "private").rglob("*") if file.is_file()]
    assert not [file for file in private if b"person-zqxjkv" in file.read_bytes()]
    assert "person-zqxjkv" not in repr(data.dataset) + repr(data) + repr(run)


def test_what_a_run_shows(run: fedrec.Run) -> None:
    assert run.epsilon is not None
    assert 0 < run.epsilon <= 8
    assert run.history.height == run.summary["cost"]["rounds"]
    assert run.metrics["ndcg@10"] == run.metrics["full:ndcg@10"] == run.evaluate()["ndcg@10"]
    assert run.metrics.frame.columns == ["protocol", "metric", "value"]
    assert "epsilon" in run.statement.text
    assert run.report().html.startswith("<!doctype html>")
    with pytest.raises(fedrec.InputError, match="Did you mean 'full:ndcg@10'"):
        run.metrics["ndgc@10"]


def test_what_a_notebook_shows_is_escaped(log: pl.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "<img src=x>.parquet"
    log.write_parquet(file)
    made = fedrec.simulate("popularity", fedrec.read_log(file), delta=1e-3, seed=1, progress=False)
    page = tmp_path / "page.html"
    page.write_text('<p title="x">"&</p>')
    shown = [made._repr_html_(), made.data._repr_html_(), made.metrics._repr_html_(), made.statement._repr_html_()]
    assert not any("<img" in text for text in shown)
    assert "&lt;img" in shown[0]
    framed = Report(page)._repr_html_()
    assert "<p" not in framed
    assert framed.startswith("<iframe sandbox ")


def test_a_saved_run_is_whole_and_verifies(run: fedrec.Run, data: fedrec.Data, tmp_path: Path) -> None:
    before = model_of(run.folder)
    folder = tmp_path / "saved"
    copied = fedrec.Run(run.folder, data)
    assert copied.save(folder) == folder
    assert (folder.stat().st_mode & 0o777, (folder / "private").stat().st_mode & 0o777) == (0o700, 0o700)
    assert model_of(folder) == before
    assert fedrec.verify(folder, trust_run_key=True).facts["target_epsilon"] == "8.0"
    assert fedrec.load_run(folder).metrics == run.metrics
    with pytest.raises(fedrec.InputError, match="holds another run"):
        copied.save(folder)
    with pytest.raises(fedrec.InputError, match="needs a key"):
        fedrec.verify(folder)
    with pytest.raises(fedrec.InputError, match="a table in memory"):
        _ = fedrec.load_run(folder).data
    model = folder / "release" / "model" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(fedrec.VerificationError, match="does NOT verify"):
        fedrec.verify(folder, trust_run_key=True)


def test_other_data_than_the_run_s_are_refused(run: fedrec.Run, log: pl.DataFrame, catalogue: pl.DataFrame) -> None:
    others = fedrec.read_log(log.filter(pl.col("user_id") != "person-zqxjkv03"), catalogue)
    with pytest.raises(fedrec.InputError, match="not those of the run"):
        fedrec.load_run(run.folder, others).model.recommend(user="person-zqxjkv04")


def test_a_temporary_run_ends_with_its_object(data: fedrec.Data) -> None:
    made = fedrec.simulate("popularity", data, delta=1e-3, seed=1, progress=False)
    folder = made.folder
    assert folder.is_dir()
    del made
    assert not folder.parent.exists()


def test_an_interrupted_run_loses_no_finished_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scenario = fedrec.load_scenario("quickstart", SMALL)
    whole = fedrec.simulate(scenario, seed=1, progress=False)
    seen = []

    def stop(report: Any) -> None:
        seen.append(report.round)
        if report.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as broken:
        fedrec.simulate(scenario, seed=1, progress=False, on_round=stop)
    (note,) = broken.value.__notes__
    folder = note.split("'")[1]
    assert f"fedrec.resume('{folder}')" in note
    resumed = fedrec.resume(folder, progress=False, on_round=stop)
    assert seen == [0, 1, 2]
    assert model_of(resumed.folder) == model_of(whole.folder)
    assert resumed.epsilon == whole.epsilon


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        (lambda data: fedrec.simulate("kernel-rnak", data), fedrec.InputError, "Did you mean 'kernel-rank'"),
        (lambda data: fedrec.simulate("als", data, epsilon=0), fedrec.InputError, "privacy.epsilon"),
        (lambda data: fedrec.simulate("als", data, delta=0.5), fedrec.PrivacyError, "delta"),
        (lambda data: fedrec.simulate("als", data, settings={"privacy.epsilo": 1}), fedrec.InputError, "epsilon"),
        (lambda data: fedrec.simulate(3, data), fedrec.InputError, "is no algorithm"),
        (lambda data: fedrec.simulate("als", data, device="cuda:9"), fedrec.InputError, "cuda"),
        (lambda data: fedrec.simulate("als", data, settings={"engine.name": "flower"}), fedrec.InputError, "in memory"),
        (lambda data: fedrec.load_dataset("ml-100"), fedrec.InputError, "Did you mean 'ml-100k'"),
        (lambda data: fedrec.split(data, "leave-one"), fedrec.InputError, "Did you mean 'leave-one-out'"),
        (lambda data: fedrec.load_run("nowhere"), fedrec.InputError, "no such folder"),
        (lambda data: fedrec.load_model("nowhere"), fedrec.InputError, "no model here"),
        (lambda data: fedrec.read_log([1, 2]), fedrec.InputError, "is no table"),
        (lambda data: fedrec.read_log({"user_id": [1, None], "item_id": [1, 2]}), fedrec.InputError, "row 2"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    wrong: Callable[[Any], Any],
    kind: type[FedrecError],
    said: str,
    data: fedrec.Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(kind, match=said) as error:
        wrong(data)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_pandas_gives_the_same_data(log: pl.DataFrame, data: fedrec.Data) -> None:
    pandas = pytest.importorskip("pandas", reason="needs the extra fedrec[test]")
    frame = pandas.DataFrame(log.to_dict(as_series=False))
    assert fedrec.read_log(frame).users == data.users


def test_what_looks_like_pandas_is_read_column_by_column() -> None:
    class Column(list):  # type: ignore[type-arg]
        dtype = SimpleNamespace(kind="O")

        def isna(self) -> "Column":
            return Column(value is None for value in self)

        def to_list(self) -> list[Any]:
            return list(self)

    class Frame:
        iloc = to_numpy = None
        held = {"user_id": Column(["ann", "bob"]), "item_id": Column(["7", "8"])}
        columns = list(held)

        def __getitem__(self, name: str) -> Column:
            return self.held[name]

    assert fedrec.read_log(Frame()).users == ["ann", "bob"]
    Frame.held["item_id"][1] = None
    with pytest.raises(fedrec.InputError, match="row 2"):
        fedrec.read_log(Frame())


def test_one_user_s_history_is_in_their_own_ids(data: fedrec.Data) -> None:
    assert data.history("person-zqxjkv01")["item"].to_list()[:2] == ["item-1", "item-3"]
    with pytest.raises(fedrec.InputError, match="no such user") as error:
        data.history("person-zqxjkv99")
    assert "person-zqxjkv0" not in str(error.value)  # no id of another user is in a message


def test_an_edited_statement_is_refused_and_never_shown(run: fedrec.Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    stated = folder / "release" / "privacy" / "statement.json"
    stated.write_text(stated.read_text(encoding="utf-8").replace('"epsilon"', '"epsi1on"', 1), encoding="utf-8")
    with pytest.raises(fedrec.VerificationError):
        _ = fedrec.load_run(folder).statement
