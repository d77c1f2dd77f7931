"""What the charges of a ledger add up to: what was released, which query used how much, epsilon over the rounds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

MOST_POINTS = 200
"""Points of epsilon over the rounds that a statement repeats; the ledger has all."""


def releases(charges: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each different query and noise, with the number of rounds that it was charged in."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for charge in charges:
        for query in charge["queries"]:
            key = (query["name"], tuple(query["shape"]), query["clip_norm"], query["noise_multiplier"])
            row = found.setdefault(
                key,
                {name: query[name] for name in ("name", "shape", "clip_norm", "noise_multiplier", "noise_std")}
                | {"sampling": charge["sampling"], "rounds": 0},
            )
            row["rounds"] += 1
    return list(found.values())


def budget(released: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a query: its part of all squared signal-to-noise, 1/z^2 summed over rounds, which is what composes."""
    parts: dict[str, dict[str, Any]] = {}
    for row in released:
        part = parts.setdefault(
            row["name"], {"query": row["name"], "numbers": math.prod(row["shape"]), "rounds": 0, "spent": 0.0}
        )
        part["rounds"] += row["rounds"]
        noise = float(row["noise_multiplier"])
        part["spent"] += row["rounds"] / noise**2 if noise else math.inf
    total = math.fsum(row["spent"] for row in parts.values())
    return [
        {key: row[key] for key in ("query", "numbers", "rounds")}
        | {"share": f"{row['spent'] / total:.4f}" if math.isfinite(total) else None}
        for row in parts.values()
    ]


def spent(charges: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Epsilon after each charge, by accountant; at most `MOST_POINTS`, first and last among them."""
    every = max(1, math.ceil((len(charges) - 1) / (MOST_POINTS - 1)))
    kept = sorted({*range(0, len(charges), every), *({len(charges) - 1} if charges else ())})
    return [
        {"charge": place + 1, "round": charges[place]["round"]}
        | {name: charges[place]["epsilon"][name] for name in ("pld", "rdp")}
        for place in kept
    ]


def stopped_early(payloads: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """After which round a run stopped on its own private outputs, why, and which rounds it left out and paid for.

    None for a run that did not stop. payloads: all of a ledger's.
    """
    for payload in payloads:
        if payload.get("type") == "stopped":
            return {key: payload[key] for key in ("round", "why", "unrun")}
    return None
