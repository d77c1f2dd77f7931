"""`--track`: the values in a tracker, read back with the tracker's own library."""

import csv
import json
from pathlib import Path

import pytest
from fedrec_sim.report.tracking import MLflow, TensorBoard

from fedrec.cli import run
from fedrec.errors import InputError

SMALL = ("data.users=60", "data.items=80", "data.interactions_per_user=10", "algorithm.name=als", "algorithm.rounds=2")
SIMULATE = ["simulate", "--quiet", "--seed", "1", *(part for change in SMALL for part in ("--set", change))]


def told(out: Path) -> tuple[list[float], float]:
    """Epsilon after each round, and the final NDCG, as the run's own files have them."""
    with (out / "private" / "history.csv").open() as file:
        epsilons = [float(row["epsilon_pld"]) for row in csv.DictReader(file)]
    return epsilons, json.loads((out / "private" / "summary.json").read_text())["metrics"]["full"]["ndcg@10"]


def test_tensorboard_is_told_what_the_run_wrote(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra fedrec[track]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "r"
    assert run([*SIMULATE, "--track", "tensorboard", "--out", str(out)]) == 0
    events = EventAccumulator(str(out / "private" / "tensorboard")).Reload()
    epsilons, ndcg = told(out)
    scalars = events.Scalars("round/epsilon_pld")
    assert [scalar.step for scalar in scalars] == [1, 2, 3]
    assert [scalar.value for scalar in scalars] == pytest.approx(epsilons, rel=1e-6)
    assert events.Scalars("final/full:ndcg@10")[0].value == pytest.approx(ndcg, rel=1e-6)


def test_mlflow_is_told_what_the_run_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="needs the extra fedrec[track]")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "r"
    assert run([*SIMULATE, "--track", "mlflow", "--out", str(out)]) == 0
    client = MlflowClient(f"sqlite:///{out / 'private' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fedrec")
    assert experiment is not None
    (kept,) = client.search_runs([experiment.experiment_id])
    epsilons, ndcg = told(out)
    assert kept.info.status == "FINISHED"
    assert kept.data.params["algorithm.name"] == "als"
    assert kept.data.metrics["final/full/ndcg_at_10"] == pytest.approx(ndcg)
    history = client.get_metric_history(kept.info.run_id, "round/epsilon_pld")
    assert [point.value for point in history] == pytest.approx(epsilons)


def test_a_resumed_run_goes_on_in_the_same_run_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="needs the extra fedrec[track]")
    from fedrec_sim.engines.in_process import InProcessFederation
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    real = InProcessFederation.clipped_sums

    def dying(self, algorithm, shared, round_index, *rest):
        if round_index == 1:
            raise KeyboardInterrupt
        return real(self, algorithm, shared, round_index, *rest)

    out = tmp_path / "r"
    with monkeypatch.context() as patch:
        patch.setattr(InProcessFederation, "clipped_sums", dying)
        assert run([*SIMULATE, "--track", "mlflow", "--out", str(out)]) == 130
    client = MlflowClient(f"sqlite:///{out / 'private' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fedrec")
    assert [kept.info.status for kept in client.search_runs([experiment.experiment_id])] == ["KILLED"]
    assert run(["simulate", "--quiet", "--resume", "--track", "mlflow", "--out", str(out)]) == 0
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(kept.info.run_id, "round/epsilon_pld")] == [1, 2, 3]


@pytest.mark.parametrize("method", ["scalars", "end"])
def test_a_tracker_that_dies_takes_no_run_with_it(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra fedrec[track]")

    def dies(*_: object) -> None:
        raise ConnectionError("the tracker's server is gone\nand a trace of it")

    monkeypatch.setattr(TensorBoard, method, dies)
    assert run([*SIMULATE, "--track", "tensorboard", "--out", str(tmp_path / "r")]) == 0
    error = capfd.readouterr().err
    assert error.count("the tracker failed (the tracker's server is gone)") == 1
    assert (tmp_path / "r" / "private" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--track", "wandb"], "must be tensorboard or mlflow"),
        (["--track", "tensorboard", "--seeds", "0,1"], "--track: follows one run"),
    ],
)
def test_bad_input(arguments: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra fedrec[track]")
    assert run(["simulate", *arguments]) == 2
    assert says in capfd.readouterr().err


def test_a_server_that_cannot_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra fedrec[track]")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://nobody.example")
    command = ["simulate", "--quiet", "--track", "mlflow", "--set", "data.users=60", "--set", "data.items=80"]
    assert run([*command, "--out", str(tmp_path / "r")]) == 2
    assert "mend MLFLOW_TRACKING_URI, or leave --track mlflow out" in capfd.readouterr().err


def test_a_server_that_is_gone_is_not_awaited_for_long_and_a_setting_of_ones_own_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra fedrec[track]")
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")  # so that what is set in its place goes with the test
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9: .*mend MLFLOW_TRACKING_URI"):
        MLflow(tmp_path).begin("r", {})
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 0
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 20


def test_settings_of_any_number_and_all_figures_of_a_round_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra fedrec[track]")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings, figures = {f"a.{n}": n for n in range(250)}, {f"m/{n}": n / 7 for n in range(60)}
    tracker = MLflow(tmp_path)
    tracker.begin("r", settings)
    tracker.scalars(figures, 3)
    kept = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_run((tmp_path / "mlflow.run").read_text().strip())
    assert kept.data.params == {key: str(value) for key, value in settings.items()}
    assert kept.data.metrics == pytest.approx(figures)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_tracker_names_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    assert run(["simulate", "--track", name, "--out", str(tmp_path / "r")]) == 2
    error = capfd.readouterr().err
    assert "pip install 'fedrec[track]'" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "r").exists()
