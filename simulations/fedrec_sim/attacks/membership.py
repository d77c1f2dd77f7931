"""Membership inference: was this person, with this history, among the users of the run?

Suspects are the run's own users, and as many inserted ones with unusual histories: each is in or out by a fair coin.
Two attackers guess. One has all other histories and every noisy sum, and searches the sums for each suspect's
contribution. The other has only the released model, and measures how well its fit explains the suspect's events. Both
are tried with the scenario's privacy and without any.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedrec.audit.empirical.lower_bounds import best_one_run
from fedrec.data.histories import Histories
from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import Contribution, SumQuery
from fedrec_sim.attacks.canaries import WithCanaries
from fedrec_sim.attacks.crowd import with_unusual_users
from fedrec_sim.attacks.record import Bound, Result
from fedrec_sim.attacks.recorder import Observation
from fedrec_sim.attacks.success import area, area_figures
from fedrec_sim.attacks.target import Progress, Target, Watched, silent, watch

TARGETS = 400
AT_ONCE = 256
FEWEST = 40
NUMBERS = 100_000_000
"""Most numbers of all suspects' parts in one query. Large queries therefore allow fewer suspects."""


class Suspects:
    """Users at `positions` who are in or out by coins. Their contributions are kept until the sums of the round.

    Where all users take part in every round, the coins are estimated together, by the best linear estimate for
    overlapping histories. That needs memory for the suspects' parts; otherwise each suspect is scored alone.
    """

    def __init__(self, positions: np.ndarray, included: np.ndarray, sampling: float, *, private: bool) -> None:
        self.positions, self.included, self.sampling, self.private = positions, included, sampling, private
        self._ratios = np.zeros(len(positions))
        self._overlaps: np.ndarray | None = np.zeros((len(positions), len(positions))) if sampling == 1 else None
        self._parts: dict[str, list[tuple[Contribution, Tensor, np.ndarray, Tensor]]] = {}

    def plant(self, query: SumQuery, contribution: Contribution, rows: Tensor, which: np.ndarray) -> Contribution:
        weights = clip_weights(contribution, query.clip_norm) if self.private else contribution.unit_weights()
        self._parts.setdefault(query.name, []).append((contribution, rows, which, weights))
        out = ~self.included[which]
        silenced = rows[torch.from_numpy(out).to(rows.device)]
        return WithCanaries(contribution, silenced, which[out], np.zeros(int(out.sum())), None, query)

    def see(self, seen: Observation) -> None:
        """Add the evidence of a round's sums."""
        ratio, present = np.zeros(len(self._ratios)), np.zeros(len(self._ratios), dtype=bool)
        for name, parts in self._parts.items():
            release = seen.releases[name]
            rest = torch.from_numpy(release.rest).float()
            for contribution, rows, _, weights in parts:  # the mean contribution of the suspects over their coins
                half = torch.zeros_like(weights)
                half[rows] = 0.5 * weights[rows]
                rest -= contribution.weighted_sum(half).detach().cpu().reshape(-1)
            variance = release.noise_std**2 or 1.0
            if self._overlaps is not None and len(ratio) * release.query.size > NUMBERS:
                self._overlaps = None
            kept = torch.zeros(len(ratio), release.query.size) if self._overlaps is not None else None
            for contribution, rows, which, weights in parts:
                present[which] = True
                for row, suspect in zip(rows.tolist(), which.tolist(), strict=True):
                    part = contribution.dense(row).detach().cpu().reshape(-1) * float(weights[row])
                    ratio[suspect] += float(rest @ part) / variance
                    if kept is not None:
                        kept[suspect] = part
            if kept is not None and self._overlaps is not None:
                self._overlaps += (kept @ kept.T).double().numpy() / variance
        q = self.sampling
        update = ratio if q == 1 else np.logaddexp(np.log1p(-q), np.log(q) + ratio)
        self._ratios += np.where(present, update, 0.0)
        self._parts = {}

    @property
    def scores(self) -> np.ndarray:
        """Scores, (suspects,): the higher, the more likely in."""
        if self._overlaps is None:
            return self._ratios
        # ratios = overlaps (coin - 1/2) + noise with covariance `overlaps`; a coin has variance 1/4.
        ridge = 4.0 if self.private else 1e-6 * max(self._overlaps.trace() / len(self._overlaps), 1e-30)
        solved: np.ndarray = np.linalg.solve(self._overlaps + ridge * np.eye(len(self._overlaps)), self._ratios)
        return solved


