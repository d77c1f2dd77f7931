"""A small genuine run to attack: a plan, its charges, its end and its files, signed with a key made for the purpose."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from fedrec import __version__
from fedrec.audit.entries.records import Catalogue
from fedrec.audit.evidence import files_record, salted
from fedrec.audit.evidence.layout import Layout
from fedrec.audit.evidence.received_run import CHECKPOINT, LEDGER, MODEL, PUBLIC_KEY, STATEMENT
from fedrec.audit.log import envelope
from fedrec.audit.log.chain import read as read_chain
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.log.merkle import Frontier
from fedrec.audit.report.html import page
from fedrec.audit.statement import run_records
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.received import receive
from fedrec.audit.statement.statement import of_ledger, text_of
from fedrec.errors import FedrecError
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

Payload = dict[str, Any]
USERS = 500
ROUNDS = ((SumQuery("popularity", (20,), 1.0, 0.4),), *[(SumQuery("items", (20, 2), 2.0, 0.2),)] * 3)
SCENARIO = 'name = "self-test"\nseed = 7\n\n[privacy]\nepsilon = 2.0\n'


def genuine_run(run: Path, key: SigningKey, sampling: float = 1.0) -> Path:
    """Make a finished run in the folder `run`, as a simulation does. Its noise is recorded, but never drawn."""
    layout = Layout(run, run / "release", run / "private")
    for folder in (layout.release / "model", layout.release / "privacy"):
        folder.mkdir(parents=True)
    layout.private.mkdir(mode=0o700)
    model = save({"items": np.zeros((20, 2), dtype=np.float32)})
    manifest = {"kind": "als", "model": {}, "version": __version__, "sha256": hashlib.sha256(model).hexdigest()}
    files = {MODEL: model, "model/manifest.json": (json.dumps(manifest, indent=2) + "\n").encode()}
    for name, content in {**files, "scenario.toml": SCENARIO.encode(), PUBLIC_KEY: key.public.pem()}.items():
        (layout.release / name).write_bytes(content)
    private = {"summary.json": b'{"metrics": {}}\n', "history.csv": b"round,seconds\n0,0.1\n"}
    for name, content in private.items():
        (layout.private / name).write_bytes(content)
    salt = salted.salt_in(layout.private)
    ledger = Ledger(layout.release / LEDGER, key)
    for payload in _payloads(key, sampling, files, {n: salted.digest(salt, n, c) for n, c in private.items()}):
        ledger.append(payload)
    ledger.seal()
    state(layout.release)
    files_record.fix(ledger, layout)
    return run


def state(release: Path) -> None:
    """Write statement and page from the ledger in `release`; nothing if the ledger gives no statement."""
    chain = read_chain((release / LEDGER).read_bytes())
    try:
        stated = of_ledger(_Read([record.entry for record in chain.records], chain.head))
        (release / STATEMENT).write_text(text_of(stated), encoding="utf-8")
        (release / "privacy/statement.md").write_text(as_text(stated), encoding="utf-8")
        (release / "privacy/report.html").write_text(page(receive(release)), encoding="utf-8")
    except FedrecError:
        return


def payloads_of(release: Path) -> list[Payload]:
    """Return the payloads of the ledger in `release`, oldest first."""
    return [record.payload for record in read_chain((release / LEDGER).read_bytes()).records]


def resigned(run: Path, key: SigningKey, change: Callable[[list[Payload]], Any]) -> None:
    """Rewrite a run's ledger with a `change` of its payloads, and all files that follow, as the owner of the key could.

    It ignores the key's own mark, which stops mistakes, but not the owner of the key.
    """
    layout = Layout(run, run / "release", run / "private")
    name = read_chain((layout.release / LEDGER).read_bytes()).records[0].run
    payloads = payloads_of(layout.release)
    change(payloads)
    rest = [payload for payload in payloads if payload.get("type") != "files"]
    _write(layout.release, rest, key, name)
    state(layout.release)
    if len(rest) < len(payloads):
        release = {
            file: hashlib.sha256((layout.release / file).read_bytes()).hexdigest() for file in payloads[-1]["release"]
        }
        _write(layout.release, [*rest, payloads[-1] | {"release": release}], key, name)


def _write(release: Path, payloads: Sequence[Payload], key: SigningKey, run: str) -> None:
    tree, lines = Frontier(), []
    for index, payload in enumerate(payloads):
        record = envelope.signed(index, tree.root().hex(), run, payload, None, key)
        tree.append(record.leaf)
        lines.append(record.line + b"\n")
    (release / LEDGER).write_bytes(b"".join(lines))
    (release / CHECKPOINT).write_bytes(Checkpoint(run, tree.size, tree.root()).signed(key).note.encode())


class _Read:
    """A ledger in the form that `of_ledger` needs."""

    def __init__(self, entries: Sequence[envelope.Entry], head: str) -> None:
        self.entries, self.head = entries, head


def _payloads(key: SigningKey, sampling: float, files: dict[str, bytes], private: dict[str, str]) -> list[Payload]:
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=2.0, sampling=sampling), ROUNDS, USERS, None)
    begin = run_records.begin(
        plan,
        key.public,
        role="the self-test",
        simulation=True,
        scenario=("self-test", hashlib.sha256(SCENARIO.encode()).hexdigest()),
        algorithm="als",
        dataset="generated",
        catalogue=Catalogue(items=20, known="given", k_core=None),
        population="declared",
        unprotected=["nothing was trained: the record is made to be attacked"],
        tuned_on=None,
        fixes_files=True,
    )
    charges = [plan.charge(round_index) for round_index in range(len(ROUNDS))]
    end = run_records.end(
        rounds=len(ROUNDS),
        exhausted=None,
        state="0" * 64,
        files=files,
        private=private,
        besides={},
        unprotected=["the self-test"],
        curve=run_records.curve(plan),
    )
    return [begin.payload(), *(charge.payload() for charge in charges), end.payload()]
