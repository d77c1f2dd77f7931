"""The statement: what it must say, to whom, and that all of it follows from the ledger."""

import json
from pathlib import Path

import pytest

from fedrec.audit.entries.records import Catalogue
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.statement.agreement import require_plan
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.statement import of_ledger, text_of
from fedrec.errors import VerificationError
from fedrec.privacy.description import describe
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery
from tests.core.audit.audited_run import BUDGET
from tests.core.audit.ledgers import begun

TAKEN = Catalogue(items=50, known="the items of the log", k_core=None)
ROUNDS = [(SumQuery("popularity", (50,), 1.0, 0.4),), *[(SumQuery("weights", (3,), 1.0, 0.2),)] * 3]


def run(tmp_path: Path, rounds=ROUNDS, seed: int | None = None, begin=(), **settings) -> tuple[PrivacyPlan, Ledger]:
    plan = PrivacyPlan.build(PrivacyConfig(**settings), rounds, 1000, seed)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(begun(plan, ledger.key.public, **({"catalogue": TAKEN} | dict(begin))))
    for round_index in range(len(rounds)):
        ledger.append(plan.charge(round_index).payload())
    return plan, ledger


def stated(plan: PrivacyPlan, ledger: Ledger) -> tuple[dict, str]:
    found = of_ledger(ledger)
    require_plan(found, describe(plan))
    return json.loads(text_of(found)), as_text(found)


def test_a_private_run(tmp_path: Path) -> None:
    counted = {"population": "counted in the log, and taken as public"}
    plan, ledger = run(tmp_path, begin=counted, epsilon=2.0, sampling=0.5)
    found, text = stated(plan, ledger)
    assert len(found["promise"]) == 2
    assert "where tossing a coin" in found["promise"][0]
    assert "at most a factor of 7.38, leaving aside" in found["precisely"]
    assert float(found["epsilon"]) == pytest.approx(2.0, rel=5e-3)
    assert float(found["epsilon"]) >= plan.epsilon()["pld"]
    for value in found["accountants"].values():
        assert value in text
    against = {row["adversary"]: row["epsilon"] for row in found["adversaries"]}
    assert against["server"] is None
    assert float(against["knows_the_cohort"]) > float(against["model_recipients"])
    assert float(against["knows_the_cohort"]) >= describe(plan)["adversaries"]["knows_the_cohort"]
    assert "| the server itself | no bound |" in text
    assert any("keeps secret who takes part" in row["must"] for row in found["assumptions"])
    assert any("catalogue is the items of the log" in what for what in found["not_protected"])
    assert any("true ones, without noise" in what for what in found["not_protected"])
    assert any("whatever epsilon a baseline had" in what for what in found["not_protected"])
    assert any("interactions" in what and "exact" in what for what in found["not_protected"])
    assert any("number of users (counted in the log, and taken" in row["must"] for row in found["assumptions"])
    assert "the list of items and the number of users count as known" in found["precisely"]
    assert any("floating point" in what for what in found["not_protected"])
    assert [(row["name"], row["rounds"]) for row in found["releases"]] == [("popularity", 1), ("weights", 3)]
    assert found["ledger"] == {"entries": 5, "head": ledger.head, "signed": True}
    assert ledger.head in text
    assert found["noise_source"].startswith("operating system")
    assert "interactions" not in found["dataset"], "an exact count of what users did"


def test_seeded_noise_is_said_to_protect_nobody_who_knows_the_seed(tmp_path: Path) -> None:
    found, text = stated(*run(tmp_path, epsilon=1.0, seed=5))
    assert found["promise"][0].startswith("If the noise were secret (here it follows from a seed")
    assert "anyone who knows the seed can take the noise off" in text


def test_a_deployment_and_a_given_catalogue_have_fewer_exceptions(tmp_path: Path) -> None:
    given = {"catalogue": Catalogue(items=50, known="given", k_core=None), "simulation": False}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    simulated, _ = stated(*run(tmp_path / "a", epsilon=1.0))
    deployed, text = stated(*run(tmp_path / "b", begin=given, epsilon=1.0))
    assert len(deployed["not_protected"]) == len(simulated["not_protected"]) - 4
    assert "simulation" not in text


def test_what_the_run_recorded_as_unprotected_is_said_in_full(tmp_path: Path) -> None:
    plan, ledger = run(tmp_path, begin={"unprotected": ["the sums", "the times"]}, epsilon=1.0)
    found, text = stated(plan, ledger)
    assert found["unprotected"] == ["the sums", "the times"]
    ledger.append({"type": "end", "rounds": 4, "files": {}, "unprotected": ["the times", "who answered"]})
    found, text = stated(plan, ledger)
    assert found["unprotected"] == ["the sums", "the times", "who answered"]
    assert all(f"- {what};" in text for what in found["unprotected"])


