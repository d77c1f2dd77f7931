"""Summaries of a ledger's charges: the releases, the budget by query, and epsilon over the rounds."""

import math
from collections import Counter
from collections.abc import Sequence

from fedrec.audit.statement.schema import Point, Release, Spending
from fedrec.charge import Charge, QueryTerms

MOST_POINTS = 200
"""Most points of epsilon over the rounds in a statement; the ledger has all."""

_Key = tuple[str, tuple[int, ...], str | None, str, tuple[str, str] | None]


def releases(charges: Sequence[Charge]) -> list[Release]:
    """Return one row for each different query and noise, with the number of its charged rounds."""
    first: dict[_Key, tuple[QueryTerms, str]] = {}
    rounds: Counter[_Key] = Counter()
    for charge in charges:
        for query in charge.queries:
            factors = None if query.factors is None else (query.factors.smallest, query.factors.largest)
            key = (query.name, tuple(query.shape), query.clip_norm, query.noise_multiplier, factors)
            first.setdefault(key, (query, charge.sampling))
            rounds[key] += 1
    return [
        Release(
            name=query.name,
            shape=query.shape,
            clip_norm=query.clip_norm,
            noise_multiplier=query.noise_multiplier,
            noise_std=query.noise_std,
            sampling=sampling,
            rounds=rounds[key],
            factors=None if query.factors is None else [query.factors.smallest, query.factors.largest],
        )
        for key, (query, sampling) in first.items()
    ]


def budget(charges: Sequence[Charge]) -> list[Spending]:
    """Return a row a query: its share of all squared signal-to-noise, (sensitivity / noise)^2 summed over rounds."""
    squared: dict[tuple[str, str], float] = {}
    for charge in charges:
        for query in charge.queries:
            key = query.name, query.noise_multiplier
            squared[key] = squared.get(key, 0.0) + query.sensitivity(charge.step) ** 2
    first: dict[str, Release] = {}
    rounds: Counter[str] = Counter()
    used: dict[str, float] = {}
    for row in releases(charges):
        first.setdefault(row.name, row)
        rounds[row.name] += row.rounds
    for (name, multiplier), total_squared in squared.items():
        noise = float(multiplier)
        used[name] = used.get(name, 0.0) + (total_squared / noise**2 if noise else math.inf)
    total = math.fsum(used.values())
    return [
        Spending(
            query=name,
            numbers=math.prod(row.shape),
            rounds=rounds[name],
            share=f"{used[name] / total:.4f}" if math.isfinite(total) else None,
        )
        for name, row in first.items()
    ]


def spent(charges: Sequence[Charge]) -> list[Point]:
    """Return epsilon after each charge, by accountant; at most `MOST_POINTS`, first and last among them."""
    every = max(1, math.ceil((len(charges) - 1) / (MOST_POINTS - 1)))
    kept = sorted({*range(0, len(charges), every), *({len(charges) - 1} if charges else ())})
    return [
        Point(
            charge=place + 1,
            round=charges[place].round,
            pld=charges[place].epsilon.pld,
            rdp=charges[place].epsilon.rdp,
        )
        for place in kept
    ]
