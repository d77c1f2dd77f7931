"""Records of a run's ledger other than charges: its begin, its end, and the hashes of its files."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedrec.audit.budget.reservation import Reservation
from fedrec.audit.entries.account import account, placed
from fedrec.audit.entries.records import BeginRecord, Catalogue, EndRecord, NoteRecord
from fedrec.audit.entries.start import Start
from fedrec.audit.evidence import files_record, salted
from fedrec.audit.evidence.received_run import MODEL, OLDER_VERSIONS
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
from fedrec.run.code_of_others import code_of_others, named_in, of_encoder, remark
from fedrec.run.coordinator import Outcome
from fedrec.run.directory import SECRET, RunDirectory, json_text
from fedrec.run.scenario import Scenario
from fedrec.run.summary import device_name

FIXED_BY_END = (MODEL, "model/manifest.json", "model/items.json")
"""Files that a finished run has released, and never makes a second time."""


@dataclass(frozen=True)
class Circumstances:
    """The circumstances of a run, for its ledger.

    Attributes:
        role: the role of the signer.
        population: source of the number of users.
        simulation: whether all users' data are in one place.
        unprotected: facts that the guarantee knowingly does not cover.
    """

    role: str
    population: str
    simulation: bool
    unprotected: tuple[str, ...]


@dataclass(frozen=True)
class Data:
    """The data of a run, for its ledger.

    Attributes:
        name: the dataset's name.
        items: number of items in the catalogue.
        known: "given", or the source of the items.
        notes: warnings that come first in the statement.
        encoders: vector column of the catalogue -> text that names its encoder.
        start: the run whose release this one starts from; None for none.
    """

    name: str
    items: int
    known: str
    notes: tuple[str, ...] = ()
    encoders: Mapping[str, str] = field(default_factory=dict)
    start: Start | None = None


def opening(
    ledger: Ledger,
    folder: RunDirectory,
    scenario: Scenario,
    plan: PrivacyPlan,
    data: Data,
    under: Circumstances,
    reservation: Reservation | None = None,
) -> BeginRecord:
    """Return the `begin` record. Append a note where a run resumes under other code than it began with.

    Args:
        ledger: the run's ledger.
        folder: the run's folder, with its scenario.
        scenario: the resolved scenario.
        plan: the privacy plan.
        data: facts of the data.
        under: circumstances of the run.
        reservation: the run's part of a shared budget, already entered; None without one.
    """
    k_core = scenario.data.k_core if scenario.data.k_core > 1 else None
    code = code_of_others(scenario, measured=under.simulation)
    foreign = {what: where.text for what, where in code.items()}
    foreign |= {f"encoder {column}": text for column, text in data.encoders.items()}
    notes = [remark(what, where) for what, where in code.items()]
    notes += [of_encoder(column, text) for column, text in data.encoders.items()]
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
        notes=(*data.notes, *notes),
        foreign=foreign,
        budget=None if reservation is None else reservation.reservation(),
        start=data.start,
        device=device_name(scenario.engine.device),
        fixes_files=True,
    )
    if ledger.entries:
        known = account([entry.payload for entry in ledger.entries])
        later = known.of(NoteRecord)[::-1]
        last = next((note.code for note in later if note.code is not None), known.begin.code)
        software = next((note.software for note in later if note.software is not None), known.begin.software)
        before = named_in(software or {})
        if (last != begin.code or before != foreign) and finished(ledger, folder) is None:
            changed = {"software": foreign} if before != foreign else {}
            note = NoteRecord(type="note", what="resumed under other code", code=begin.code, **changed)
            ledger.append(note.payload())
    return begin


def close(
    ledger: Ledger,
    folder: RunDirectory,
    outcome: Outcome,
    summary: Mapping[str, Any],
    under: Circumstances,
    plan: PrivacyPlan,
) -> None:
    """Append the `end` record, then write the summary. `finished` recovers from a crash at any point between them.

    Args:
        ledger: the run's ledger.
        folder: the run's folder, with the released model and the history.
        outcome: the result of the run.
        summary: the content of `summary.json`.
        under: circumstances of the run.
        plan: the privacy plan.
    """
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
        sync(place)  # the files that the record fixes reach the disk first
    ledger.append(end.payload(), (MODEL, end.files[MODEL]))
    ledger.seal()
    os.replace(folder.ended, folder.summary)


def finished(ledger: Ledger, folder: RunDirectory) -> dict[str, Any] | None:
    """Return the summary of a run that ended earlier; None unless every file of its last `end` record is there.

    A finished run is not evaluated a second time: its baselines would have other noise, its clock other seconds.
    """
    payloads = [entry.payload for entry in ledger.entries if entry.payload.get("type") in ("charge", "end")]
    ends = [end for place, end in placed(payloads, EndRecord) if place == len(payloads) - 1]
    if not ends:
        return None
    released, private = dict(ends[0].files), ends[0].private_files
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
    """Write the privacy statement of the ledger, as JSON and as Markdown.

    Raises: VerificationError when plan and ledger disagree.
    """
    stated = of_ledger(ledger)
    require_plan(stated, describe(plan))
    replace(folder.ledger.with_name("statement.json"), text_of(stated).encode())
    replace(folder.ledger.with_name("statement.md"), as_text(stated).encode())


def _besides(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return every metric that was paid for, with its value. True metrics of a simulation are not released."""
    private = summary["evaluation"]["private"]
    return {
        f"{name} after {look['after']} training rounds (private, charged)": repr(look[name])
        for look in private.get("looks", ())
        for name in ENTRIES
    }