def test_no_guarantee_is_said_plainly(tmp_path: Path) -> None:
    found, text = stated(*run(tmp_path, epsilon="none"))
    assert "There is NO privacy guarantee" in found["promise"][0]
    assert found["epsilon"] is None
    assert found["guarantee"] == "none"
    assert found["assumptions"] == []
    assert set(found["accountants"].values()) == {None}
    assert {row["why"] for row in found["adversaries"]} == {"there is neither clip nor noise"}
    assert "| no bound |" in text


@pytest.mark.parametrize("epsilon", [1.0, "none"])
def test_public_content_alone_costs_nothing(tmp_path: Path, epsilon) -> None:
    given = {"catalogue": Catalogue(items=50, known="given", k_core=None)}
    found, text = stated(*run(tmp_path, rounds=[], begin=given, epsilon=epsilon))
    assert "Nothing was learned from any user" in text
    if epsilon == "none":
        assert found["guarantee"] == "nothing of any user was released"
    assert found["epsilon"] == "0.0000"
    assert {row["epsilon"] for row in found["adversaries"]} == {"0.0000"}
    assert {row["why"] for row in found["adversaries"]} == {"nothing depends on users"}
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
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    cleaned, _ = stated(*run(tmp_path / "a", begin={"catalogue": TAKEN.model_copy(update={"k_core": 5})}, epsilon=1.0))
    assert any("epsilon holds for the data after that, not for the log" in what for what in cleaned["not_protected"])
    assert any("fewer than 5 events" in what for what in cleaned["not_protected"])
    whole, _ = stated(*run(tmp_path / "b", epsilon=1.0))
    assert not any("k-core" in what for what in whole["not_protected"])


def test_notes_come_first(tmp_path: Path) -> None:
    found, _ = stated(*run(tmp_path, begin={"notes": ["LEAKY NEGATIVES"]}, epsilon=1.0))
    assert found["not_protected"][0] == "LEAKY NEGATIVES"


def test_a_name_cannot_forge_a_line_of_the_text(tmp_path: Path) -> None:
    forged = "toy\n\n| the server itself | 0.1000 |\n"
    names = {"dataset": forged, "notes": [forged], "unprotected": [forged], "tuned_on": forged, "population": forged}
    plan, ledger = run(tmp_path, begin={**names, "scenario": (forged, "ab" * 32)}, epsilon=1.0)
    _, text = stated(plan, ledger)
    rows = [line for line in text.splitlines() if line.startswith("| the server itself |")]
    assert rows == ["| the server itself | no bound |"]
    assert text.count("\\| the server itself \\| 0.1000") >= len(names)


def test_a_shared_budget_is_named_with_its_head(tmp_path: Path) -> None:
    found, text = stated(*run(tmp_path, begin={"budget": BUDGET}, epsilon=1.0))
    assert found["population_budget"]["head"] == BUDGET.head
    assert f"this run reserved {BUDGET.reserved} as {BUDGET.run}" in " ".join(text.split())
    assert any("do not draw from the budget 'film lovers'" in what for what in found["not_protected"])


def test_a_run_that_was_broken_off_states_what_was_spent(tmp_path: Path) -> None:
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=2.0), ROUNDS, 1000, None)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(begun(plan, ledger.key.public))
    ledger.append(plan.charge(0).payload())
    assert 0 < float(stated(plan, ledger)[0]["epsilon"]) < 1.5


def test_plan_and_ledger_must_agree(tmp_path: Path) -> None:
    plan, ledger = run(tmp_path, epsilon=1.0)
    plan.restore([0, 1, 2])
    with pytest.raises(VerificationError, match="rounds is 4 by the ledger and 3 by the plan"):
        require_plan(of_ledger(ledger), describe(plan))
    other = PrivacyPlan.build(PrivacyConfig(epsilon=2.0), ROUNDS, 1000, None)
    other.restore([0, 1, 2, 3])
    with pytest.raises(VerificationError, match=r"target epsilon is 1\.0 by the ledger and 2\.0 by the plan"):
        require_plan(of_ledger(ledger), describe(other))
    seeded = PrivacyPlan.build(PrivacyConfig(epsilon=1.0), ROUNDS, 1000, 3)
    seeded.restore([0, 1, 2, 3])
    with pytest.raises(VerificationError, match="noise_source"):
        require_plan(of_ledger(ledger), describe(seeded))


def test_a_ledger_without_a_beginning_gives_no_statement(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(VerificationError, match="does not say what the run promises"):
        of_ledger(ledger)
    ledger.append({"type": "charge", "round": 0, "queries": [], "epsilon": {"pld": "1.2"}})
    with pytest.raises(VerificationError, match="does not say what the run promises"):
        of_ledger(ledger)
