"""What lies beside a ledger must be what the ledger names: model, manifest, scenario, statement."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fedrec.audit.evidence import MODEL, PUBLIC_KEY, STATEMENT, Evidence
from fedrec.audit.keys import PublicKey

_SAME = ("unit", "adjacency", "trust", "delta", "target_epsilon", "noise_source")


def artefacts(
    evidence: Evidence, payloads: Sequence[Mapping[str, Any]], roots: Sequence[str], key: PublicKey, model: str | None
) -> tuple[list[str], list[str]]:
    """Faults and notes. roots: the root (hex) after each number of records. model: SHA-256 (hex) of a file apart."""
    faults, notes = [], []
    begin = payloads[0] if payloads[0].get("type") == "begin" else None
    if begin is not None:
        if begin["parties"][0]["key"] != key.text:
            faults.append("record 0 names another key for whoever began the ledger than the one that signs it")
        scenario = evidence.digests.get("scenario.toml")
        if scenario is not None and scenario != begin["scenario"]["sha256"]:
            faults.append("scenario.toml is not the scenario that the ledger began with")
    ends = [payload for payload in payloads if payload.get("type") == "end"]
    digests = dict(evidence.digests) | ({MODEL: model} if model else {})
    if ends:
        for name, digest in ends[-1]["files"].items():
            if name not in digests:
                if name == MODEL:
                    notes.append(f"{MODEL} is not here: hand it over with --model, its SHA-256 must be {digest}")
                elif not evidence.exported:
                    notes.append(f"{name} is not here, the ledger fixes it as {digest}")
            elif digests[name] != digest:
                faults.append(f"{name} is not the file that the ledger names (SHA-256 {digests[name]})")
    else:
        notes.append("the ledger has no end: the run goes on, or was broken off")
        if MODEL in digests:
            notes.append(f"{MODEL} is there, and no record vouches for it yet")
    faults += _manifest(evidence, digests)
    if STATEMENT in evidence.files:
        charges = [payload for payload in payloads if payload.get("type") == "charge"]
        faults += _statement(evidence.files[STATEMENT], begin, charges, roots)
    if PUBLIC_KEY in evidence.files and evidence.files[PUBLIC_KEY] != key.pem():
        notes.append(f"{PUBLIC_KEY} is another key than yours; yours counts")
    return faults, notes


def _manifest(evidence: Evidence, digests: Mapping[str, str]) -> list[str]:
    content = evidence.files.get("model/manifest.json")
    if content is None or MODEL not in digests:
        return []
    try:
        same = json.loads(content)["sha256"] == digests[MODEL]
    except (ValueError, KeyError, TypeError):
        same = False
    return [] if same else ["model/manifest.json does not belong to the model"]


def _statement(
    content: bytes, begin: Mapping[str, Any] | None, charges: Sequence[Mapping[str, Any]], roots: Sequence[str]
) -> list[str]:
    """What the privacy statement claims and the ledger does not bear out."""
    try:
        stated = json.loads(content)
        entries, head = stated["ledger"]["entries"], stated["ledger"]["head"]
        if not (isinstance(entries, int) and 0 <= entries < len(roots) and roots[entries] == head):
            return [f"{STATEMENT} was drawn from other records than these"]
        found = []
        if stated["rounds"] != len(charges):
            found.append(f"{STATEMENT} tells of {stated['rounds']} charged rounds, the ledger of {len(charges)}")
        if begin is not None:
            found += [
                f"{STATEMENT} says {name} = {stated.get(name)!r}, the ledger {begin[name]!r}"
                for name in _SAME
                if stated.get(name) != begin[name]
            ]
        if charges:
            found += [
                f"{STATEMENT} says epsilon {claimed} by {name}, the ledger ends at {charges[-1]['epsilon'][name]}"
                for name, claimed in (*stated["accountants"].items(), ("pld", stated["epsilon"]))
                if not _rounded(claimed, charges[-1]["epsilon"][name])
            ]
            told = {(row["name"], row["clip_norm"], row["noise_std"]): row["rounds"] for row in stated["releases"]}
            if told != _releases(charges):
                found.append(f"{STATEMENT} lists other releases than the ledger")
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"{STATEMENT} is no privacy statement"]
    return found


def _rounded(claimed: str | None, recorded: str | None) -> bool:
    """Whether the statement's four decimals are the ledger's six, rounded up."""
    if claimed is None or recorded is None:
        return claimed is recorded
    return -1e-6 <= float(claimed) - float(recorded) <= 1e-4 + 1e-9


def _releases(charges: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], int]:
    found: dict[tuple[Any, ...], int] = {}
    for charge in charges:
        for query in charge["queries"]:
            key = (query["name"], query["clip_norm"], query["noise_std"])
            found[key] = found.get(key, 0) + 1
    return found
