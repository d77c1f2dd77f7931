"""A policy's file is read strictly; a run's terms off the policy are refused, each with its reason."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from fedrec_client.consent.objections import objections
from fedrec_client.consent.policy import DataPolicy, Policy, RunPolicy, ServerPolicy, load, parse

from fedrec.errors import InputError
from tests.client.consent.runs import query, run

NOW = 1_800_000_000.0


def test_the_file_with_defaults_is_the_default_policy() -> None:
    assert parse(Policy().text(), "policy") == Policy()
    assert parse("", "policy") == Policy()
    changed = replace(Policy(), data=DataPolicy(datasets=('a "b" \\c',), opted_out=True, oldest_days=7.5))
    assert parse(changed.text(), "policy") == changed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[run]\nepsilom = 3", r"unknown key 'run.epsilom'. Did you mean 'run.epsilon'\?"),
        ("[runs]\nepsilon = 3", r"unknown key 'runs'. Did you mean 'run'\?"),
        ("opted_out = true", r"unknown key 'opted_out'. Did you mean 'data.opted_out'\?"),
        ("[period]\nclip_norm = 3", r"Did you mean 'run.clip_norm'\?"),
        ("run = 3", "must be a table"),
        ("[run]\nepsilon = true", "must be a number"),
        ("[run]\nepsilon = 'x'", "must be a number"),
        ("[run]\nepsilon = inf", "at least"),
        ("[run]\nepsilon = nan", "at least"),
        ("[run]\nepsilon = 0", "at least"),
        ("[run]\nepsilon = 101", "at most 100"),
        ("[run]\nrounds = 2.0", "whole number"),
        ("[run]\ntrust = 'central'", "list of texts"),
        ("[run]\ntrust = ['centrall']", r"Did you mean 'central'\?"),
        ("[data]\nopted_out = 1", "true or false"),
        ("[run", "no TOML"),
    ],
)
def test_what_cannot_be_a_policy_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=line) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="policy init"):
        load(tmp_path / "none.toml")
    (tmp_path / "b").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="no UTF-8"):
        load(tmp_path / "b")


def against(terms, policy: Policy = Policy(), users: int = 50, public: bool = False) -> str:
    return "; ".join(objections(policy, terms, users=users, public=public, now=NOW))


def test_an_honest_run_is_let_in() -> None:
    assert against(run()) == ""
    assert against(run(carded=True, expires=NOW + 86400)) == ""
    assert against(run(trust="central")) == ""
    assert against(run(trust="none", epsilon=math.inf, delta=0.0, minimum_cohort=1.0), public=True) == ""


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"rounds": ((query(clip=None),),)}, "clip none"),
        ({"rounds": ((query(clip=math.inf),),)}, "clip inf"),
        ({"rounds": ((query(clip=math.nan),),)}, "clip nan"),
        ({"rounds": ((query(clip=1e9),),)}, "clip 1e"),
        ({"rounds": ((query(), query(clip=-1.0)),)}, "clip -1"),
        ({"rounds": ((query(noise=0.0),),)}, "noise of 0"),
        ({"rounds": ((query(noise=0.01),),)}, "noise of 0.01"),
        ({"rounds": ((query(noise=math.nan),),)}, "noise of nan"),
        ({"rounds": ((query(noise=math.inf),),)}, "noise of inf"),
        ({"rounds": ((query(noise=0.2),),) * 10}, "all rounds together cost"),
        ({"rounds": ()}, "0 rounds"),
        ({"rounds": ((query(),),) * 1001}, "1001 rounds"),
        ({"rounds": ((query(shape=(1 << 29,)),),)}, "numbers"),
        ({"rounds": ((query(shape=(-5, 5)),),)}, "numbers"),
        ({"minimum_cohort": 1.0}, "cohorts of 1 users"),
        ({"minimum_cohort": math.nan}, "cohorts of nan users"),
        ({"minimum_cohort": 2000.0}, "in a population"),
        ({"users": 10}, "this node alone hosts 50"),
        ({"epsilon": 11.0}, "epsilon 11"),
        ({"epsilon": math.inf}, "epsilon inf"),
        ({"epsilon": math.nan}, "epsilon nan"),
        ({"epsilon": 0.0}, "epsilon 0"),
        ({"delta": 1e-4}, "delta 0.0001"),
        ({"delta": math.nan}, "delta nan"),
        ({"sampling": 0.0}, "sampling"),
        ({"sampling": 1.5}, "sampling"),
        ({"trust": "none"}, "trust model 'none'"),
        ({"expires": NOW - 1}, "expired"),
        ({"expires": math.nan}, "expired"),
        ({"carded": True}, "or never"),
        ({"carded": True, "expires": NOW + 1e9}, "ends later"),
        ({"carded": True, "expires": math.inf}, "ends later"),
        ({"shares": 476}, "24 colluding of 500 users"),
        ({"shares": None}, "0 colluding of 500 users"),
    ],
)
def test_terms_off_the_default_policy_are_refused(changed: dict, line: str) -> None:
    assert line in against(run(**changed))


PINNED = Policy(server=ServerPolicy(ledger_keys=("key-a",), witnesses=("w1", "w2")))
CARD = {"carded": True, "expires": NOW + 3600, "ledger_key": "key-a", "witnesses": ("w2",)}


@pytest.mark.parametrize(
    ("policy", "changed", "line"),
    [
        (PINNED, {}, "no signed card"),
        (Policy(server=ServerPolicy(witnesses=("w1",))), {}, "no signed card"),
        (PINNED, CARD, ""),
        (PINNED, CARD | {"ledger_key": "key-b"}, "ledger key key-b"),
        (PINNED, CARD | {"witnesses": ("w3",)}, "no cosignature"),
        (Policy(run=RunPolicy(trust=("distributed",))), {"trust": "central"}, "trust model 'central'"),
        (Policy(run=RunPolicy(algorithms=("als",))), {}, "algorithm 'popularity'"),
        (Policy(run=RunPolicy(algorithms=("popularity",))), {}, ""),
        (Policy(run=RunPolicy(algorithms=(f"popularity@{'ab' * 8}",))), {}, ""),
        (Policy(run=RunPolicy(algorithms=("popularity@abab",))), {}, "algorithm"),
        (Policy(run=RunPolicy(algorithms=(f"popularity@{'cd' * 8}",))), {}, "algorithm"),
        (Policy(data=DataPolicy(datasets=("ml-1m",))), {"dataset": "gowalla"}, "dataset 'gowalla'"),
        (Policy(run=RunPolicy(smallest_sum=60)), {"trust": "central"}, "smallest_sum"),
        (Policy(run=RunPolicy(colluding=0.2)), {}, "run.colluding = 0.2 asks for more"),
        (Policy(run=RunPolicy(colluding=0.2)), {"shares": 400}, ""),
        (Policy(run=RunPolicy(colluding=0.2)), {"trust": "local", "shares": 1}, ""),
        (Policy(run=RunPolicy(colluding=0.0)), {"shares": 500}, ""),
    ],
)
def test_what_an_operator_asks_for_is_held(policy: Policy, changed: dict, line: str) -> None:
    found = against(run(**changed), policy)
    assert line in found
    assert bool(found) == bool(line)


def test_public_data_need_no_privacy_and_still_have_limits_of_size() -> None:
    for changed in ({"users": 10}, {"rounds": ()}, {"rounds": ((query(shape=(1 << 29,)),),)}, {"expires": 1.0}):
        assert against(run(**changed), public=True)
