"""Trust models `distributed` and `local`, from the command line to a verified ledger."""

import json
from pathlib import Path

import numpy as np
import pytest

import fedrec
from fedrec.cli import run
from fedrec.privacy.explanation import explain
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

SMALL = ["data.users=120", "data.items=60", "data.interactions_per_user=12", "evaluation.every=0"]
SETTINGS = {change.partition("=")[0]: int(change.partition("=")[2]) for change in SMALL}
RANK = {"algorithm.name": "kernel-rank", "algorithm.kernel_rank": 16, "algorithm.weight_rounds": 2}
RANK |= {"algorithm.cooccurrence": True, "algorithm.head": 20, "evaluation.baselines": False}
ALS = {"algorithm.name": "als", "algorithm.dim": 4, "algorithm.rounds": 2, "evaluation.baselines": False}


def simulated(folder: Path, trust: str, algorithm: dict, **changes: object) -> fedrec.Run:
    scenario = fedrec.load_scenario("quickstart", SETTINGS | algorithm | {"privacy.trust": trust} | changes)
    return fedrec.simulate(scenario, seed=3, out=folder, progress=False)


@pytest.mark.parametrize("trust", ["distributed", "local"])
@pytest.mark.parametrize("algorithm", [RANK, ALS], ids=["kernel-rank", "als"])
def test_a_run_is_released_charged_and_verified(tmp_path: Path, trust: str, algorithm: dict) -> None:
    made = simulated(tmp_path / "run", trust, algorithm)
    privacy = json.loads((tmp_path / "run/private/summary.json").read_text())["privacy"]
    assert privacy["trust"] == trust
    assert privacy["epsilon"] == privacy["accountants"]["rdp"] <= 4.0
    assert privacy["accountants"]["pld"] is None
    assert privacy["adversaries"]["server_with_colluders"] == privacy["epsilon"]
    assert fedrec.verify(made, trust_run_key=True).holds
    statement = json.loads((tmp_path / "run/release/privacy/statement.json").read_text())
    assert {row["adversary"] for row in statement["adversaries"]} >= {"server", "secure_aggregation_fails"}
    assert "| no bound |" not in (tmp_path / "run/release/privacy/statement.md").read_text()


def test_chunks_change_no_bit_of_the_model(tmp_path: Path) -> None:
    digests = []
    for number, users in enumerate((7, 1024)):
        simulated(tmp_path / str(number), "distributed", RANK, **{"engine.batch_users": users})
        digests.append((tmp_path / str(number) / "release/model/model.safetensors").read_bytes())
    assert digests[0] == digests[1]


@pytest.mark.parametrize("trust", ["central", "distributed", "local"])
def test_the_explanation_names_every_parameter(trust: str) -> None:
    rounds = [(SumQuery("popularity", (300,), 2.0, 0.5),), (SumQuery("pairs", (140_000,), 1.0, 0.5),)]
    rows = explain(PrivacyPlan.build(PrivacyConfig(epsilon=2.0, trust=trust), rounds, 500, 0))
    names = [row.name for row in rows]
    assert all(row.value and row.why for row in rows)
    assert {"trust", "accountant", "popularity: noise", "pairs: noise"} <= set(names)
    discrete = {"popularity: modulus", "popularity: integers", "pairs: share", "wrap-around"}
    assert discrete <= set(names) if trust != "central" else not discrete & set(names)
    assert ("dropout" in names) == (trust == "distributed")


def test_the_command_explains_and_leaves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changes = [part for change in [*SMALL, "privacy.trust=distributed"] for part in ("--set", change)]
    assert run(["simulate", "--explain-privacy", *changes]) == 0
    shown = capsys.readouterr().out
    for word in ("wrap-around", "dropout", "modulus", "server_with_colluders"):
        assert word in shown


@pytest.mark.parametrize("command", [["local"], ["run", "--set", "data.name=nodes", "--users", "120"]])
def test_a_server_explains_what_a_simulation_does(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The plan of a deployment is that of the simulation of the same population; no node is needed to read it."""
    changes = [*SMALL, "privacy.trust=distributed"]
    if command[0] == "run":
        (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{n},film {n}\n" for n in range(60)))
        changes = ["privacy.trust=distributed", "engine.nodes=4", f"data.catalogue={tmp_path / 'items.csv'}"]
    asked = [part for change in changes for part in ("--set", change)]
    assert run(["server", *command, *asked, "--explain-privacy"]) == 0
    shown = capsys.readouterr().out
    assert "120 users" in shown
    assert "popularity: share" in shown
    if command[0] == "local":
        assert run(["simulate", *asked, "--explain-privacy"]) == 0
        assert capsys.readouterr().out == shown


@pytest.mark.parametrize("trust", ["distributed", "local"])
def test_a_run_with_secret_coins_is_released_charged_and_verified(tmp_path: Path, trust: str) -> None:
    hidden = {"privacy.sampling": 0.4, "privacy.participation": "hidden"}
    made = simulated(tmp_path / "run", trust, ALS, **hidden)
    assert fedrec.verify(made, trust_run_key=True).holds
    statement = json.loads((tmp_path / "run/release/privacy/statement.json").read_text())
    against = {row["adversary"]: row for row in statement["adversaries"]}
    assert float(against["server"]["epsilon"]) <= 4.0 < float(against["knows_the_cohort"]["epsilon"])
    assert "amplified by sampling" in against["server"]["why"]
    assert statement["participation"]["expected_rounds"] == pytest.approx(0.4 * statement["rounds"])
    simulated(tmp_path / "known", trust, ALS, **{"privacy.sampling": 0.4})
    sums = [json.loads((tmp_path / each / "private/summary.json").read_text())["privacy"] for each in ("run", "known")]
    noise = [each["noise_multipliers"] for each in sums]
    assert all(min(np.ravel(noise[0][name])) < max(np.ravel(noise[1][name])) for name in noise[0])


def test_secret_coins_are_refused_where_the_server_adds_the_noise(capsys: pytest.CaptureFixture[str]) -> None:
    changes = [*SMALL, "privacy.sampling=0.5", "privacy.participation=hidden"]
    assert run(["simulate", *[part for change in changes for part in ("--set", change)]]) == 2
    shown = capsys.readouterr().err
    assert "sees which sums are zero" in " ".join(shown.split())
