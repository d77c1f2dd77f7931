"""Small seeded runs, and what of them must never change: model, state, ledger, statement, summary, history, scenario.

Dates, keys, salts, versions, seconds and memory differ between two equal runs; they are replaced by their names.
"""

import base64
import csv
import json
import platform
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fedrec.cli import run as fedrec
from tests.golden.deployed import deployed

FILES = Path(__file__).parent / "files"
SMALL = ["data.users=120", "data.items=60", "data.interactions_per_user=12", "evaluation.every=0"]
PLAIN = [*SMALL, "evaluation.baselines=false"]
STEPS = ["algorithm.dim=4", "algorithm.rounds=3"]

SIMULATED: dict[str, list[str]] = {
    "als": ["algorithm.name=als", *STEPS],
    "als-sampled": ["algorithm.name=als", *STEPS, "privacy.sampling=0.5", "privacy.evaluation_share=0.1"],
    "als-stopped": [
        "algorithm.name=als", "algorithm.dim=4", "algorithm.rounds=12", "privacy.evaluation_share=0.3",
        "stopping.every=2", "stopping.patience=1", "stopping.min_improvement=50",
    ],
    "content": ["algorithm.name=content"],
    "fcf": ["algorithm.name=fcf", *STEPS],
    "fedncf": ["algorithm.name=fedncf", *STEPS],
    "fedrecon": ["algorithm.name=fedrecon", *STEPS],
    "kernel-rank": [
        "algorithm.name=kernel-rank", "algorithm.kernel_rank=16", "algorithm.rounds=2",
        "algorithm.cooccurrence=true", "algorithm.head_items=20",
    ],
    "kernel-rank-open": ["algorithm.name=kernel-rank", "algorithm.kernel_rank=16"],
    "cofedrec": ["algorithm.name=cofedrec", *STEPS],
    "fedrap": ["algorithm.name=fedrap", *STEPS],
    "fedvlr": ["algorithm.name=fedvlr", *STEPS],
    "gpfedrec": ["algorithm.name=gpfedrec", *STEPS],
    "pfedrec": ["algorithm.name=pfedrec", *STEPS],
    "popularity": ["algorithm.name=popularity", "evaluation.baselines=true"],
    "rating-biases": ["algorithm.name=rating-biases", "data.name=rated-films"],
    "sequence": ["algorithm.name=sequence", *STEPS, "algorithm.negatives=8", "algorithm.targets=2"],
    "sequence-residual": [
        "algorithm.name=sequence-residual", *STEPS, "algorithm.negatives=8", "algorithm.targets=2",
        "algorithm.base.kernel_rank=16", "algorithm.base.rounds=2", "algorithm.base.cooccurrence=false",
    ],
    "spectral": ["algorithm.name=spectral", "algorithm.rank=8", "algorithm.content_rank=4"],
    "spectral-subspace": [
        "algorithm.name=spectral", "algorithm.method=subspace", "algorithm.subspace_rank=4", "algorithm.rank=8",
    ],
    "tower-sgd": ["algorithm.name=tower-sgd", "algorithm.rounds=2", "algorithm.targets=2", "algorithm.negatives=8"],
    "no-privacy": ["algorithm.name=als", *STEPS, "privacy.epsilon=none"],
}  # fmt: skip
"""Golden file -> the settings of the run. The order in which an algorithm's own settings come does not matter."""
DEPLOYED: dict[str, list[str]] = {
    "nodes-als": ["algorithm.name=als", *STEPS, "privacy.evaluation_share=0.1"],
    "nodes-kernel-rank": SIMULATED["kernel-rank"],
}
NAMES = (*SIMULATED, *DEPLOYED)

