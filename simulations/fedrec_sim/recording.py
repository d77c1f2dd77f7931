"""What a simulation writes into its ledger beside the charges: how it began, and what came out."""

import hashlib
from collections.abc import Mapping
from typing import Any

from fedrec_server.checkpoint import digest
from fedrec_server.coordinator import Outcome

from fedrec.audit import opening as record
from fedrec.audit.ledger import Ledger
from fedrec.data.datasets import Dataset
from fedrec.evaluation.private import ENTRIES
from fedrec.privacy.plan import PrivacyPlan
from fedrec_sim.run_directory import RunDirectory
from fedrec_sim.scenario import Scenario

UNPROTECTED = (
    "this is a simulation: all users' data lie in one place, where whoever runs it can read them",
    "true metrics, without noise, in summary.json, history.csv, plots, checkpoint and baselines",
    "exact counts of the data, and the time and memory that the computation takes",
)


def opening(
    ledger: Ledger, folder: RunDirectory, scenario: Scenario, plan: PrivacyPlan, dataset: Dataset
) -> dict[str, Any]:
    """The `begin` record. A run that goes on under other code than it began with notes that at once."""
    begin = record.begin(
        plan,
        ledger.key.public,
        role="whoever ran the simulation, who is its server and all its users",
        scenario=(scenario.name, hashlib.sha256(folder.scenario.read_bytes()).hexdigest()),
        dataset=dataset.name,
        population="counted in the log, and taken as public",
        unprotected=UNPROTECTED,
        tuned_on=scenario.provenance.tuned_on or None,
    )
    if ledger.entries:
        codes = [entry["payload"]["code"] for entry in ledger.entries if "code" in entry["payload"]]
        if codes and codes[-1] != begin["code"]:
            ledger.append({"type": "note", "what": "resumed under other code", "code": begin["code"]})
    return begin


def named(folder: RunDirectory, scenario: Scenario) -> dict[str, str]:
    """What the statement calls the run."""
    fingerprint = hashlib.sha256(folder.scenario.read_bytes()).hexdigest()
    return {"name": scenario.name, "algorithm": scenario.algorithm["name"], "fingerprint": fingerprint}


def close(
    ledger: Ledger, folder: RunDirectory, outcome: Outcome, summary_text: str, summary: Mapping[str, Any]
) -> None:
    """Append the `end` record, before the summary is shown. Said once: a finished run that is resumed adds nothing."""
    files = {name: (folder.path / name).read_bytes() for name in ("model/model.safetensors", "model/manifest.json")}
    files |= {"history.csv": (folder.path / "history.csv").read_bytes(), "summary.json": summary_text.encode()}
    end = record.end(
        rounds=outcome.rounds,
        exhausted=outcome.exhausted,
        state=digest(outcome.shared),
        files=files,
        besides=_besides(summary),
        unprotected=UNPROTECTED,
    )
    if not ledger.entries or ledger.entries[-1]["payload"] != end:
        ledger.append(end, ("model/model.safetensors", end["files"]["model/model.safetensors"]))
    ledger.seal()


def _besides(summary: Mapping[str, Any]) -> dict[str, str]:
    """Every metric that a reader sees, with its value: true ones of a simulation, and those that were paid for."""
    found = {
        f"{protocol} {metric} (true, not protected)": repr(value)
        for protocol, values in summary["metrics"].items()
        if isinstance(values, Mapping)
        for metric, value in values.items()
        if isinstance(value, int | float)
    }
    private = summary["evaluation"]["private"]
    return found | {
        f"{name} after {look['after']} training rounds (private, charged)": repr(look[name])
        for look in private.get("looks", ())
        for name in ENTRIES
    }
