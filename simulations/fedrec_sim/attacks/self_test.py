"""The self-test: direct tests, on a small problem, that the system keeps to its ledger.

There are three short runs through the real coordinator, federation and plan. One with every user in every round and
one with Poisson sampling test noise, support and cohorts, on releases minus their right sums. The third has probes:
users with a raw part of a thousand times the clip. All tests together accuse a correct system with a probability of at
most 1 - confidence (one in a thousand).
"""

from dataclasses import dataclass, field

import numpy as np

from fedrec.audit.empirical import direct_checks
from fedrec.audit.empirical.direct_checks import Finding
from fedrec.errors import InputError
from fedrec_sim.attacks.canaries import Canaries
from fedrec_sim.attacks.crowd import with_empty_users
from fedrec_sim.attacks.record import Result
from fedrec_sim.attacks.recorder import Observation
from fedrec_sim.attacks.target import (
    MemoryLedger,
    Progress,
    Target,
    Watched,
    load_target,
    silent,
    watch,
)

SMALL = (
    "data.users=300",
    "data.items=500",
    "data.interactions_per_user=8",
    "algorithm.name=als",
    "algorithm.dim=3",
    "algorithm.rounds=6",
    "algorithm.popularity_share=0.0",  # every round asks for the same sums
)
"""The default algorithm of the test: sums with a row for each item that only its users touch."""
SAMPLING = 0.3
LOUDNESS = 1000.0
PROBES = 1000
CONFIDENCE = 0.999
"""Confidence of an accusation. The test runs at every change of the code, so false alarms must be rare."""


@dataclass
class Notes:
    """Observations of a run's rounds: the noise of each release in units of the STATED deviation, and the rest."""

    ledger: MemoryLedger
    noise: dict[str, np.ndarray] = field(default_factory=dict)
    released: list[np.ndarray] = field(default_factory=list)
    touched: list[np.ndarray] = field(default_factory=list)
    changes: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    cohorts: list[np.ndarray] = field(default_factory=list)

    def see(self, seen: Observation) -> None:
        """Add the observations of one round."""
        stated = {query.name: float(query.noise_std) for query in self.ledger.charge(seen.round).queries}
        self.cohorts.append(np.sort(seen.cohort))
        for name, release in seen.releases.items():
            self.noise[f"round {seen.round} {name}"] = release.rest / stated[name]
            self.released.append(release.noisy)
            touched = release.others != 0
            self.touched.append(touched)
            rows = release.query.shape[0]
            for key, before in seen.before.items():
                after = seen.after.get(key)
                if after is None or before.ndim == 0 or before.shape[0] != rows or after.shape != before.shape:
                    continue
                changed = (after != before).reshape(rows, -1).any(1).cpu().numpy()
                if changed.any():
                    self.changes.append((touched.reshape(rows, -1).any(axis=1), changed))


class Probing:
    """Shift of the releases by each probe beyond the clip, in standard deviations of the noise."""

    def __init__(self, probes: Canaries) -> None:
        self.probes = probes
        self._moved, self._allowed, self._variance = (np.zeros(len(probes.positions)) for _ in range(3))

    def see(self, seen: Observation) -> None:
        """Add the observations of one round."""
        part = np.isin(self.probes.positions, seen.cohort)
        for release in seen.releases.values():
            if self.probes.has_room(release.query):
                moved = self.probes.directions(release.query).along(release.rest)
                self._moved += np.where(part, moved / release.noise_std, 0.0)
                self._allowed += np.where(part, release.query.clip_norm / release.noise_std, 0.0)
                self._variance += part

    @property
    def excess(self) -> np.ndarray:
        """One number for each probe that took part."""
        part = self._variance > 0
        return (self._moved - self._allowed)[part] / np.sqrt(self._variance[part])


def small_target(seed: int) -> Target:
    """Return the default problem of the test."""
    return load_target("quickstart", SMALL, None, seed, {"seed": seed})


