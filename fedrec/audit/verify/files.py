"""The files of a run must be those that its ledger names: all of them, and no other."""

import json
from collections.abc import Mapping

from fedrec.audit.entries.account import Account
from fedrec.audit.evidence import files_record as closings
from fedrec.audit.evidence.received_run import EXPORTED, MODEL, PUBLIC_KEY, Evidence
from fedrec.audit.log.keys import PublicKey


def artefacts(evidence: Evidence, known: Account, key: PublicKey, model: str | None) -> tuple[list[str], list[str]]:
    """Return faults and notes.

    Args:
        evidence: the received files.
        known: the ledger's records.
        key: the key that began the ledger.
        model: SHA-256 (hex) of a model file that was handed over apart; None without.
    """
    faults, notes = [], []
    if known.begin.parties[0].key != key.text:
        faults.append("record 0 names another key than the one that signs the ledger")
    scenario = evidence.digests.get("scenario.toml")
    if scenario is not None and scenario != known.begin.scenario.sha256:
        faults.append("scenario.toml is not the scenario that the ledger began with")
    digests = dict(evidence.digests) | ({MODEL: model} if model else {})
    closing = known.files
    if closing is not None:
        faults += closings.release_faults(
            evidence.names or tuple(digests), digests, closing, EXPORTED if evidence.exported else None
        )
        if evidence.private is not None:
            faults += closings.private_faults(evidence.private, closing)
        if MODEL in closing.release and MODEL not in digests and evidence.exported:
            notes.append(_apart(closing.release[MODEL]))
    elif known.end is not None and known.begin.fixes_files:
        faults.append("the run ended and no record fixes its files: finish it with --resume")
    elif known.end is not None:
        for name, digest in known.end.files.items():
            if name not in digests:
                if name == MODEL:
                    notes.append(_apart(digest))
                elif not evidence.exported:
                    notes.append(f"{name} is not here, the ledger fixes it as {digest}")
            elif digests[name] != digest:
                faults.append(f"{name} is not the file that the ledger names (SHA-256 {digests[name]})")
    if known.end is None:
        notes.append("the ledger has no end: the run continues, or was broken off")
        if MODEL in digests:
            notes.append(f"{MODEL} is there, and no record vouches for it yet")
    faults += _manifest(evidence, digests)
    if PUBLIC_KEY in evidence.files and evidence.files[PUBLIC_KEY] != key.pem():
        notes.append(f"{PUBLIC_KEY} is another key than yours; yours counts")
    return faults, notes


def _apart(digest: str) -> str:
    return f"{MODEL} is not here: hand it over with --model, its SHA-256 must be {digest}"


def _manifest(evidence: Evidence, digests: Mapping[str, str]) -> list[str]:
    content = evidence.files.get("model/manifest.json")
    if content is None or MODEL not in digests:
        return []
    try:
        same = json.loads(content)["sha256"] == digests[MODEL]
    except (ValueError, KeyError, TypeError, RecursionError):
        same = False
    return [] if same else ["model/manifest.json does not belong to the model"]
