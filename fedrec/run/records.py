"""What a run writes into its ledger beside the charges: how it began, what came out, and which files it left."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec.audit.budget.reservation import Reservation
from fedrec.audit.entries.records import Catalogue
from fedrec.audit.evidence import files_record, salted
from fedrec.audit.evidence.received_run import OLDER_VERSIONS
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.statement import run_records as record
from fedrec.audit.statement.agreement import require_plan
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.statement import of_ledger, text_of
from fedrec.durable import replace, sync
from fedrec.evaluation.private import ENTRIES
from fedrec.privacy.description import describe
from fedrec.privacy.plan import PrivacyPlan
from fedrec.run.checkpoint import digest
from fedrec.run.code_of_others import code_of_others, named_in, remark
from fedrec.run.coordinator import Outcome
from fedrec.run.directory import SECRET, RunDirectory, json_text
from fedrec.run.scenario import Scenario
from fedrec.run.summary import device_name

FIXED_BY_END = ("model/model.safetensors", "model/manifest.json", "model/items.json")
"""What a finished run has released, and never makes a second time."""


@dataclass(frozen=True)
class Circumstances:
    """Under which a run is made. role: of who signs. population: how the number of users is known.

    simulation: whether all users' data lie in one place. unprotected: what the guarantee knowingly does not cover.
    """

    role: str
    population: str
    simulation: bool
    unprotected: tuple[str, ...]


@dataclass(frozen=True)
class Data:
    """What the ledger says of the data. known: "given", or where the items were taken from.

    notes: what must be said of the run before anything else.
    """

    name: str
    items: int
    known: str
    notes: tuple[str, ...] = ()


def opening(
    ledger: Ledger,
    folder: RunDirectory,
    scenario: Scenario,
    plan: PrivacyPlan,
    data: Data,
    under: Circumstances,
    reservation: Reservation | None = None,
) -> dict[str, Any]:
    """The `begin` record. A run that goes on under other code than it began with notes that at once.

    reservation: what the run reserved, entered before; None for a run on its own.
    """
    k_core = scenario.data.k_core if scenario.data.k_core > 1 else None
    foreign = code_of_others(scenario, measured=under.simulation)
    begin = record.begin(
        plan,
        ledger.key.public,
        role=under.role,
        simulation=under.simulation,
        scenario=(scenario.name, _digest(folder.scenario)),
        algorithm=scenario.algorithm_called,
        dataset=data.name,
        catalogue=Catalogue(items=data.items, known=data.known, k_core=k_core),
        population=under.population,
        unprotected=under.unprotected,
        tuned_on=scenario.provenance.tuned_on or None,
        notes=(*data.notes, *(remark(what, where) for what, where in foreign.items())),
        foreign={what: where.text for what, where in foreign.items()},
        budget=None if reservation is None else reservation.reservation(),
        device=device_name(scenario.engine.device),
        fixes_files=True,
    )
    if ledger.entries:
        codes = [entry["payload"]["code"] for entry in ledger.entries if "code" in entry["payload"]]
        known = [entry["payload"]["software"] for entry in ledger.entries if "software" in entry["payload"]]
        before = named_in(known[-1] if known else {})
        now = {what: where.text for what, where in foreign.items()}
        if codes and (codes[-1] != begin["code"] or before != now) and finished(ledger, folder) is None:
            note = {"type": "note", "what": "resumed under other code", "code": begin["code"]}
            ledger.append(note | ({"software": now} if before != now else {}))
    return begin


def close(
    ledger: Ledger,
    folder: RunDirectory,
    outcome: Outcome,
    summary: Mapping[str, Any],
    under: Circumstances,
    plan: PrivacyPlan,
) -> None:
    """Append the `end` record, then put the summary in place; `finished` finds both again, wherever a crash came."""
    text = json_text(summary)
    files = {name: (folder.release / name).read_bytes() for name in FIXED_BY_END}
    private = {folder.history.name: folder.history.read_bytes(), folder.summary.name: text.encode()}
    salt = salted.salt_in(folder.private)
    end = record.end(
        rounds=outcome.rounds,
        exhausted=outcome.exhausted,
        state=digest(outcome.shared),
        files=files,
        private={name: salted.digest(salt, name, content) for name, content in private.items()},
        besides=_besides(summary),
        unprotected=under.unprotected,
        curve=record.curve(plan),
    )
    replace(folder.ended, text.encode(), SECRET)
    for place in (folder.model, folder.private):
        sync(place)  # what the record fixes is there before the record is
    ledger.append(end, ("model/model.safetensors", end["files"]["model/model.safetensors"]))
    ledger.seal()
    os.replace(folder.ended, folder.summary)


def finished(ledger: Ledger, folder: RunDirectory) -> dict[str, Any] | None:
    """The summary of a run that ended before; None unless all is there that its `end` record, the last one, fixes.

    What a run released once is not made a second time: its baselines would have other noise, its clock other seconds.
    """
    payloads = [entry["payload"] for entry in ledger.entries if entry["payload"].get("type") in ("charge", "end")]
    if not payloads or payloads[-1]["type"] != "end":
        return None
    released, private = dict(payloads[-1]["files"]), payloads[-1].get("private_files")
    salt = None if private is None else salted.salt_in(folder.private)
    if private is None:  # an older version
        private = {name: released.pop(name) for name in OLDER_VERSIONS}

    def holds(name: str, file: Path) -> bool:
        found = file.is_file() and (salted.file_digest(salt, name, file) if salt is not None else _digest(file))
        return bool(found == private[name])

    if holds(folder.summary.name, folder.ended):
        os.replace(folder.ended, folder.summary)
    if not all((folder.release / name).is_file() for name in released):
        return None
    if any(_digest(folder.release / name) != digest for name, digest in released.items()):
        return None
    if not all(holds(name, folder.private / name) for name in private):
        return None
    summary: dict[str, Any] = json.loads(folder.summary.read_bytes())
    return summary


def fix_files(ledger: Ledger, folder: RunDirectory) -> None:
    """Append the record that closes the ledger, once every file of the run is written."""
    files_record.fix(ledger, folder.layout)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_statement(folder: RunDirectory, ledger: Ledger, plan: PrivacyPlan) -> None:
    """The privacy statement, for programs and for people, as the ledger gives it.

    Raises: VerificationError when the plan says something else of itself than the ledger does.
    """
    stated = of_ledger(ledger)
    require_plan(stated, describe(plan))
    replace(folder.ledger.with_name("statement.json"), text_of(stated).encode())
    replace(folder.ledger.with_name("statement.md"), as_text(stated).encode())


def _besides(summary: Mapping[str, Any]) -> dict[str, str]:
    """Every metric that was paid for, with its value. True ones of a simulation are not released."""
    private = summary["evaluation"]["private"]
    return {
        f"{name} after {look['after']} training rounds (private, charged)": repr(look[name])
        for look in private.get("looks", ())
        for name in ENTRIES
    }
