"""Small runs with fixed keys, times and salts, whose every byte is kept under `fixtures/golden`.

`python -m tests.core.audit.golden_runs` writes the fixtures anew: only for a change of a format that is meant.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from fedrec import __version__, cli
from fedrec.audit.entries.records import Catalogue
from fedrec.audit.evidence import attack_results, files_record, salted
from fedrec.audit.evidence.layout import Layout
from fedrec.audit.evidence.received_run import LEDGER, MODEL, PUBLIC_KEY, STATEMENT
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.report.html import page
from fedrec.audit.statement import agreement, run_records
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.received import receive
from fedrec.audit.statement.statement import of_ledger, text_of
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery
from tests.core.audit.audited_run import BUDGET

FIXTURES = Path(__file__).parent / "fixtures" / "golden"
WORDING = "ab" * 32
KEYS = [SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in (1, 2)]
ROUNDS = ((SumQuery("popularity", (50,), 1.0, 0.4),), *[(SumQuery("weights", (3,), 2.0, 0.2),)] * 3)
SCENARIO = b'name = "golden"\nseed = 7\n'
FILES = {MODEL: b"weights", "model/items.json": b"[]\n", "scenario.toml": SCENARIO, PUBLIC_KEY: KEYS[0].public.pem()}
FILES["model/manifest.json"] = json.dumps({"sha256": hashlib.sha256(FILES[MODEL]).hexdigest()}).encode()
ATTACK = {"type": "attack", "name": "canary", "adversary": "model_recipients", "epsilon_lower": "0.1000"}
KINDS: dict[str, dict[str, Any]] = {
    "stopped": {"epsilon": 2.0, "seed": 7},
    "sampled": {"epsilon": 2.0, "sampling": 0.3, "seed": None},
    "open": {"epsilon": "none", "seed": None},
}
FIXED: dict[str, Any] = {
    "started": "2026-01-02T03:04:05+00:00",
    "accountants": {"pld": "dp-accounting 0.6.0", "rdp": "opacus 1.6.0"},
    "code": {"fedrec": "0.1.0", "commit": "0" * 40, "wording": WORDING},
    "software": dict.fromkeys(("python", "fedrec", "torch", "numpy", "opacus", "dp-accounting"), "1.0"),
}
"""Facts of the machine that would differ from one to the next."""


def payloads(kind: str, salt: bytes) -> list[tuple[dict[str, Any], tuple[str, str] | None]]:
    """The records of a run up to its end, each with its subject."""
    settings = dict(KINDS[kind])
    plan = PrivacyPlan.build(PrivacyConfig(**{k: v for k, v in settings.items() if k != "seed"}), ROUNDS, 1000,
                             settings["seed"])  # fmt: skip
    stopped, simulation = kind == "stopped", kind != "sampled"
    begin = run_records.begin(
        plan,
        KEYS[0].public,
        role="the operator of the simulation" if simulation else "the operator of the server",
        simulation=simulation,
        scenario=("golden", hashlib.sha256(SCENARIO).hexdigest()),
        algorithm="als",
        dataset="toy",
        catalogue=Catalogue(
            items=50, known="given" if stopped else "taken from the log", k_core=None if stopped else 5
        ),
        population="counted in the log, and taken as public",
        unprotected=["true metrics, without noise"],
        tuned_on="ml-1m" if kind == "sampled" else None,
        notes=["the log was generated"] if stopped else [],
        budget=BUDGET if stopped else None,
        fixes_files=True,
    )
    made: list[tuple[dict[str, Any], tuple[str, str] | None]] = [(begin.payload() | FIXED, None)]
    for number in range(2):
        made.append((plan.charge(number).payload(), None))
    made.append(({"type": "note", "what": "resumed under other code", "code": FIXED["code"]}, None))
    if stopped:
        made.append(({"type": "stopped", "round": 1, "why": "no gain for 2 looks", "unrun": [2, 3]}, None))
    made += [((plan.forfeit if stopped else plan.charge)(number).payload(), None) for number in (2, 3)]
    end = run_records.end(
        rounds=2 if stopped else 4,
        exhausted=None,
        state="cd" * 32,
        files={name: FILES[name] for name in (MODEL, "model/manifest.json", "model/items.json")},
        private={"summary.json": salted.digest(salt, "summary.json", b"{}\n")},
        besides={"hr@10 (charged)": "0.25"},
        unprotected=["which nodes answered"],
        curve=run_records.curve(plan),
    )
    return [*made, (end.payload(), (MODEL, end.files[MODEL]))]


def write(kind: str, folder: Path) -> Path:
    """Make the run of one kind in `folder`, as a simulation leaves one."""
    run = Layout(folder, folder / "release", folder / "private")
    for name, content in FILES.items():
        (run.release / name).parent.mkdir(parents=True, exist_ok=True)
        (run.release / name).write_bytes(content)
    run.private.mkdir(mode=0o700)
    (run.private / "summary.json").write_bytes(b"{}\n")
    salt = bytes(range(32))
    (run.private / "salt").write_bytes(salt)
    (run.private / "salt").chmod(0o600)
    (run.private / "attacks.json").write_text(json.dumps([ATTACK]))
    ledger = Ledger(run.release / LEDGER, KEYS[0], run="0123456789abcdef")
    for payload, about in payloads(kind, salt):
        ledger.append(payload, about)
    stated = of_ledger(ledger)
    (run.release / STATEMENT).write_text(text_of(stated))
    (run.release / "privacy/statement.md").write_text(as_text(stated))
    files_record.fix(ledger, run)
    if kind == "stopped":
        ledger.append(attack_results.record(ATTACK, salt).payload())
        ledger.rotate(KEYS[1])
        files_record.fix(ledger, run)
    ledger.seal()
    return folder


def texts(folder: Path) -> dict[str, str]:
    """Return the texts for readers of the run in `folder`, by name: statement, screens, digest of the page.

    The folder's name is part of the screens, so that it must be `run` in the working folder.
    """
    received = receive(folder)
    html = page(received).replace(f"fedrec {__version__}", "fedrec 0.1.0")
    found = {
        "statement.json": text_of(received.statement),
        "statement.md": as_text(received.statement),
        "report.sha256": hashlib.sha256(html.encode()).hexdigest() + "\n",
    }
    for name, command in {
        "show.txt": ["show", "run"],
        "show.json": ["show", "run", "--json"],
        "verify.json": ["verify", "run", "--key", KEYS[0].public.text, "--json"],
        "prove.txt": ["prove", "run", "--record", "1"],
        "diff.json": ["diff", "run", "run", "--json"],
        "combine.json": ["combine", "run", "--key", KEYS[0].public.text, "--json"],
    }.items():
        done = CliRunner().invoke(cli.app, ["audit", *command], env={"COLUMNS": "100", "NO_COLOR": "1"})
        found[name] = done.output if done.exception is None else f"{done.output}{type(done.exception).__name__}\n"
    return found


def pinned(patch: pytest.MonkeyPatch) -> None:
    """Take the sentences of this code for those of the golden ledgers."""
    patch.setattr(agreement, "wording", lambda: WORDING)


def make_fixtures() -> None:
    """Write every fixture anew, from a working folder that holds nothing called `run`."""
    for kind in KINDS:
        folder = FIXTURES / kind
        write(kind, folder / "run")
        with pytest.MonkeyPatch.context() as patch:
            pinned(patch)
            patch.chdir(folder)
            for name, text in texts(Path("run")).items():
                (folder / name).write_text(text)


if __name__ == "__main__":
    make_fixtures()
