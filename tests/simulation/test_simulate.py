"""`fedrec simulate` as a person meets it: what it writes and what it refuses."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file

from fedrec.algorithms.discover import load_model, model_items
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run

SMALL = ["--set", "data.users=80", "--set", "data.items=150", "--set", "data.interactions_per_user=12"]
POPULARITY = [*SMALL, "--set", "algorithm.name=popularity"]
ALS = [*SMALL, "--set", "algorithm.name=als", "--set", "algorithm.dim=4", "--set", "algorithm.rounds=3"]
Simulate = Callable[..., int]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Simulate:
    """`fedrec simulate ARGUMENTS` in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDREC_DATA", raising=False)
    return lambda *arguments: run(["simulate", *map(str, arguments)])


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "private" / "summary.json").read_text())


def model(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "release" / "model" / "model.safetensors")


def test_a_run_directory_holds_everything(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*ALS, "--out", "r", "--seed", 4, "--quiet") == 0
    folder = tmp_path / "r"
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {
        "private/checkpoint.safetensors",
        "private/history.csv",
        "private/plots/budget.svg",
        "private/plots/epsilon.svg",
        "private/plots/metrics.svg",
        "private/plots/training.svg",
        "private/salt",
        "private/summary.json",
        "release/model/items.json",
        "release/model/manifest.json",
        "release/model/model.safetensors",
        "release/privacy/checkpoint",
        "release/privacy/ledger.jsonl",
        "release/privacy/ledger.pub",
        "release/privacy/report.html",
        "release/privacy/statement.json",
        "release/privacy/statement.md",
        "release/scenario.toml",
    }
    for file in (folder / "private" / "plots").iterdir():
        assert ElementTree.parse(file).getroot().tag.endswith("svg")
    told = summary(folder)
    assert told["seed"] == 4
    assert told["dataset"]["users"] == 80
    assert {"hr@10", "ndcg@10", "recall@20", "ndcg@100", "coverage@10"} <= told["metrics"]["full"].keys()
    assert set(told["baselines"]) == {"popularity", "dp-popularity"}
    assert told["baselines"]["dp-popularity"]["full"].keys() == told["metrics"]["full"].keys()
    assert told["order_free"]["full"].keys() == told["metrics"]["full"].keys()
    privacy = told["privacy"]
    keys = "unit guarantee trust epsilon delta accountants noise_multipliers clip_norms sampling rounds adversaries"
    assert set(keys.split()) <= privacy.keys()
    assert privacy["epsilon"] == pytest.approx(4, abs=0.01)
    assert set(privacy["accountants"]) >= {"pld", "rdp"}
    assert sum(privacy["budget_shares"].values()) == pytest.approx(1)
    with (folder / "private" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    rounds = told["cost"]["rounds"]
    assert [int(row["round"]) for row in rows] == list(range(rounds))
    assert float(rows[-1]["epsilon_pld"]) == pytest.approx(privacy["epsilon"])
    assert told["cost"]["message_bytes_up"] == sum(int(row["bytes_up"]) for row in rows)
    assert told["cost"]["peak_rss_mb"] > 50
    types = [entry.payload["type"] for entry in read_ledger(folder / "release" / "privacy" / "ledger.jsonl")[0]]
    assert types == ["begin", *["charge"] * rounds, "end", "files"]
    assert run(["audit", "verify", str(folder), "--trust-run-key"]) == 0
    released = folder / "release" / "model"
    assert len(model_items(released)) == told["dataset"]["items"]
    assert load_model(released).kind == json.loads((released / "manifest.json").read_text())["kind"]


def test_what_was_chosen_from_the_budget_is_told(simulate: Simulate, tmp_path: Path) -> None:
    few = [
        *("--set", "algorithm.kernel_rank=4", "--set", "algorithm.head_items=20"),
        *("--set", "evaluation.baselines=false"),
    ]
    chosen = {}
    for epsilon in ("1", "none"):
        folder = tmp_path / epsilon
        changes = ["--set", f"privacy.epsilon={epsilon}", "--set", "evaluation.every=0"]
        assert simulate(*SMALL, *few, *changes, "--out", folder, "--seed", 1, "--quiet") == 0
        chosen[epsilon] = settings = summary(folder)["settings"]
        # Too few users for hidden units, with privacy or without.
        assert (settings["hidden"], settings["rounds"], settings["head_items"]) == (0, 40, 20)
        assert sum(value for name, value in settings.items() if name.endswith("_share")) == pytest.approx(1.0)
    assert chosen["1"]["popularity_share"] > chosen["none"]["popularity_share"]
    assert chosen["1"]["learning_rate"] < chosen["none"]["learning_rate"]


def test_json_is_all_that_standard_output_holds(simulate: Simulate, tmp_path: Path, capsys: Any) -> None:
    assert simulate(*POPULARITY, "--out", "r", "--json", "--seed", 1) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == summary(tmp_path / "r")
    assert "round 1/1:" in captured.err


def test_what_a_person_reads_at_the_end(simulate: Simulate, capsys: Any) -> None:
    assert simulate(*POPULARITY, "--out", "r", "--seed", 1) == 0
    shown = capsys.readouterr().out
    for part in (
        "DP popularity, epsilon 4",
        "popularity, not private",
        "order of events ignored",
        "epsilon 4",
        "r/release:",
    ):
        assert part in shown


def test_a_seed_repeats_every_bit_and_the_resolved_scenario_does_too(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*ALS, "--out", "a", "--seed", 7, "--quiet") == 0
    assert simulate(*ALS, "--out", "b", "--seed", 7, "--quiet") == 0
    assert simulate("a/release/scenario.toml", "--out", "c", "--quiet") == 0
    first, second, third = (model(tmp_path / name) for name in "abc")
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name], third[name])
    for part in ("metrics", "baselines", "privacy", "order_free"):
        assert summary(tmp_path / "a")[part] == summary(tmp_path / "b")[part] == summary(tmp_path / "c")[part]