VARIES = {
    *("started", "code", "software", "device", "versions", "key", "keyid", "serial", "expires"),
    *("seconds_per_round", "users_per_second", "peak_rss_mb", "seconds", "fingerprint", "salt"),
}
FIXED = {"state", "catalogue", "model/model.safetensors", "model/manifest.json", "model/items.json"}
"""Names whose digest is a function of the run alone; every other digest covers a date or a key."""
DIGEST = re.compile(r"(?<![.\w])([0-9a-f]{64}|[0-9a-f]{16})(?!\w)|ed25519:[A-Za-z0-9+/=]+")
VERSION = re.compile(r"\b\d+\.\d+\.\d+(\+\w+)?\b")


def machine() -> dict[str, str]:
    """Return the facts of a machine that must be equal for a run to repeat bit for bit."""
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    facts = dict(line.split(":", 1) for line in about.split("\n\n")[0].splitlines() if ":" in line)
    cpu = {name.strip(): value.strip() for name, value in facts.items()}
    return {
        "cpu": " ".join(cpu.get(name, "?") for name in ("vendor_id", "cpu family", "model")),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: version(name) for name in ("torch", "numpy", "scipy", "dp-accounting", "opacus")},
    }


def make(name: str, folder: Path) -> dict[str, Any]:
    """Run `name` with one thread and return what is golden of it. folder: an empty one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if name in DEPLOYED:
            deployed([*SMALL, *DEPLOYED[name]], folder / "run")
        else:
            changes = [part for change in [*PLAIN, *SIMULATED[name]] for part in ("--set", change)]
            code = fedrec(["simulate", "quickstart", *changes, "--seed", "3", "--out", str(folder / "run"), "--quiet"])
            assert code == 0, f"{name}: the run ended with exit code {code}"
    finally:
        torch.set_num_threads(threads)
    return facts(folder / "run")


def facts(run: Path) -> dict[str, Any]:
    """Return the content of a run folder without its variable parts."""
    release, private = run / "release", run / "private"
    with (private / "history.csv").open(encoding="utf-8", newline="") as file:
        history = list(csv.DictReader(file))
    found = {
        "scenario": (release / "scenario.toml").read_text(encoding="utf-8").splitlines(),
        "manifest": json.loads((release / "model" / "manifest.json").read_text(encoding="utf-8")),
        "history": history,
        "ledger": [_record(line) for line in (release / "privacy" / "ledger.jsonl").read_text().splitlines()],
        "statement": json.loads((release / "privacy" / "statement.json").read_text(encoding="utf-8")),
        "summary": json.loads((private / "summary.json").read_text(encoding="utf-8")),
    }
    return {"machine": machine(), **_steady(found, "")}


def _record(line: str) -> dict[str, Any]:
    """One line of a ledger with its payload opened: index, payload, and what it is about."""
    envelope = json.loads(line)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    about = [[subject["name"].rpartition("/")[2], subject["digest"]["sha256"]] for subject in statement["subject"]]
    fixed = {name: digest for name, digest in about if name == "state"}
    return {"type": statement["predicateType"], **statement["predicate"], "about": fixed or [name for name, _ in about]}


def _steady(value: Any, name: str) -> Any:
    if name in VARIES:
        return f"<{name}>"
    if isinstance(value, Mapping):
        return {key: _steady(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_steady(inner, name) for inner in value]
    if isinstance(value, str):
        text = VERSION.sub("<version>", value)
        return text if name in FIXED else DIGEST.sub("<digest>", text)
    return value


def differences(found: Any, expected: Any, same: Callable[[float, float], bool], path: str = "") -> list[str]:
    """Yield the differences of two values, in words; `same` compares numbers, everything else must be equal."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        keys = list({**expected, **found})
        missing = object()
        return [
            line
            for key in keys
            for line in differences(found.get(key, missing), expected.get(key, missing), same, f"{path}/{key}")
        ]
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for n, pair in pairs for line in differences(*pair, same, f"{path}/{n}")]
    numbers = _number(found), _number(expected)
    if numbers[0] is not None and numbers[1] is not None and same(numbers[0], numbers[1]):
        return []
    return [] if type(found) is type(expected) and found == expected else [f"{path}: {found!r}, golden {expected!r}"]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
