"""A run's folder as an auditor gets it, without a simulation: plan, ledger, statement."""

import json
from pathlib import Path
from typing import Any

from fedrec.audit.entries.records import Catalogue, PopulationBudget
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.statement import run_records
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.statement import of_ledger, text_of
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

ROUNDS = ((SumQuery("popularity", (50,), 1.0, 0.4),), *[(SumQuery("weights", (3,), 2.0, 0.2),)] * 3)
BUDGET = PopulationBudget(
    id="0123456789abcdef",
    name="film lovers",
    who="people",
    period="for all time",
    epsilon="4.0",
    delta="1e-05",
    filter="gdp",
    order=None,
    theorem="a theorem",
    unit="mu^2",
    limit="0.855490",
    reserved="0.300000",
    all_runs="0.500000",
    run="drew-it",
    head="cd" * 32,
)
HOSTILE = "<img src=https://evil.example/x onerror=alert(1)>\"'</script><script>throw 1</script>[bold]{{7*7}}"


def audited_run(
    folder: Path,
    *,
    rounds: Any = ROUNDS,
    stop_after: int | None = None,
    name: str = "toy",
    records: Any = (),
    simulation: bool = True,
    seed: int | None = None,
    begin: Any = (),
    key: SigningKey | None = None,
    **privacy: Any,
) -> Path:
    """Charge every round (or the first `stop_after`), end, state it, append `records`, and return the run's folder.

    begin: other arguments of `opening.begin`.
    """
    plan = PrivacyPlan.build(PrivacyConfig(**privacy), rounds, 1000, seed)
    ledger = Ledger(folder / "privacy" / "ledger.jsonl", key)
    facts = {
        "role": "operator",
        "simulation": simulation,
        "scenario": (name, "ab" * 32),
        "algorithm": "als",
        "dataset": "toy",
        "catalogue": Catalogue(items=50, known="given", k_core=None),
        "population": "counted in the log, and taken as public" if simulation else "announced by the nodes",
        "unprotected": ["true metrics, without noise"] if simulation else ["each node's clipped sums"],
        "tuned_on": None,
    }
    ledger.append(run_records.begin(plan, ledger.key.public, **(facts | dict(begin))).payload())
    charged = len(rounds) if stop_after is None else stop_after
    for round_index in range(charged):
        ledger.append(plan.charge(round_index).payload())
    about: dict[str, Any] = {"state": "0" * 64, "files": {}, "private": {}, "besides": {"hr@10 (charged)": "0.25"}}
    about |= {"exhausted": None, "unprotected": ["which nodes answered"], "curve": run_records.curve(plan)}
    ledger.append(run_records.end(rounds=charged, **about).payload())
    stated = of_ledger(ledger)
    (folder / "privacy" / "statement.json").write_text(text_of(stated), encoding="utf-8")
    (folder / "privacy" / "statement.md").write_text(as_text(stated), encoding="utf-8")
    (folder / "privacy" / "ledger.pub").write_bytes(ledger.key.public.pem())
    (folder / "privacy" / "key.json").write_text(json.dumps(ledger.key.public.text), encoding="utf-8")
    for record in records:
        ledger.append(record)
    ledger.seal()
    return folder


def edit(folder: Path, **changes: Any) -> None:
    """Change the statement of a run, as a forger would."""
    file = folder / "privacy" / "statement.json"
    file.write_text(text_of(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")
