"""Attribute inference: an attribute of a person, guessed from one message of the person's device.

The attacker has the messages of half the users with their attribute, learns a ridge classifier, and guesses the
attribute of the others. The attribute is `gender` where the data contain it (`ml-100k.user`). Otherwise it is whether a
user's events are of more popular items than the median user's. The attack tries both views of `reconstruction`, and
compares them with the guess that needs no message: the more frequent class.
"""

from pathlib import Path

import numpy as np
import polars as pl

from fedrec_sim.attacks.crowd import identities
from fedrec_sim.attacks.message import item_query, messages
from fedrec_sim.attacks.record import Result
from fedrec_sim.attacks.success import area_figures, share_figures
from fedrec_sim.attacks.target import Progress, Target, silent

TARGETS = 400
NUMBERS = 50_000_000
"""Most numbers in all messages together."""


def attack(
    target: Target, *, targets: int = TARGETS, confidence: float = 0.95, progress: Progress = silent
) -> list[Result]:
    """Attack from the server's view and from the model recipient's. Without a query with item rows: no results."""
    setup, users = target.setup(stream=4), target.users
    query = item_query(setup, users.n_items)
    if query is None:
        return []
    name, labels = attribute(target)
    draw = np.random.default_rng([target.seed, 4])
    count = max(4, min(targets, NUMBERS // query.size))
    positions = np.sort(draw.permutation(np.flatnonzero(labels >= 0))[:count])
    sent, released = [], []
    for done, message in enumerate(messages(target, setup, query, positions)):
        sent.append(message.sent)
        released.append(message.released)
        progress(done + 1, len(positions))
    truth = labels[positions] == 1
    known = draw.random(len(positions)) < 0.5
    noise = setup.plan.noise_std(0, query.name)
    views = {"server": np.array(sent), "model_recipients": np.array(released)}
    variances = {"server": 0.0, "model_recipients": noise**2}
    return [
        _result(view, views[view], views["server"], variances[view], truth, known, name, confidence, target.seed)
        for view in views
    ]


def attribute(target: Target) -> tuple[str, np.ndarray]:
    """Return the attribute's description and values, (users,) int64: 0 or 1, -1 where unknown."""
    users, name = target.users, target.scenario.data.name
    file = Path(target.data_dir or "") / name / f"{name}.user"
    if target.data_dir is not None and target.scenario.data.path is None and file.is_file():
        table = pl.read_csv(file, separator="\t", infer_schema_length=0)
        columns = {column.partition(":")[0]: column for column in table.columns}
        if {"user_id", "gender"} <= columns.keys():
            known = dict(zip(table[columns["user_id"]].to_list(), table[columns["gender"]].to_list(), strict=True))
            labels = [{"M": 0, "F": 1}.get(known.get(str(user), ""), -1) for user in identities(users).tolist()]
            return f"gender, from {file.name}", np.array(labels, dtype=np.int64)
    popularity = np.bincount(users.items, minlength=users.n_items)
    total = np.bincount(users.owners, weights=popularity[users.items], minlength=len(users))
    taste = total / np.maximum(users.lengths, 1)
    labels = (taste > np.median(taste[users.lengths > 0])).astype(np.int64)
    return "whether a taste is more popular than the median user's", np.where(users.lengths > 0, labels, -1)


def ridge_scores(learned: np.ndarray, labels: np.ndarray, targets: np.ndarray, variance: float) -> np.ndarray:
    """Return scores of `targets` (A, d) by a ridge on `learned` (L, d) with `labels` (L,) bool, in L x L memory.

    variance: variance of the noise on each number of the targets. `learned` has none, so it adds to the ridge.
    """
    centre = learned.mean(axis=0)
    wide = (learned - centre).astype(np.float64)
    kernel = wide @ wide.T
    ridge = kernel.trace() / len(kernel) + len(kernel) * variance
    weights = np.linalg.solve(kernel + ridge * np.eye(len(kernel)), np.where(labels, 1.0, -1.0) - _balance(labels))
    scores: np.ndarray = (targets - centre).astype(np.float64) @ (wide.T @ weights) + _balance(labels)
    return scores


def _balance(labels: np.ndarray) -> float:
    return float(2 * labels.mean() - 1)


def _result(
    view: str,
    targets: np.ndarray,
    learned: np.ndarray,
    variance: float,
    truth: np.ndarray,
    known: np.ndarray,
    name: str,
    confidence: float,
    seed: int,
) -> Result:
    scores = ridge_scores(learned[known], truth[known], targets[~known], variance)
    there = truth[~known]
    more = truth[known].mean() > 0.5
    right, base = int(((scores > 0) == there).sum()), int((there == more).sum())
    accuracy, baseline = (share_figures(hits, len(there), confidence) for hits in (right, base))
    areas = area_figures(scores, there)
    server = view == "server"
    return Result(
        kind=f"attribute inference by {'the server' if server else 'a model recipient'}",
        adversary=view,
        threat_model="has the messages and the attribute of half the users"
        + ("" if server else ", knows all other users exactly, and takes them off the noisy sum"),
        observed="one device's message of the first round" if server else "the noisy sum of the first round",
        figures={
            "attribute": name,
            "learned_from": int(known.sum()),
            "asked": len(there),
            "accuracy": accuracy,
            "more_frequent_class": baseline,
            **areas,
        },
        seed=seed,
        accused=False,
        says=(
            f"{float(accuracy['share']):.0%} right (AUC {float(areas['auc']):.2f}); the more frequent class alone is "
            f"{float(baseline['share']):.0%}"
        ),
        confidence=confidence,
    )
