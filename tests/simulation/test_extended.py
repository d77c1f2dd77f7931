"""`evaluation.extended` and `evaluation.keep_ranks`: nothing but the contract unless asked, and all of it then."""

import json

import pytest

from fedrec.cli import run
from fedrec.evaluation.kept import load_ranks
from fedrec.evaluation.significance import user_values

SMALL = ["data.users=120", "data.items=150", "algorithm.name=popularity", "privacy.epsilon=8"]


def simulate(folder, *changes):
    command = ["simulate", "--out", str(folder), "--seed", "3", "--quiet"]
    for change in (*SMALL, *changes):
        command += ["--set", change]
    assert run(command) == 0
    return json.loads((folder / "private" / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("split", ["leave-one-out", "ratio"])
def test_what_is_asked_for_is_added_and_nothing_else_changes(split, tmp_path):
    plain = simulate(tmp_path / "plain", f"data.split={split}")
    whole = simulate(
        tmp_path / "whole", f"data.split={split}", "evaluation.extended=true", "evaluation.keep_ranks=true"
    )
    assert not (tmp_path / "plain" / "private" / "evaluation").exists()
    more = whole["metrics"].pop("more")
    assert whole["metrics"] == plain["metrics"]
    assert {"f1@10", "map@10", "auc", "gini@10", "novelty@10", "popularity-lift@10", "diversity@10", "groups"} <= set(
        more
    )
    assert set(whole["baselines"]["dp-popularity"]["more"]) == set(more)
    found = load_ranks(tmp_path / "whole" / "private" / "evaluation" / "ranks.npz")
    assert user_values(found, "ndcg@10").mean() == pytest.approx(plain["metrics"]["full"]["ndcg@10"])
    assert "evaluation/ranks.npz" in whole["evaluation"]["note"]
