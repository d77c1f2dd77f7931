"""A metric of another package: asked for by name, measured below "more", named in the ledger; none replaces another."""

import json
import sys

import pytest
import torch

import fedrec
from fedrec import cli, plugins
from fedrec.audit.log.ledger import read_ledger
from fedrec.errors import InputError
from fedrec.evaluation.metrics import OF_LISTS, Placed, hr, values
from fedrec.run.scenario import load_scenario
from tests.foreign import install

SMALL = ["data.users=60", "data.items=30", "algorithm.name=popularity", "evaluation.every=0", "privacy.epsilon=8"]
METRIC = """
from fedrec.evaluation.metrics import hr


def first(placed, k):
    return {value}


def depth(placed):
    return placed.total(placed.ranks.double()) / placed.counts
"""
ENTRIES = {"fedrec.metrics:first-k": "first", "fedrec.metrics:depth": "depth"}
PLACED = Placed.one(torch.tensor([0, 4, 12]))


def simulate(folder, *changes: str) -> int:
    options = [part for change in (*SMALL, *changes) for part in ("--set", change)]
    return cli.run(["simulate", "quickstart", "--out", str(folder), "--seed", "3", "--quiet", *options])


def summary(folder) -> dict:
    return json.loads((folder / "private" / "summary.json").read_text())


def test_a_packages_metric_is_measured_and_the_ledger_names_it(tmp_path, monkeypatch, capsys):
    install(monkeypatch, tmp_path, "stranger", "metric_a", METRIC.format(value="hr(placed, k)"), ENTRIES)
    asked, plain = tmp_path / "asked", tmp_path / "plain"
    assert simulate(plain) == 0
    assert "metric_a" not in sys.modules, "imported before a run named it"
    assert simulate(asked, "evaluation.metrics=first-k@10,depth,ndcg@5") == 0, capsys.readouterr().err
    found = summary(asked)["metrics"]
    more = found.pop("more")
    assert found == summary(plain)["metrics"]
    assert set(more) == {"first-k@10", "depth", "ndcg@5"}
    assert more["first-k@10"] == found["full"]["hr@10"]
    assert set(summary(asked)["baselines"]["popularity"]["more"]) == set(more)

    begin, without = (
        read_ledger(each / "release" / "privacy" / "ledger.jsonl")[0][0].payload for each in (asked, plain)
    )
    assert begin["software"]["metric first-k"].startswith("stranger 1.5, metric_a.py, sha256 ")
    assert {"metric first-k", "metric depth"} == begin["software"].keys() - without["software"].keys()
    assert any("metric depth is code of others" in note for note in begin["notes"])
    assert without["notes"] == []
    assert cli.run(["audit", "verify", str(asked), "--trust-run-key"]) == 0
    capsys.readouterr()
    assert cli.run(["evaluate", str(asked), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["more"] == more
    measured = fedrec.load_run(asked).evaluate(metrics=["depth"])
    assert measured["more:depth"] == more["depth"]


def test_a_scenario_without_them_is_the_text_that_it_was():
    assert "metrics" not in load_scenario("quickstart").resolved()["evaluation"]
    scenario = load_scenario("quickstart", ["evaluation.metrics=ndcg@5, auc"])
    assert scenario.evaluation.metrics == ("ndcg@5", "auc")
    assert 'metrics = ["ndcg@5", "auc"]' in scenario.toml()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no-such@10", "unknown metric 'no-such'"),
        ("first-k", "needs a cut-off"),
        ("first-k@0", "needs a cut-off"),
        ("depth@10", "has no cut-off"),
        ("novelty@10", "set evaluation.extended=true"),
    ],
)
def test_a_metric_that_cannot_be_is_one_line_before_anything_is_written(tmp_path, monkeypatch, capsys, name, reason):
    install(monkeypatch, tmp_path, "stranger", "metric_b", METRIC.format(value="hr(placed, k)"), ENTRIES)
    assert simulate(tmp_path / "run", f"evaluation.metrics={name}") == 2
    line = capsys.readouterr().err
    assert reason in line
    assert line.count("\n") == 1
    assert not (tmp_path / "run" / "release" / "privacy").exists()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0.5", "returned no finite value for each of the 3 users"),
        ("hr(placed, k)[:2]", "returned no finite value"),
        ("hr(placed, k) / 0", "returned no finite value"),
        ("placed.nothing", "AttributeError"),
    ],
)
def test_a_metric_that_returns_no_value_a_user_is_refused(tmp_path, monkeypatch, value, reason):
    module = f"metric_{abs(hash(value))}"
    install(monkeypatch, tmp_path, "stranger", module, METRIC.format(value=value), ENTRIES)
    with pytest.raises(InputError, match=r"metric 'first-k@10'") as refused:
        values(PLACED, "first-k@10")
    assert reason in str(refused.value)


def test_no_package_replaces_a_metric_and_no_process_runs_one_that_it_does_not_allow(tmp_path, monkeypatch, caplog):
    source = METRIC.format(value="hr(placed, k)") + "\nraise SystemError('imported')\n"
    entries = {f"fedrec.metrics:{name}": "first" for name in ("hr", "novelty", "mine")}
    install(monkeypatch, tmp_path, "thief", "thief_metric", source, entries)
    assert values(PLACED, "hr@10").equal(hr(PLACED, 10))
    assert "metric 'hr' of package thief 1.5 is not used: the name is built in" in caplog.text
    for name in sorted(OF_LISTS):
        with pytest.raises(InputError, match="is no metric of ranks"):
            values(PLACED, f"{name}@10")
    with plugins.only([]), pytest.raises(plugins.PluginRefused, match="metric 'mine' is not built in"):
        values(PLACED, "mine@10")
    assert "thief_metric" not in sys.modules
