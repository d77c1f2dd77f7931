"""The canary attack: the strongest adversary of the proof, against the real system, with many canaries in one run.

The attacker knows everything but the canaries' coins: all other users, the canaries' directions, the plan. It sees
every noisy sum, as model recipients may. The score of a canary is the log likelihood ratio of "in" against "out" under
the CLAIMED noise and sampling, which no attacker can beat where the claim is true. A bound above the proven epsilon
refutes the proof or the system.
"""

import numpy as np

from fedrec.audit.empirical.lower_bounds import best_one_run, best_two_sided, errors_at, gaussian_mu_bound
from fedrec.audit.empirical.one_shot import one_shot_estimate
from fedrec.errors import InputError
from fedrec.privacy.accounting import gaussian_epsilon
from fedrec.privacy.plan import PrivacyPlan
from fedrec_sim.attacks.canaries import Canaries, Directions
from fedrec_sim.attacks.crowd import with_empty_users
from fedrec_sim.attacks.record import Bound, Result
from fedrec_sim.attacks.recorder import Observation
from fedrec_sim.attacks.target import Progress, Target, Watched, silent, watch

THRESHOLDS = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
"""Threshold of the log likelihood ratio, in proven epsilons, fixed before any score is seen."""

FEWEST, MOST = 200, 1000
"""Default number of canaries."""


class CanaryScores:
    """The evidence of all rounds about each canary.

    Attributes:
        scores: (canaries,) log likelihood ratios of in against out.
        correlations: the same from the releases alone, without knowledge of other users.
    """

    def __init__(self, canaries: Canaries, sampling: float) -> None:
        self.canaries, self.sampling = canaries, sampling
        self.scores = np.zeros(len(canaries.positions))
        self.correlations = np.zeros(len(canaries.positions))
        self.attacked = self.whole = 0.0
        self._sums: dict[str, np.ndarray] = {}
        self._directions: dict[str, Directions] = {}

    def see(self, seen: Observation) -> None:
        """Add the evidence of one round."""
        shift, signal = np.zeros(len(self.scores)), 0.0
        for name, release in seen.releases.items():
            strength = (release.query.clip_norm / release.noise_std) ** 2
            self.whole += strength
            if not self.canaries.has_room(release.query):
                continue
            self.attacked += strength
            signal += strength
            factor = release.query.clip_norm / release.noise_std**2
            shift += factor * self.canaries.directions(release.query).along(release.rest)
            self._sums[name] = self._sums.get(name, 0.0) + factor * release.noisy
            self._directions[name] = self.canaries.directions(release.query)
        if signal:
            ratio = shift - signal / 2  # log of the density with this user over that without
            q = self.sampling
            self.scores += ratio if q == 1 else np.logaddexp(np.log1p(-q), np.log(q) + ratio)

    def finish(self) -> float:
        """Fill `correlations`, and return their deviation where nobody is in."""
        variance = 0.0
        for name, total in self._sums.items():
            self.correlations += self._directions[name].along(total)
            variance += float(total @ total) / total.size
        return variance**0.5


def attack(
    target: Target,
    canaries: int | None = None,
    *,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> Result:
    """Insert `canaries` canary users (None: `fitting`), run, and bound epsilon from below.

    Raises: InputError for a run without privacy, which claims nothing, or when no query has room for the canaries.
    """
    if not target.scenario.privacy.private:
        raise InputError("--kind canary: a run without privacy claims no epsilon to test; use --kind membership")
    if canaries is None:
        canaries = fitting(target.setup().plan)
    if canaries < 10:
        raise InputError(f"--canaries {canaries}: fewer than 10 say nothing; 1000 is usual")
    users = len(target.users)
    crowd = target.with_users(with_empty_users(target.users, canaries))
    setup = crowd.setup()
    included = np.random.default_rng([target.seed, 1]).random(canaries) < 0.5
    planted = Canaries(np.arange(users, users + canaries), included, target.seed)
    plan = setup.plan
    sizes = [query.size for queries in plan.rounds for query in queries.values()]
    if not any(size >= canaries for size in sizes):
        raise InputError(
            f"--canaries {canaries}: the largest query has {max(sizes, default=0)} numbers, room for as many canaries; "
            "use fewer"
        )
    watching = CanaryScores(planted, plan.config.sampling)
    watched = watch(setup, crowd.users, watching.see, planted, progress=progress)
    return conclude(watching, watched, confidence, target.seed)


def fitting(plan: PrivacyPlan) -> int:
    """Return the most canaries, of 200 to 1,000, for which queries with room have 85 % of the budget; else 1,000."""
    queries = [query for queries in plan.rounds for query in queries.values()]
    whole = sum(query.budget_share for query in queries)
    for count in sorted({MOST, *(query.size for query in queries)}, reverse=True):
        room = sum(query.budget_share for query in queries if query.size >= count)
        if FEWEST <= count <= MOST and room >= 0.85 * whole:
            return count
    return MOST


def conclude(watching: CanaryScores, watched: Watched, confidence: float, seed: int) -> Result:
    """Compute the bounds and the verdict from the scores of a run."""
    config, included = watched.setup.plan.config, watching.canaries.included
    proven, delta, scores = watched.epsilon, config.delta, watching.scores
    thresholds = [part * (proven or 1.0) for part in THRESHOLDS]
    methods = 3 if config.sampling == 1 else 2
    each = 1 - (1 - confidence) / methods
    one_run, guesses, correct = best_one_run(scores, included, delta, each)
    independent = "canaries do not sway each other's scores (their directions are orthogonal)"
    bounds = [
        Bound("one run (Steinke, Nasr, Jagielski 2023)", one_run, "fair coins alone"),
        Bound(
            "two-sided Clopper-Pearson (Nasr et al. 2021)",
            best_two_sided(scores, included, thresholds, delta, each),
            independent,
        ),
    ]
    if config.sampling == 1:
        mu = gaussian_mu_bound(len(scores), int(((scores > 0) == included).sum()), each)
        bounds.append(
            Bound("Gaussian DP (Nasr et al. 2023)", gaussian_epsilon(mu, delta), f"{independent}; noise is Gaussian")
        )
    spread = watching.finish()
    lower = max(bound.epsilon for bound in bounds)
    accused = proven is not None and lower > proven
    false_positives, _, true_positives, inside = errors_at(scores, included, 0.0)
    verdict = "REFUTES" if accused else "does not refute"
    return Result(
        kind="canary",
        adversary="model_recipients",
        threat_model=(
            "knows all other users and what each canary would add; not who is in, and with sampling not who takes part"
        ),
        observed="every noisy sum of the run",
        figures={
            "canaries": len(scores),
            "included": inside,
            "guesses": guesses,
            "correct": correct,
            "false_positives": false_positives,
            "true_positives": true_positives,
            "attacked_part_of_budget": f"{watching.attacked / watching.whole:.4f}",
            "rounds": watched.outcome.rounds,
            "sampling": repr(config.sampling),
            "users": watched.setup.federation.users - len(scores),
        },
        seed=seed,
        accused=accused,
        says=(
            f"the attack shows epsilon >= {lower:.2f} with {confidence:.0%} confidence, which {verdict} the proven "
            f"{proven:.2f}"
            if proven is not None
            else "no epsilon was proven"
        ),
        confidence=confidence,
        proven=proven,
        delta=delta,
        bounds=tuple(bounds),
        estimate=one_shot_estimate(watching.correlations[included], spread, delta),
    )
