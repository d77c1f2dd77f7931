"""A run's folder as an auditor gets it, without a simulation: plan, ledger, statement."""

import json
from pathlib import Path
from typing import Any

from fedrec.audit.ledger import Ledger
from fedrec.audit.statement import as_text, statement
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

ROUNDS = ((SumQuery("popularity", (50,), 1.0, 0.4),), *[(SumQuery("weights", (3,), 2.0, 0.2),)] * 3)
DATASET = {"name": "toy", "users": 1000, "items": 50, "interactions": 9000, "catalogue": "given"}
HOSTILE = "<img src=https://evil.example/x onerror=alert(1)>\"'</script><script>throw 1</script>[bold]{{7*7}}"


def audited_run(
    folder: Path,
    *,
    rounds: Any = ROUNDS,
    stop_after: int | None = None,
    name: str = "toy",
    dataset: Any = (),
    records: Any = (),
    simulation: bool = True,
    seed: int | None = None,
    **privacy: Any,
) -> Path:
    """Charge every round (or the first `stop_after`), state it, append `records`, and return the run's folder."""
    plan = PrivacyPlan.build(PrivacyConfig(**privacy), rounds, 1000, seed)
    ledger = Ledger(folder / "privacy" / "ledger.jsonl")
    for round in range(len(rounds) if stop_after is None else stop_after):
        ledger.append(plan.charge(round))
    scenario = {"name": name, "algorithm": "als", "fingerprint": "ab" * 32}
    stated = statement(plan.describe(), ledger, {**DATASET, **dict(dataset)}, simulation=simulation, scenario=scenario)
    (folder / "privacy" / "statement.json").write_text(json.dumps(stated, allow_nan=False), encoding="utf-8")
    (folder / "privacy" / "statement.md").write_text(as_text(stated), encoding="utf-8")
    for record in records:
        ledger.append(record)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    """Change the statement of a run, as somebody who lies would."""
    file = folder / "privacy" / "statement.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")
