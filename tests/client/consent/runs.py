"""Runs whose terms a default policy lets in, to be changed by `dataclasses.replace`."""

from fedrec_client.consent.terms import QueryTerms, RunTerms


def query(noise: float = 4.0, clip: float | None = 1.0, shape: tuple[int, ...] = (60,)) -> QueryTerms:
    return QueryTerms("counts", shape, clip, noise, noise * (clip or 0))


def run(name: str = "run-1", count: int = 3, noise: float = 4.0, **changed: object) -> RunTerms:
    terms = {
        "run": name,
        "algorithm": "popularity",
        "fingerprint": "ab" * 32,
        "rounds": ((query(noise),),) * count,
        "sampling": 1.0,
        "trust": "distributed",
        "minimum_cohort": 500.0,
        "epsilon": 4.0,
        "delta": 1e-6,
        "users": 1000,
        "shares": 450,
    }
    return RunTerms(**(terms | changed))