def self_test(
    target: Target,
    *,
    confidence: float = CONFIDENCE,
    probes: int = PROBES,
    progress: Progress = silent,
) -> tuple[Result, list[Finding]]:
    """Run all direct tests. Raises: InputError for a run without privacy."""
    if not target.scenario.privacy.private:
        raise InputError("--kind self-test: a run without privacy states no noise to test; set privacy.epsilon")
    sampled = target.scenario.privacy.sampling
    sampled = SAMPLING if sampled == 1 else sampled
    findings = []
    for sampling in (1.0, sampled):
        findings += [_named(finding, sampling) for finding in _quiet_run(target, sampling, progress)]
    findings += [_named(finding, sampled) for finding in _loud_run(target, sampled, probes, progress)]
    against = direct_checks.accused(findings, 1 - confidence)
    return _result(findings, against, confidence, target.seed), findings


def _quiet_run(target: Target, sampling: float, progress: Progress) -> list[Finding]:
    setup = target.with_privacy(sampling=sampling).setup(round(1000 * sampling))
    notes = Notes(MemoryLedger())
    watched = watch(setup, target.users, notes.see, ledger=notes.ledger, progress=progress)
    noise = list(notes.noise.values())
    findings = [
        _stated_noise(watched),
        direct_checks.noise_scale(noise),
        direct_checks.noise_by_release(notes.noise),
        direct_checks.noise_shape(noise),
        direct_checks.noise_reuse(notes.noise),
        direct_checks.release_support(np.concatenate(notes.released), np.concatenate(notes.touched)),
        direct_checks.update_support(notes.changes),
    ]
    if sampling < 1:
        findings.append(
            direct_checks.cohort_sizes([len(cohort) for cohort in notes.cohorts], len(target.users), sampling)
        )
        findings.append(direct_checks.cohort_overlap(notes.cohorts, len(target.users)))
    return findings


def _loud_run(target: Target, sampling: float, probes: int, progress: Progress) -> list[Finding]:
    users = len(target.users)
    crowd = target.with_users(with_empty_users(target.users, probes)).with_privacy(sampling=sampling)
    setup = crowd.setup()
    room = max((query.size for queries in setup.plan.rounds for query in queries.values()), default=0)
    if room < probes:
        return [Finding("clip", None, f"the largest query has room for {room} of {probes} probes")]
    planted = Canaries(np.arange(users, users + probes), np.ones(probes, dtype=bool), target.seed, LOUDNESS)
    probing = Probing(planted)
    watch(setup, crowd.users, probing.see, planted, progress=progress)
    return [direct_checks.clip_probe(probing.excess)]


def _stated_noise(watched: Watched) -> Finding:
    """Compare the stated noise of the queries with the noise behind epsilon. The test is exact, so p is 0 or 1."""
    worst = 0.0
    for round_index in range(watched.outcome.rounds):
        charge = watched.ledger.charge(round_index)
        queries = [query for query in charge.queries if float(query.noise_std) > 0]
        precision = sum((float(query.clip_norm or 0) / float(query.noise_std)) ** 2 for query in queries)
        priced = sum(event.count / float(event.noise_multiplier) ** 2 for event in charge.events)
        worst = max(worst, abs(precision / priced - 1)) if priced else worst
    detail = f"noise of the queries and noise that epsilon was computed from differ by {worst:.1e} at most"
    return Finding("stated noise", 1.0 if worst < 1e-9 else 0.0, detail)


def _named(finding: Finding, sampling: float) -> Finding:
    return Finding(f"{finding.check} (sampling {sampling:g})", finding.p_value, finding.detail)


def _result(findings: list[Finding], against: list[Finding], confidence: float, seed: int) -> Result:
    tested = [finding for finding in findings if finding.p_value is not None]
    names = ", ".join(finding.check for finding in against)
    return Result(
        kind="self-test",
        adversary="auditor",
        threat_model="holds all users' data and reads every noisy sum, cohort and charge of a simulated run",
        observed="what is left of each release when the sum that should be there is taken off",
        figures={
            "tests": len(tested),
            "not_possible": [finding.check for finding in findings if finding.p_value is None],
            "least_p": f"{min((finding.p_value or 0.0 for finding in tested), default=1.0):.3g}",
            "against": [{"check": f.check, "p": f"{f.p_value:.3g}", "detail": f.detail} for f in against],
        },
        seed=seed,
        accused=bool(against),
        says=f"the system does NOT do what its record says: {names}"
        if against
        else f"none of {len(tested)} tests finds the system to differ from its record",
        confidence=confidence,
    )
