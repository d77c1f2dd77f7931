"""Results of attacks, in a private file. The ledger gets a salted digest of each."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedrec.audit.evidence import attack_results
from fedrec.audit.evidence.salted import salt_in
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.report.html import page
from fedrec.audit.statement.received import receive
from fedrec.received_files import refuse_links
from fedrec.rounding import rounded_up
from fedrec.run.directory import SECRET, RunDirectory, write_json
from fedrec.run.records import fix_files

VERSION = 1
NOT_COVERED = (
    "made in a simulation that holds all users' data: these figures are exact, and no epsilon covers them; publish "
    "them for generated or public data only"
)


@dataclass(frozen=True)
class Bound:
    """A lower bound on epsilon by one method, with its assumptions."""

    method: str
    epsilon: float
    assumes: str


@dataclass(frozen=True)
class Result:
    """The result of one attack.

    Attributes:
        adversary: the attacker's view, by its name in the privacy statement.
        proven: the claimed epsilon against that adversary, None without a claim.
        bounds: lower bounds, which hold together with `confidence`.
        figures: JSON-able measurements.
        accused: whether the attack refutes the claim.
        says: the result in one sentence.
    """

    kind: str
    adversary: str
    threat_model: str
    observed: str
    figures: Mapping[str, Any]
    seed: int
    accused: bool
    says: str
    confidence: float = 0.95
    proven: float | None = None
    delta: float | None = None
    bounds: tuple[Bound, ...] = ()
    estimate: float | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def lower(self) -> float | None:
        """The best lower bound, None without a bound."""
        return max((bound.epsilon for bound in self.bounds), default=None)

    def payload(self) -> dict[str, Any]:
        """Return the result as JSON. Key numbers are strings: lower bounds rounded DOWN, proven epsilons UP."""
        lower = self.lower
        return {
            "type": "attack",
            "version": VERSION,
            "name": self.kind,
            "about": self.says,
            "adversary": self.adversary,
            "threat_model": self.threat_model,
            "observed": self.observed,
            "confidence": repr(self.confidence),
            "epsilon_lower": None if lower is None else rounded_down(lower),
            "epsilon_proven": None if self.proven is None else rounded_up(self.proven),
            "delta": None if self.delta is None else repr(self.delta),
            "bounds": [
                {"method": each.method, "epsilon_lower": rounded_down(each.epsilon), "assumes": each.assumes}
                for each in self.bounds
            ],
            "epsilon_estimate": None
            if self.estimate is None or not math.isfinite(self.estimate)
            else f"{self.estimate:.4f}",
            "figures": dict(self.figures),
            "accused": self.accused,
            "not_covered": NOT_COVERED,
            "seed": self.seed,
            "seconds": f"{self.seconds:.1f}",
        }


def rounded_down(value: float) -> str:
    """Format with four decimals, never above the value."""
    return f"{math.floor(value * 1e4) / 1e4:.4f}"


def keep_in_run(results: list[dict[str, Any]], folder: RunDirectory) -> Path:
    """Add results to `private/attacks.json`, and a salted digest of each to the run's ledger.

    The page of the run names the attacks, so it is written anew, and the ledger is closed again.
    """
    refuse_links(folder.path)
    place = keep(results, folder.attacks)
    ledger, salt = Ledger(folder.ledger), salt_in(folder.private)
    for result in results:
        ledger.append(attack_results.record(result, salt).payload())
    ledger.seal()
    folder.report.write_text(page(receive(folder.path)), encoding="utf-8")
    fix_files(ledger, folder)
    return place


def keep(results: list[dict[str, Any]], path: Path) -> Path:
    """Add the results to the JSON list in `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    write_json(path, [*before, *results], SECRET)
    return path