def attack(
    target: Target, *, targets: int = TARGETS, confidence: float = 0.95, progress: Progress = silent
) -> list[Result]:
    """Run both attackers. targets: number of suspects; half of them, if there are so many, are the run's own users."""
    private = target.scenario.privacy.private
    plan = target.setup().plan
    largest = max((query.size for queries in plan.rounds for query in queries.values()), default=1)
    targets = min(targets, max(FEWEST, NUMBERS // largest))
    draw = np.random.default_rng([target.seed, 2])
    own = np.sort(draw.permutation(np.flatnonzero(target.users.lengths > 0))[: targets // 2])
    unusual = targets - targets // 2
    crowd = target.with_users(with_unusual_users(target.users, unusual, target.seed))
    positions = np.concatenate([own, len(target.users) + np.arange(unusual)])
    included = draw.random(len(positions)) < 0.5
    found = {}
    for name, one in {"without": crowd.with_privacy(epsilon="none"), "with": crowd}.items():
        if name == "with" and not private:
            continue
        found[name] = _run(one, positions, included, progress)
    return [_result(found, view, included, len(own), confidence, target.seed) for view in VIEWS]


Found = dict[str, tuple[Watched, np.ndarray, np.ndarray]]


class View(NamedTuple):
    """The view of an attacker. place: position of its scores in the result of `_run`."""

    place: int
    kind: str
    threat_model: str
    observed: str


VIEWS = (
    View(
        1,
        "membership from the noisy sums",
        "knows all other users and the suspect's history; guesses whether the suspect was in",
        "every noisy sum of the run",
    ),
    View(
        2,
        "membership from the model",
        "knows the suspect's history and nothing of the others; guesses whether the suspect was in",
        "the released model alone",
    ),
)


def _run(
    target: Target, positions: np.ndarray, included: np.ndarray, progress: Progress
) -> tuple[Watched, np.ndarray, np.ndarray]:
    """Return the watched run, and the suspects' scores by its transcript and by its model."""
    setup = target.setup(stream=2)
    suspects = Suspects(positions, included, setup.plan.config.sampling, private=setup.plan.private)
    watched = watch(setup, target.users, suspects.see, suspects, progress=progress)
    model = setup.algorithm.release(watched.outcome.shared)
    return watched, suspects.scores, fit_scores(model, target.users, positions, target.seed)


def fit_scores(model: ReleasedModel, users: Histories, positions: np.ndarray, seed: int) -> np.ndarray:
    """Return the mean score of a user's own events above that of all items, in deviations, (positions,)."""
    found = []
    for start in range(0, len(positions), AT_ONCE):
        batch: UserBatch = users.batch(positions[start : start + AT_ONCE], seed)
        scores = model.score(model.fit(batch)).double()
        own = torch.zeros(len(batch), dtype=torch.float64).index_add_(
            0, batch.owners, scores[batch.owners, batch.items]
        )
        above = own / batch.lengths.clamp(min=1) - scores.mean(1)
        found.append((above / scores.std(1).clamp(min=1e-12)).numpy())
    return np.concatenate(found) if found else np.zeros(0)


def _result(found: Found, view: View, included: np.ndarray, own: int, confidence: float, seed: int) -> Result:
    place = view.place
    groups = {"own_users": slice(0, own), "unusual_users": slice(own, None)}
    areas = {
        name: {group: area_figures(np.asarray(run[place])[part], included[part]) for group, part in groups.items()}
        for name, run in found.items()
    }
    bounds: tuple[Bound, ...] = ()
    proven = delta = None
    guesses: dict[str, int] = {}
    if "with" in found:
        watched, scores = found["with"][0], np.asarray(found["with"][place])
        proven, delta = watched.epsilon, watched.setup.plan.config.delta
        epsilon, number, correct = best_one_run(scores, included, delta, confidence)
        guesses = {"guesses": number, "correct": correct}
        bounds = (Bound("one run (Steinke, Nasr, Jagielski 2023)", epsilon, "fair coins alone"),)
    lower = max((bound.epsilon for bound in bounds), default=0.0)
    off, on = (
        area(np.asarray(found[name][place]), included)[0] if name in found else None for name in ("without", "with")
    )
    against = "" if on is None else f", with the run's privacy {on:.2f} (epsilon >= {lower:.2f})"
    return Result(
        kind=view.kind,
        adversary="model_recipients",
        threat_model=view.threat_model,
        observed=view.observed,
        figures={
            "suspects": len(included),
            "own_users": own,
            "included": int(included.sum()),
            "without_privacy": areas.get("without"),
            "with_privacy": areas.get("with"),
            **guesses,
        },
        seed=seed,
        accused=proven is not None and lower > proven,
        says=f"in-or-out is recognised with an AUC of {off:.2f} without privacy{against}; a coin has 0.50",
        confidence=confidence,
        proven=proven,
        delta=delta,
        bounds=bounds,
    )
