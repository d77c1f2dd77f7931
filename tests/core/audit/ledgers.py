"""Ledgers for tests: written in memory, whole or forged, so that thousands of them cost little."""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedrec.audit.accountant import recompute
from fedrec.audit.entries.records import BeginRecord, Catalogue, Pair
from fedrec.audit.evidence.received_run import CHECKPOINT, LEDGER, MODEL, PUBLIC_KEY, STATEMENT, Evidence
from fedrec.audit.log import envelope
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import PublicKey, SigningKey
from fedrec.audit.log.merkle import Frontier
from fedrec.audit.statement import run_records
from fedrec.audit.statement.agreement import TEXT
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.statement import of_ledger, text_of
from fedrec.errors import VerificationError
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

KEY = SigningKey.generate()
RUN = "00112233445566aa"
ROUNDS = [
    (SumQuery("popularity", (50,), 0.5, 0.4),),
    *[(SumQuery("gram", (4, 4), 2.0, 0.1), SumQuery("sum", (4,), 1.0, 0.2))] * 2,
]
FILES = {MODEL: b"weights", "scenario.toml": b"name = 'toy'\n"}
FILES["model/manifest.json"] = json.dumps({"sha256": hashlib.sha256(FILES[MODEL]).hexdigest()}).encode()
Payload = dict[str, Any]


SCENARIO = {"name": "toy", "fingerprint": hashlib.sha256(FILES["scenario.toml"]).hexdigest()}


def begun(plan: PrivacyPlan, key: PublicKey = KEY.public, **changes: Any) -> Payload:
    """The payload of `begin_record`."""
    return begin_record(plan, key, **changes).payload()


def begin_record(plan: PrivacyPlan, key: PublicKey = KEY.public, **changes: Any) -> BeginRecord:
    """The first record; changes: other arguments of `run_records.begin`."""
    facts: dict[str, Any] = {
        "role": "operator",
        "simulation": True,
        "scenario": (SCENARIO["name"], SCENARIO["fingerprint"]),
        "algorithm": "als",
        "dataset": "toy",
        "catalogue": Catalogue(items=50, known="given", k_core=None),
        "population": "given",
        "unprotected": ["true metrics"],
        "tuned_on": None,
    }
    return run_records.begin(plan, key, **(facts | changes))


def ended(rounds: int, curve: Sequence[Pair] = ()) -> Payload:
    files = {name: FILES[name] for name in (MODEL, "model/manifest.json")}
    about: dict[str, Any] = {
        "exhausted": None,
        "state": "0" * 64,
        "files": files,
        "private": {},
        "besides": {},
        "unprotected": [],
    }
    return run_records.end(rounds=rounds, curve=curve, **about).payload()


def plan_of(rounds: Sequence[tuple[SumQuery, ...]] = ROUNDS, seed: int | None = None, **settings: Any) -> PrivacyPlan:
    return PrivacyPlan.build(PrivacyConfig(**settings), rounds, 1000, seed)


def payloads_of(plan: PrivacyPlan) -> list[Payload]:
    charges = [plan.charge(number).payload() for number in range(len(plan.rounds))]
    return json.loads(json.dumps([begun(plan), *charges, ended(len(charges), run_records.curve(plan))]))


def long_payloads(rounds: int, sampling: float = 1.0) -> list[Payload]:
    """Many equal rounds, their epsilons from the recomputation (the plan would take its time to price each)."""
    plan = plan_of([(SumQuery("sum", (4,), 1.0, 1 / rounds),)] * rounds, sampling=sampling)
    first = plan.charge(0).payload()
    events = [[(sampling, float(first["events"][0]["noise_multiplier"]), 1)]] * rounds
    curves = {"pld": recompute.curve(events, 1e-5), "rdp": recompute.renyi_curve(events, 1e-5)}
    told = {name: [f"{math.ceil(value * 1e6) / 1e6:.6f}" for value in curve.epsilon] for name, curve in curves.items()}
    charges = [
        first | {"round": number, "epsilon": {name: values[number] for name, values in told.items()}}
        for number in range(rounds)
    ]
    return [begun(plan), *charges, ended(rounds)]


def lines_of(payloads: Sequence[Mapping[str, Any]], key: SigningKey = KEY) -> list[bytes]:
    """Return the signed lines, without newlines. A `key` record hands over to the key object in its "_key"."""
    tree, lines = Frontier(), []
    for index, payload in enumerate(payloads):
        shown = {name: value for name, value in payload.items() if name != "_key"}
        record = envelope.signed(index, tree.root().hex(), RUN, shown, None, key)
        key = payload.get("_key", key)
        tree.append(record.leaf)
        lines.append(record.line)
    return lines


def sealed(lines: Sequence[bytes], key: SigningKey = KEY) -> Checkpoint:
    tree = Frontier(envelope.parsed(line).leaf for line in lines)
    return Checkpoint(RUN, tree.size, tree.root()).signed(key)


def evidence(lines: Sequence[bytes], checkpoint: Checkpoint | None = None, **files: bytes) -> Evidence:
    """Return the evidence of an auditor; checkpoint and statement are those of the lines unless given."""
    note = (checkpoint or sealed(lines)).note.encode()
    content = b"".join(line + b"\n" for line in lines)
    own = {LEDGER: content, CHECKPOINT: note, PUBLIC_KEY: KEY.public.pem()}
    return of_files(own | FILES | stated(lines) | files)


def of_files(files: Mapping[str, bytes]) -> Evidence:
    return Evidence("run", files, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def with_file(found: Evidence, name: str, content: bytes | None) -> Evidence:
    files = {key: value for key, value in found.files.items() if key != name}
    return replace(of_files(files | ({} if content is None else {name: content})), exported=found.exported)


def forged(payloads: Sequence[Payload], change: Callable[[list[Payload]], Any]) -> Evidence:
    """Return the ledger that an owner of the key could write instead: `change` edits its records in place."""
    changed = copy.deepcopy(list(payloads))
    change(changed)
    return evidence(lines_of(changed))


class Read:
    """A ledger as `of_ledger` wants it."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.entries = [envelope.parsed(line).entry for line in lines]
        self.head = sealed(lines).root.hex()


def stated(lines: Sequence[bytes]) -> dict[str, bytes]:
    """The statement's two files of a ledger; none where the records give no statement."""
    try:
        made = of_ledger(Read(lines))
    except VerificationError:
        return {}
    return {STATEMENT: text_of(made).encode(), TEXT: as_text(made).encode()}