def test_without_a_seed_the_noise_is_fresh_and_no_seed_is_written(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*POPULARITY, "--out", "a", "--quiet") == 0
    assert simulate(*POPULARITY, "--out", "b", "--quiet") == 0
    assert not torch.equal(model(tmp_path / "a")["scores"], model(tmp_path / "b")["scores"])
    text = (tmp_path / "a" / "release" / "scenario.toml").read_text()
    assert text.startswith("# No seed on purpose")
    assert "\nseed" not in text
    assert summary(tmp_path / "a")["seed"] is None
    assert "CSPRNG" in summary(tmp_path / "a")["privacy"]["noise_source"]


def test_without_privacy_the_drawn_seed_is_written_and_repeats(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*ALS, "--set", "privacy.epsilon=none", "--out", "a", "--quiet") == 0
    assert simulate("a/release/scenario.toml", "--out", "b", "--quiet") == 0
    first, second = model(tmp_path / "a"), model(tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)
    told = summary(tmp_path / "a")
    assert told["privacy"]["epsilon"] is None
    assert told["privacy"]["guarantee"] == "none"
    assert "dp-popularity" not in told["baselines"]


def test_private_metrics_are_reported_and_paid_for(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*POPULARITY, "--set", "privacy.evaluation_share=0.2", "--out", "r", "--seed", 1, "--quiet") == 0
    told = summary(tmp_path / "r")
    assert told["evaluation"]["private"]["hr@10"]["std"] > 0
    assert told["privacy"]["budget_shares"]["evaluation"] == pytest.approx(0.2)
    assert told["cost"]["rounds"] == 2


REFUSED: dict[str, tuple[list[str], str]] = {
    "unknown scenario": (["quickstrat"], "Did you mean 'quickstart'"),
    "unknown key": (["--set", "privacy.epsilom=1"], "Did you mean 'privacy.epsilon'"),
    "unknown dataset": (["--set", "data.name=ml-1n", "--data-dir", "."], "ml-1"),
    "dataset without a folder": (["ml-1m"], "--data-dir"),
    "dataset folder missing": (["ml-1m", "--data-dir", "."], "ml-1m"),
    "epsilon 0": (["--set", "privacy.epsilon=0"], "privacy.epsilon"),
    "negative epsilon": (["--set", "privacy.epsilon=-2"], "privacy.epsilon"),
    "delta too large": ([*POPULARITY, "--set", "privacy.delta=0.5"], "1/users"),
    "sampling 0": (["--set", "privacy.sampling=0"], "privacy.sampling"),
    "sampling above 1": (["--set", "privacy.sampling=1.1"], "privacy.sampling"),
    "no such engine": (["--engine", "ray"], "engine.name"),
    "a leak on Flower's nodes": (
        ["--engine", "flower", "--set", "evaluation.leaky_negatives=true"],
        "never has a held-out item",
    ),
    "no such device": (["--device", "tpu"], "engine.device"),
    "resume without a folder": (["--resume"], "--out"),
    "resume of nothing": (["--resume", "--out", "none"], "holds no run"),
    "set without a value": (["--set", "privacy.epsilon"], "key=value"),
    "unknown option": (["--sed", "1"], "--see"),
    "seed that is no number": (["--seed", "x"], "x"),
    "unknown split": (["--set", "data.split=random"], "data.split"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(case: str, simulate: Simulate, tmp_path: Path, capsys: Any) -> None:
    arguments, message = REFUSED[case]
    assert simulate(*arguments, *([] if "--out" in arguments or case.startswith("resume") else ["--out", "r"])) == 2
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not (tmp_path / "r").exists(), "nothing is left behind"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_refused(simulate: Simulate, capsys: Any) -> None:
    assert simulate("--device", "cuda") == 2
    assert "no usable CUDA device; use cpu" in capsys.readouterr().err


def test_a_clip_of_zero_is_refused(simulate: Simulate, capsys: Any) -> None:
    assert simulate(*ALS, "--set", "algorithm.gram_clip_norm=0") == 2
    assert "gram_clip_norm" in capsys.readouterr().err.splitlines()[-1]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("user_id,item_id\n", "no "),
        ("item_id,rating\na,1\n", "user"),
        ("user_id,rating\na,1\n", "item"),
    ],
)
def test_a_log_that_is_none_is_refused(
    content: str, message: str, simulate: Simulate, tmp_path: Path, capsys: Any
) -> None:
    log = write(tmp_path / "log.csv", content)
    assert simulate("--set", f"data.path={log}", "--out", "r") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "log.csv" in last
    assert message in last


