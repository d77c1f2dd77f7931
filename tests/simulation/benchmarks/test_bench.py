import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fedrec_sim.benchmarks import jobs
from fedrec_sim.benchmarks.figure import draw
from fedrec_sim.benchmarks.flower_ray import local_step
from fedrec_sim.benchmarks.memory import TreeMemory, own_peak_mb
from fedrec_sim.benchmarks.population import WithoutNewest
from fedrec_sim.benchmarks.whole_run import held_out

from fedrec.cli import run
from fedrec.data.synthetic import SyntheticUsers
from fedrec.errors import InputError

SMALL = ["bench", "round", "--items", "200", "--interactions", "10", "--repeat", "2", "--threads", "1"]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run here, which saves the seconds that a process needs to start; job and result stay JSON."""
    monkeypatch.setattr(jobs, "run_job", lambda job: json.loads(json.dumps(jobs.measured(json.loads(json.dumps(job))))))


def test_a_job_that_fails_in_its_process_ends_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--interactions", "300"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "different items" in line]
    assert line.startswith("error: ")


@pytest.mark.slow
def test_a_round_is_measured_phase_by_phase(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--users", "50,100", "--set", "dim=8", "--out", str(tmp_path / "b"), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document == json.loads((tmp_path / "b" / "bench.json").read_text())
    assert [result["users"] for result in document["results"]] == [50, 100]
    for result in document["results"]:
        assert len(result["rounds"]) == 2
        assert {"contribute", "sum", "update"} <= result["phases"].keys()
        assert 0 < sum(result["phases"].values()) <= 1.5 * result["seconds"]
        assert result["users_per_second"] == pytest.approx(result["users"] / result["seconds"])
        assert 50 < result["peak_rss_mb"] < 3000
    assert (tmp_path / "b" / "bench.svg").read_text().startswith("<?xml")


@pytest.mark.slow
def test_implicit_is_measured_on_the_same_users(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("implicit", reason="needs the extra fedrec[bench]")
    assert run([*SMALL, "--users", "80", "--compare", "implicit", "--json"]) == 0
    own, other = json.loads(capfd.readouterr().out)["results"]
    assert (own["what"], other["what"]) == ("fedrec", "implicit")
    assert own["users"] == other["users"] == 80
    assert len(other["rounds"]) == 2


@pytest.mark.slow
def test_flower_is_measured_and_leaves_nothing_running(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="needs the extra fedrec[sim]")
    assert run([*SMALL, "--users", "80", "--compare", "flower", "--clients", "20", "--json"]) == 0
    other = json.loads(capfd.readouterr().out)["results"][1]
    assert other["users"] == 20
    assert other["ms_per_client"] == pytest.approx(1e3 * other["seconds"] / 20)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--users", "ten"], "whole numbers"),
        (["--users", "0"], "at least 1"),
        (["--compare", "implict"], "Did you mean 'implicit'?"),
        (["--dataset", "ml-1m", "--users", "10"], "generated users"),
        (["--dataset", "nosuch"], "unknown dataset 'nosuch'"),
        (["--algorithm", "asl"], "Did you mean 'als'?"),
        (["--algorithm", "content"], "no round to measure"),
        (["--device", "tpu"], "must be cpu, cuda"),
        (["--set", "dim"], "KEY=VALUE"),
        (["--set", "dmi=3"], "Did you mean 'dim'?"),
        (["--interactions", "300"], "different items"),
    ],
)
def test_bad_input_gives_one_line_and_code_2(
    arguments: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*SMALL, *arguments]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run([*SMALL, "--device", "cuda"]) == 2
    assert "no usable CUDA device" in capfd.readouterr().err


def test_an_old_benchmark_is_not_overwritten(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench.json").write_text("{}")
    assert run([*SMALL, "--users", "20", "--out", str(tmp_path)]) == 2
    assert "another benchmark" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["bench", "round", "--users", "20,30", "--items", "200", "--interactions", "10"], "bench.json"),
        (["bench", "scale", "--users", "20,30", "--items", "200", "--algorithm", "als"], "scale.json"),
        (["bench", "ranking", "--users", "20", "--items", "200", "--held-out", "1,2"], "ranking.json"),
    ],
)
def test_what_was_measured_is_on_disk_before_the_next_one_begins(
    command: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[dict[str, Any]] = []

    def second_dies(job: dict[str, Any]) -> dict[str, Any]:
        if measured:
            raise KeyboardInterrupt
        measured.append({"one": job["what"]})
        return measured[0]

    monkeypatch.setattr(jobs, "run_job", second_dies)
    assert run([*command, "--out", str(tmp_path / "b")]) == 130
    assert json.loads((tmp_path / "b" / name).read_text())["results"] == measured


@pytest.mark.parametrize("command", ["round", "scale"])
def test_a_name_is_checked_before_anything_is_measured(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "run_job", lambda job: pytest.fail("measured"))
    assert run(["bench", command, "--algorithm", "als,asl" if command == "scale" else "asl"]) == 2
    assert "Did you mean 'als'?" in capfd.readouterr().err
    dim = "als.dmi=3" if command == "scale" else "dmi=3"
    assert run(["bench", command, "--algorithm", "als", "--set", dim]) == 2
    assert "Did you mean 'dim'?" in capfd.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "run_job", lambda job: pytest.fail("measured"))
    (tmp_path / "file").touch()
    assert run([*SMALL, "--out", str(tmp_path / "file" / "b")]) == 2
    assert "cannot be made" in capfd.readouterr().err


@pytest.mark.parametrize(("what", "extra"), [("implicit", "fedrec[bench]"), ("flower", "fedrec[sim]")])
def test_a_missing_package_names_the_extra(what: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install") as caught:
        jobs.require(what)
    assert extra in str(caught.value)


def test_flowers_client_descends_the_loss_that_als_minimises() -> None:
    generator = np.random.default_rng(0)
    items = generator.normal(0, 0.5, (30, 6)).astype(np.float32)
    row = np.array([3, 7, 7, 20])

    def loss(table: np.ndarray, vector: np.ndarray) -> float:
        scores = table.astype(np.float64) @ vector
        return 0.5 * (((1 - scores[row]) ** 2).sum() + 0.3 * (scores**2).sum())

    ridge = 0.003 * (len(row) + 0.3 * len(items))
    normal = items[row].T @ items[row] + 0.3 * items.T @ items + ridge * np.eye(6)
    vector = np.linalg.solve(normal, items[row].sum(axis=0))
    gradient = local_step(items, items.T @ items, row)
    for position in ((3, 0), (7, 2), (20, 5), (11, 1)):
        step = np.zeros(items.shape)
        step[position] = 1e-4
        slope = (loss(items + step, vector) - loss(items - step, vector)) / 2e-4
        assert gradient[position] == pytest.approx(slope, rel=1e-2, abs=1e-4)


def test_the_same_document_draws_the_same_picture(tmp_path: Path) -> None:
    results = [
        {"what": "fedrec", "users": 10, "seconds": 0.3, "phases": {"sum": 0.2, "update": 0.1}, "peak_rss_mb": 300.0},
        {"what": "flower", "users": 5, "seconds": 2.0, "peak_rss_mb": None},
    ]
    draw({"results": results}, tmp_path / "a.svg")
    draw({"results": results}, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the memory of a process tree")
def test_memory_of_the_tree_includes_children() -> None:
    import subprocess
    import time

    with TreeMemory() as alone:
        time.sleep(1.2)
    with TreeMemory() as together:
        child = subprocess.Popen([sys.executable, "-c", "x = b'1' * 200_000_000; import time; time.sleep(2.5)"])
        child.wait()
    assert alone.peak_mb is not None
    assert together.peak_mb is not None
    assert together.peak_mb > alone.peak_mb + 150
    assert own_peak_mb() > 20


SMALL_SCALE = ["bench", "scale", "--items", "120", "--interactions", "8", "--repeat", "2", "--threads", "1"]


@pytest.mark.usefixtures("in_this_process")
def test_every_kind_of_round_is_measured_apart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chosen = ["--algorithm", "als,kernel-rank", "--set", "als.dim=4", "--set", "kernel-rank.hidden=0"]
    assert run([*SMALL_SCALE, *chosen, "--users", "60,90", "--out", str(tmp_path / "s"), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document == json.loads((tmp_path / "s" / "scale.json").read_text())
    assert [(r["users"], r["algorithm"]) for r in document["results"]] == [
        (60, "als"),
        (60, "kernel-rank"),
        (90, "als"),
        (90, "kernel-rank"),
    ]
    als, kernel = document["results"][:2]
    assert [kind["round"] for kind in als["kinds"]] == ["gram+items"]
    assert [kind["round"] for kind in kernel["kinds"]] == ["popularity", "cooccurrence", "weights"]
    # Of each event the item's position and row of 4 numbers; the sums of 10 + 120 x 15 numbers, written and read.
    assert als["kinds"][0]["needed_bytes"] == 60 * 8 * (8 + 16) + 2 * 8 * (10 + 120 * 15)
    for result in document["results"]:
        assert result["peak_device_mb"] is None
        assert 0.1 < result["copy_gb_per_second"] < 10_000
        for kind in result["kinds"]:
            copied = kind["needed_bytes"] / (1e9 * result["copy_gb_per_second"])
            assert kind["bandwidth_fraction"] == pytest.approx(copied / kind["seconds"])
            assert kind["users_per_second"] == pytest.approx(result["users"] / kind["seconds"])
    assert [len(kind["rounds"]) for kind in kernel["kinds"]] == [1, 1, 2]  # the first two come once in a run
    assert [kind["warm"] for kind in kernel["kinds"]] == [0, 0, 1]
    assert (tmp_path / "s" / "scale.svg").read_text().startswith("<?xml")


@pytest.mark.usefixtures("in_this_process")
def test_a_whole_run_ends_with_the_ranks_of_a_sample(capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--algorithm", "kernel-rank", "--users", "80", "--set", "kernel-rank.rounds=2", "--evaluated", "20"]
    assert run([*SMALL_SCALE, *small, "--whole", "--epsilon", "4", "--json"]) == 0
    (result,) = json.loads(capfd.readouterr().out)["results"]
    assert 0 < result["epsilon"] <= 4
    assert (result["users"], result["evaluated"]) == (80, 20)
    assert sum(kind["rounds"] for kind in result["kinds"]) == 2 + len(result["kinds"]) - 1
    assert 0 <= result["metrics"]["hr@10"] <= 1
    assert result["seconds"] > result["training_seconds"] > 0
    assert run([*SMALL_SCALE, *small, "--whole", "--epsilon", "much"]) == 2


def test_the_newest_event_of_a_generated_user_is_withheld() -> None:
    whole = SyntheticUsers(30, 40, 6)
    rest, split = WithoutNewest(whole), held_out(WithoutNewest(whole), 10, 3)
    rows = whole.batch(np.arange(30), 3).items.view(30, 6)
    assert torch.equal(rest.batch(np.arange(30), 3).items.view(30, 5), rows[:, :-1])
    assert torch.equal(rest.batch(np.arange(30), 3).keys, rest.keys(np.arange(30), 3))
    assert len(split.targets) == 10
    for place, user in enumerate(split.device.identities):
        assert split.targets[place] == rows[user, -1]
        assert split.device.row(place).tolist() == rows[user, :-1].tolist()


@pytest.mark.usefixtures("in_this_process")
def test_half_precision_is_measured_too(capfd: pytest.CaptureFixture[str]) -> None:
    chosen = ["--algorithm", "fcf", "--users", "40", "--precision", "bfloat16"]
    assert run([*SMALL_SCALE, *chosen]) == 0
    assert "fcf: gradient" in capfd.readouterr().out


def test_full_ranking_is_measured_beside_the_plain_product(capfd: pytest.CaptureFixture[str]) -> None:
    sizes = ["--users", "60", "--items", "300", "--interactions", "9", "--held-out", "1,3", "--dim", "8"]
    assert run(["bench", "ranking", *sizes, "--json"]) == 0
    results = json.loads(capfd.readouterr().out)["results"]
    assert [result["held_out"] for result in results] == [1, 3]
    for result in results:
        assert result["ratio"] == pytest.approx(result["cpu_seconds"] / result["plain_cpu_seconds"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scale", "--set", "dim=3"], "ALGORITHM.KEY=VALUE"),
        (["scale", "--set", "spectral.rank=3"], "ALGORITHM.KEY=VALUE"),
        (["scale", "--algorithm", "asl", "--users", "9"], "Did you mean 'als'?"),
        (["scale", "--device", "tpu"], "must be cpu, cuda"),
        (["scale", "--precision", "float16"], "--precision: unknown 'float16'"),
        (["ranking", "--held-out", "0"], "--held-out 0: must be at least 1"),
    ],
)
def test_bad_input_to_scale_gives_one_line(arguments: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]


@pytest.mark.parametrize("sampling", ["1", "0.1"])
def test_a_ledger_is_measured_and_its_proof_is_small(sampling: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "ledger", "--rounds", "40", "--sampling", sampling, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["rounds"] == 40
    assert document["append_ms"]["median"] > 0
    path = 14 - 6  # hashes that a proof among ten thousand has more than one among forty
    assert document["proof_bytes"] + path * 45 < 2048


def test_charges_are_priced_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "charges", "--rounds", "3", "--sampling", "0.1", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["rounds"] == 5  # counts before and private metrics after the steps
    assert found["charges_per_cpu_second"] == pytest.approx(5 / found["charges_cpu_seconds"])
    assert 1.9 < float(found["epsilon"]["pld"]) <= 2
