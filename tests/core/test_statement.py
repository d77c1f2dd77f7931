"""The statement: what it must say, to whom, and that it and the ledger agree."""

import json
from pathlib import Path

import pytest

from fedrec.audit.ledger import Ledger
from fedrec.audit.statement import as_text, statement
from fedrec.errors import VerificationError
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

DATASET = {"name": "toy", "users": 1000, "items": 50, "interactions": 9000, "catalogue": "the items of the log"}
ROUNDS = [(SumQuery("popularity", (50,), 1.0, 0.4),), *[(SumQuery("weights", (3,), 1.0, 0.2),)] * 3]


def run(tmp_path: Path, rounds=ROUNDS, seed: int | None = None, **settings) -> tuple[PrivacyPlan, Ledger]:
    plan = PrivacyPlan.build(PrivacyConfig(**settings), rounds, 1000, seed)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for round in range(len(rounds)):
        ledger.append(plan.charge(round))
    return plan, ledger


def stated(plan: PrivacyPlan, ledger: Ledger, **kwargs) -> tuple[dict, str]:
    found = statement(plan.describe(), ledger, DATASET, **kwargs)
    return json.loads(json.dumps(found, allow_nan=False)), as_text(found)


def test_a_private_run(tmp_path: Path) -> None:
    plan, ledger = run(tmp_path, epsilon=2.0, sampling=0.5)
    found, text = stated(plan, ledger)
    assert len(found["promise"]) == 2
    assert "is right at most 59 times in 100, where tossing a coin" in found["promise"][0]
    assert "at most a factor of 7.38, leaving aside" in found["precisely"]
    assert float(found["epsilon"]) == pytest.approx(2.0, rel=5e-3)
    assert float(found["epsilon"]) >= plan.epsilon()["pld"]
    for value in found["accountants"].values():
        assert value in text
    against = {row["adversary"]: row["epsilon"] for row in found["adversaries"]}
    assert against["server"] is None
    assert float(against["knows_the_cohort"]) > float(against["model_recipients"])
    assert "| the server itself | no bound |" in text
    assert any("keeps secret who takes part" in row["must"] for row in found["assumptions"])
    assert any("catalogue is the items of the log" in what for what in found["not_protected"])
    assert any("true ones, without noise" in what for what in found["not_protected"])
    assert any("whatever epsilon a baseline had" in what for what in found["not_protected"])
    assert any("interactions" in what and "exact" in what for what in found["not_protected"])
    assert any("the number of users, here taken from the log" in row["must"] for row in found["assumptions"])
    assert "the list of items and the number of users count as known" in found["precisely"]
    assert any("floating point" in what for what in found["not_protected"])
    assert [(row["name"], row["rounds"]) for row in found["releases"]] == [("popularity", 1), ("weights", 3)]
    assert found["ledger"] == {"entries": 4, "head": ledger.head, "signed": False}
    assert ledger.head in text
    assert found["noise_source"].startswith("operating system")


def test_seeded_noise_is_said_to_protect_nobody_who_knows_the_seed(tmp_path: Path) -> None:
    found, text = stated(*run(tmp_path, epsilon=1.0, seed=5))
    assert found["promise"][0].startswith("If the noise were secret (here it follows from a seed")
    assert "whoever knows the seed can take the noise off" in text


def test_a_deployment_and_a_given_catalogue_have_fewer_exceptions(tmp_path: Path) -> None:
    plan, ledger = run(tmp_path, epsilon=1.0)
    simulated = statement(plan.describe(), ledger, DATASET)
    deployed = statement(plan.describe(), ledger, DATASET | {"catalogue": "given"}, simulation=False)
    assert len(deployed["not_protected"]) == len(simulated["not_protected"]) - 4
    assert simulated["dataset"]["interactions"] == 9000
    assert "interactions" not in deployed["dataset"], "an exact count of what users did"
    assert "simulation" not in as_text(deployed)


def test_no_guarantee_is_said_plainly(tmp_path: Path) -> None:
    found, text = stated(*run(tmp_path, epsilon="none"))
    assert "There is NO privacy guarantee" in found["promise"][0]
    assert found["epsilon"] is None
    assert found["guarantee"] == "none"
    assert found["assumptions"] == []
    assert set(found["accountants"].values()) == {None}
    assert "| no bound |" in text


@pytest.mark.parametrize("epsilon", [1.0, "none"])
def test_public_content_alone_costs_nothing(tmp_path: Path, epsilon) -> None:
    plan, ledger = run(tmp_path, rounds=[], epsilon=epsilon)
    found = statement(plan.describe(), ledger, DATASET | {"catalogue": "given"})
    assert "Nothing was learned from any user" in as_text(found)
    if epsilon == "none":
        assert found["guarantee"] == "nothing of any user was released"
    assert found["epsilon"] == "0.0000"
    assert {row["epsilon"] for row in found["adversaries"]} == {"0.0000"}
    assert set(found["accountants"].values()) == {"0.0000"}


@pytest.mark.parametrize("epsilon", [1.0, "none"])
def test_items_that_were_taken_from_the_log_are_learned_from_users(tmp_path: Path, epsilon) -> None:
    found, text = stated(*run(tmp_path, rounds=[], epsilon=epsilon))
    assert "Nothing was learned from any user" not in text
    assert "the list of items was taken from what users did, without noise" in found["promise"][0]
    if epsilon == "none":
        assert found["guarantee"].endswith("but for the list of items")
    assert any("catalogue is the items of the log" in what for what in found["not_protected"])


def test_a_k_core_is_said_to_mix_users(tmp_path: Path) -> None:
    plan, ledger = run(tmp_path, epsilon=1.0)
    cleaned = statement(plan.describe(), ledger, DATASET | {"k-core rounds": 0})
    assert any("epsilon holds for the data after that, not for the log" in what for what in cleaned["not_protected"])
    assert not any("k-core" in what for what in stated(plan, ledger)[0]["not_protected"])


def test_a_run_that_was_stopped_states_what_was_spent(tmp_path: Path) -> None:
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=2.0), ROUNDS, 1000, None)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(plan.charge(0))
    assert 0 < float(stated(plan, ledger)[0]["epsilon"]) < 1.5


def test_plan_and_ledger_must_agree(tmp_path: Path) -> None:
    plan, ledger = run(tmp_path, epsilon=1.0)
    ledger.append({"type": "charge", "round": 0, "queries": [], "epsilon": {"pld": "1.2"}})
    with pytest.raises(VerificationError, match="the ledger holds 5 charges, the plan counts 4"):
        statement(plan.describe(), ledger, DATASET)
    other = PrivacyPlan.build(PrivacyConfig(epsilon=2.0), ROUNDS, 1000, None)
    other.restore([0, 1, 2, 3])
    (tmp_path / "b").mkdir()
    _, ledger = run(tmp_path / "b", epsilon=1.0)
    with pytest.raises(VerificationError, match="the ledger ends at epsilon"):
        statement(other.describe(), ledger, DATASET)