def test_a_log_of_ones_own_runs(simulate: Simulate, tmp_path: Path) -> None:
    events = "".join(f"u{user},i{(user * 7 + step * step) % 40},{step}\n" for user in range(30) for step in range(6))
    log = write(tmp_path / "log.csv", "user_id,item_id,timestamp\n" + events)
    arguments = ["--set", f"data.path={log}", "--set", "algorithm.name=popularity", "--set", "privacy.delta=1e-3"]
    assert simulate(*arguments, "--out", "r", "--quiet") == 0
    assert summary(tmp_path / "r")["dataset"]["users"] == 30


def test_where_the_number_of_users_comes_from_is_told_as_it_is(simulate: Simulate, tmp_path: Path) -> None:
    rows = "".join(f"{u},{i},{1 if u == 3 else 5},{i}\n" for u in range(30) for i in range(u % 3, 30, 3))
    (tmp_path / "log.csv").write_text("user_id,item_id,rating,timestamp\n" + rows)
    cheap = ["--set", "data.path=log.csv", "--set", "algorithm.name=popularity", "--quiet"]
    known = {}
    for out, more in {"all": [], "rated": ["--set", "data.min_rating=2"], "core": ["--set", "data.k_core=3"]}.items():
        assert simulate(*cheap, *more, "--out", out) == 0
        known[out] = read_ledger(tmp_path / out / "release" / "privacy" / "ledger.jsonl")[0][0].payload["population"]
    assert known["all"] == {"users": 30, "known": "counted in the log, and taken as public"}
    assert known["rated"]["users"] == 29
    assert "after data.min_rating = 2: a person without an event left is not counted" in known["rated"]["known"]
    assert "after data.k_core = 3: a person" in known["core"]["known"]


def test_a_folder_that_holds_a_run_or_anything_else_is_refused(simulate: Simulate, tmp_path: Path, capsys: Any) -> None:
    assert simulate(*POPULARITY, "--out", "r", "--quiet") == 0
    before = {file: file.read_bytes() for file in (tmp_path / "r").rglob("*") if file.is_file()}
    assert simulate(*POPULARITY, "--out", "r", "--quiet") == 2
    assert "--resume" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in (tmp_path / "r").rglob("*") if file.is_file()}
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "thesis.txt", "words")
    assert simulate(*POPULARITY, "--out", "mine", "--quiet") == 2
    assert "not empty" in capsys.readouterr().err
    assert simulate(*POPULARITY, "--out", "mine/thesis.txt", "--quiet") == 2
    assert "is a file" in capsys.readouterr().err


def test_public_features_alone_release_nothing_of_anybody(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*SMALL, "--set", "algorithm.name=content", "--out", "r", "--quiet") == 0
    told = summary(tmp_path / "r")
    assert told["privacy"]["epsilon"] == 0
    assert told["cost"]["rounds"] == told["cost"]["message_bytes_up"] == 0


def test_a_sample_of_the_users_may_be_ranked(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*POPULARITY, "--set", "evaluation.users=9", "--out", "r", "--quiet") == 0
    metrics = summary(tmp_path / "r")["metrics"]
    assert metrics["users"] == 9
    assert metrics["rule"].endswith("; a sample of the users")


def test_poisson_rounds_cost_less_than_full_ones_with_the_same_noise(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*ALS, "--set", "privacy.sampling=0.3", "--out", "r", "--seed", 3, "--quiet") == 0
    privacy = summary(tmp_path / "r")["privacy"]
    assert privacy["sampling"] == 0.3
    assert privacy["epsilon"] == pytest.approx(4, abs=0.05)
    assert privacy["adversaries"]["knows_the_cohort"] > privacy["epsilon"]


def test_the_default_folder_names_scenario_and_time(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*POPULARITY, "--quiet") == 0
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name.startswith("quickstart-2")


def test_the_list_names_every_scenario(simulate: Simulate, capsys: Any) -> None:
    assert simulate("--list") == 0
    shown = capsys.readouterr().out
    for name in ("quickstart", "ml-1m", "ml-1m-als", "ml-1m-dp", "ml-100k-dp", "gowalla"):
        assert name in shown
