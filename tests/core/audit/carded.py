"""A small ledger with a run card, without a run: its first record, its charges, and proofs of both."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedrec.audit.card.publish import LedgerProofs
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
FINGERPRINT = "ab" * 32


def query(name: str = "items", clip: str = "2.0", multiplier: str = "3.0", std: str = "6.0") -> dict[str, Any]:
    return {"name": name, "shape": [5, 2], "clip_norm": clip, "noise_multiplier": multiplier, "noise_std": std}


def begin(key: SigningKey, **changes: Any) -> dict[str, Any]:
    made = {
        "type": "begin",
        "parties": [{"role": "server", "key": key.public.text}],
        "trust": "central",
        "guarantee": "(epsilon, delta)-joint differential privacy",
        "target_epsilon": "2.0",
        "delta": "1e-05",
        "sampling": {"probability": "0.5"},
        "population": {"users": 100, "known": "declared"},
        "rounds": 6,
        "plan": [
            {"rounds": [0, 4], "queries": [query()]},
            {"rounds": [5, 5], "queries": [query("evaluation", "1.0", "3.0", "3.0")]},
        ],
        "algorithm": "als",
        "dataset": "nodes",
        "seeded": False,
        "mechanism": {"name": "Poisson-sampled Gaussian, add or remove one user"},
        "card": card(),
    }
    return made | changes


def card(**changes: Any) -> dict[str, Any]:
    made = {
        "serial": 17,
        "expires": "2026-12-30T00:00:00Z",
        "fingerprint": FINGERPRINT,
        "minimum_cohort": 20,
        "nodes": 3,
        "receipts": True,
    }
    return made | changes


def charge(round_index: int, **changes: Any) -> dict[str, Any]:
    queries = [query()] if round_index < 5 else [query("evaluation", "1.0", "3.0", "3.0")]
    made = {"type": "charge", "round": round_index, "queries": queries, "sampling": "0.5", "delta": "1e-05"}
    return made | changes


def ledger(folder: Path, key: SigningKey, first: dict[str, Any] | None = None, run: str = "run1") -> Ledger:
    made = Ledger(folder / "ledger.jsonl", key, run=run)
    made.append(begin(key) if first is None else first)
    return made


def published(made: Ledger) -> LedgerProofs:
    return LedgerProofs(made)
