"""Messages for a wrong setting, option or metric: the nearest one, and the allowed values."""

import pytest
from fedrec_sim.report.table import nearest_metric

from fedrec.cli import run
from fedrec.errors import InputError
from fedrec.run.scenario import checked, load_scenario, setting_names

MEASURED = ["full:coverage@10", "full:hr@10", "full:ndcg@10", "full:ndcg@50", "more:auc", "sampled-99:ndcg@10"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("epsilon=3", "unknown key 'epsilon'. Did you mean 'privacy.epsilon'?"),
        ("algorithm.epsilon=3", "unknown key 'epsilon'. Did you mean 'privacy.epsilon'?"),
        ("rounds=3", "unknown key 'rounds'. Did you mean 'algorithm.rounds'?"),
        ("sampling=0.1", "Did you mean 'privacy.sampling'?"),
        ("privacy.seed=1", "unknown key 'privacy.seed'. Did you mean 'seed'?"),
        ("every=3", "Did you mean 'evaluation.every' or 'stopping.every'?"),
        ("privacy.epsilom=3", "unknown key 'privacy.epsilom'. Did you mean 'privacy.epsilon'?"),
        ("privcy.epsilon=3", "unknown key 'privcy'. Did you mean 'privacy'?"),
        ("xyzzy=3", "unknown key 'xyzzy'. Known: algorithm, data"),
        ("privacy=3", "'privacy' = 3: must be a table of settings; set one of them, e.g. privacy.epsilon"),
        ("privacy.delta=0", "'privacy.delta' = 0: must be above 0 and below 1 / users, e.g. 1e-5"),
        ("privacy.sampling=2", "'privacy.sampling' = 2: must be at most 1"),
        ("privacy.sampling=0", "'privacy.sampling' = 0: must be above 0"),
        ("engine.nodes=1.5", "'engine.nodes' = 1.5: must be a whole number"),
        ("engine.nodes=0", "'engine.nodes' = 0: must be at least 1"),
        ("data.ordered=maybe", "'data.ordered' = 'maybe': must be true or false, or 'lines'"),
        ("data.split=half", "'data.split' = 'half': must be 'leave-one-out', "),
        ("data.hold_out.cut=soon", "'data.hold_out.cut' = 'soon': must be a date, e.g. 2024-05-31"),
        ("name=3", "'name' = 3: must be a text, in quotes"),
    ],
)
def test_a_wrong_setting_is_answered_with_the_one_that_was_meant(change: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("quickstart", [change])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Input should" not in str(caught.value)


def test_a_table_that_is_missing_is_named_with_its_keys() -> None:
    with pytest.raises(InputError, match=r"'data' is missing: add a table \[data\] with name or path: which log"):
        checked({"name": "x", "algorithm": {"name": "als"}}, "x.toml")
    with pytest.raises(InputError, match=r"'algorithm' is missing: add a table \[algorithm\]: `name`"):
        checked({"name": "x", "data": {"name": "quickstart"}}, "x.toml")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulate", "--epsilon", "3"], "no such option: --epsilon; it is a setting: --set privacy.epsilon=... (see"),
        (["simulate", "--privacy.epsilon=3"], "it is a setting: --set privacy.epsilon=..."),
        (["simulate", "--min-rating", "4"], "it is a setting: --set data.min_rating=..."),
        (["simulate", "--sed", "4"], "no such option: --sed. Did you mean --seed?"),
        (["server", "run", "--sampling", "1"], "it is a setting: --set privacy.sampling=..."),
        (["simulate", "--xyzzy"], "no such option: --xyzzy (see `fedrec simulate --help`)"),
    ],
)
def test_an_option_that_is_a_setting_is_answered_with_it(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_every_setting_has_one_name() -> None:
    names = setting_names()
    assert len(set(names)) == len(names)
    assert {"privacy.epsilon", "data.hold_out.share", "algorithm.dim", "seed"} <= set(names)


@pytest.mark.parametrize(
    ("metric", "hint"),
    [
        ("ndcg", "'full:ndcg@10'"),
        ("full:ndcg", "'full:ndcg@10'"),
        ("ndcg@50", "'full:ndcg@50'"),
        ("sampled-99:ndcg@50", "'sampled-99:ndcg@10'"),
        ("full:ndgc@10", "'full:ndcg@10'"),
        ("auc", "'more:auc'"),
    ],
)
def test_a_metric_without_a_cut_off_means_the_usual_one(metric: str, hint: str) -> None:
    assert nearest_metric(metric, MEASURED) == f" Did you mean {hint}?"
