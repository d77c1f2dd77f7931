"""What a ledger costs: an append with its sync, verifying a long one, and the size of a proof.

The ledger is a real plan's over many rounds; its epsilons come from the accountants that verification shares no code
with, here from their closed forms where they exist, since pricing ten thousand rounds one by one is the plan's time.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.audit.accountant import recompute
from fedrec.audit.entries.records import Catalogue
from fedrec.audit.evidence import received_run
from fedrec.audit.log import chain as chains
from fedrec.audit.log import checkpoint, keys, proofs
from fedrec.audit.log.ledger import Ledger, checkpoint_path
from fedrec.audit.statement import run_records
from fedrec.audit.verify.verification import verify
from fedrec.charge import Epsilons
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery
from fedrec.rounding import rounded_up


def written(folder: Path, rounds: int, sampling: float, key: keys.SigningKey, *, queries: int = 1) -> list[float]:
    """Write the ledger of a run of that many equal rounds; returns the seconds of each append of a charge."""
    share = 1 / (rounds * queries)
    round_index = tuple(SumQuery(f"weights-{number}", (64, 32), 1.0, share) for number in range(queries))
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=1.0, sampling=sampling), [round_index] * rounds, 50_000, None)
    first = plan.charge(0)
    event = (sampling, float(first.events[0].noise_multiplier), 1)
    tight, renyi = _cumulative([[event]] * rounds)
    ledger = Ledger(folder / received_run.LEDGER, key)
    begin = run_records.begin(
        plan,
        key.public,
        role="benchmark",
        simulation=True,
        scenario=("bench", "0" * 64),
        algorithm="none",
        dataset="none",
        catalogue=Catalogue(items=64, known="given", k_core=None),
        population="given",
        unprotected=(),
        tuned_on=None,
    )
    ledger.append(begin.payload())
    seconds = []
    for number in range(rounds):
        epsilon = Epsilons(pld=_up(tight[number]), rdp=_up(renyi[number]))
        charge = first.model_copy(update={"round": number, "epsilon": epsilon})
        began = time.perf_counter()
        ledger.append(charge.payload(), ("state", f"{number:064x}"))
        seconds.append(time.perf_counter() - began)
    ledger.seal()
    return seconds


def measure(folder: Path, rounds: int, sampling: float) -> dict[str, Any]:
    """Write, verify and prove in the empty `folder`. Raises: RuntimeError when the ledger does not verify."""
    key = keys.new_key(folder / "key.pem")
    appends = written(folder, rounds, sampling, key)
    began = time.perf_counter()
    found = received_run.received(folder)
    verdict = verify(found, key.public)
    verifying = time.perf_counter() - began
    if not verdict.holds:
        raise RuntimeError(f"the benchmark's ledger does not verify: {verdict.faults}")
    chain = chains.read(found.ledger)
    sealed = checkpoint.parsed(checkpoint_path(folder / received_run.LEDGER).read_text(encoding="utf-8"))
    began = time.perf_counter()
    proof = proofs.of_record(chain, sealed, rounds // 2)
    proving = time.perf_counter() - began
    proofs.check(proof, key.public)
    return {
        "rounds": rounds,
        "sampling": sampling,
        "ledger_bytes": len(found.ledger),
        "append_ms": {
            "median": 1e3 * statistics.median(appends),
            "mean": 1e3 * statistics.fmean(appends),
            "99 %": 1e3 * float(np.quantile(appends, 0.99)),
        },
        "sync_ms": _sync_ms(folder),
        "verify_seconds": verifying,
        "method": verdict.facts["epsilon"]["method"],
        "proof_bytes": len(proof.encode()),
        "prove_ms": 1e3 * proving,
    }


def _cumulative(rounds: Sequence[Sequence[recompute.Event]]) -> tuple[np.ndarray, np.ndarray]:
    delta = PrivacyConfig().delta
    renyi = recompute.renyi_curve(rounds, delta).epsilon
    places = np.unique(np.geomspace(1, len(rounds), 400).round().astype(int))
    tight = recompute.curve(rounds, delta, places.tolist())
    return np.interp(np.arange(1, len(rounds) + 1), tight.places, tight.epsilon), renyi


def _up(value: float) -> str:
    return rounded_up(value, 6)


def _sync_ms(folder: Path) -> float:
    """What this disk takes for the smallest thing: a kilobyte appended and synced, the median of 50."""
    import os

    seconds = []
    with (folder / "sync").open("ab") as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 1024)
            file.flush()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds)
