"""Reconstruction: the items of a person's history, guessed from one message of the person's device.

The attack is simple on purpose, and the same for every algorithm whose first query has a row for each item: rows far
from the middle row are the history. It has three views. The first is the server's without privacy. The second is the
server's with it: under trust `central` the clipped message WITHOUT noise, so that no epsilon holds against the server;
under `distributed` what is left where secure aggregation fails; under `local` the message itself.
The third is that of a model recipient with all other users' data, who still faces the noise.
"""

from dataclasses import replace

import numpy as np

from fedrec_sim.attacks.message import item_query, messages
from fedrec_sim.attacks.record import Result
from fedrec_sim.attacks.success import area
from fedrec_sim.attacks.target import Progress, Target, silent

TARGETS = 100
VIEWS = {
    "central": (
        "server",
        "sees each device's message before the sum, as the server does under trust model central",
        "the server sees messages before the noise, and no epsilon is claimed against it",
    ),
    "distributed": (
        "secure_aggregation_fails",
        "sees each device's message without its mask, as anyone does where secure aggregation fails",
        "each message carries one user's share of the noise, and masks hide it from the server",
    ),
    "local": (
        "server",
        "sees each device's message before the sum, as the server does under trust model local",
        "each message carries the whole noise",
    ),
}
"""Trust model -> the adversary that reads single messages, its view, and the reason for its success or failure."""


def attack(
    target: Target, *, targets: int = TARGETS, confidence: float = 0.95, progress: Progress = silent
) -> list[Result]:
    """Attack from the server's view and from the model recipient's."""
    setup, users = target.setup(stream=3), target.users
    query = item_query(setup, users.n_items)
    if query is None:
        return [_not_tried(target.seed)]
    draw = np.random.default_rng([target.seed, 3])
    positions = np.sort(draw.permutation(np.flatnonzero(users.lengths > 0))[:targets])
    popularity = np.bincount(users.items, minlength=users.n_items).astype(float)
    found: dict[str, list[tuple[float, float]]] = {"raw": [], "sent": [], "released": [], "popularity": []}
    for done, message in enumerate(messages(target, setup, query, positions)):
        mine = np.zeros(users.n_items, dtype=bool)
        mine[users.row(message.position)] = True
        for view in ("raw", "sent", "released"):
            found[view].append(_success(outstanding(getattr(message, view), users.n_items), mine))
        found["popularity"].append(_success(popularity - mine, mine))  # counts of the others alone
        progress(done + 1, len(positions))
    return [replace(each, confidence=confidence) for each in (_server(found, target), _recipient(found, target))]


def outstanding(message: np.ndarray, items: int) -> np.ndarray:
    """Return the distance of each item's row from the middle row, (items,)."""
    rows = message.reshape(items, -1).astype(np.float64)
    distance: np.ndarray = np.linalg.norm(rows - np.median(rows, axis=0), axis=1)
    return distance


def _success(scores: np.ndarray, mine: np.ndarray) -> tuple[float, float]:
    """Return area, and share of the history among as many highest scores; ties in the attack's worst order."""
    count = int(mine.sum())
    top = np.lexsort((mine, -scores))[:count]
    return area(scores, mine)[0], float(mine[top].mean())


def _figures(values: list[tuple[float, float]]) -> dict[str, str]:
    areas, shares = np.array(values).T
    return {
        "auc": f"{areas.mean():.4f}",
        "history_found": f"{shares.mean():.4f}",
        "whole_history_found": f"{(shares == 1).mean():.4f}",
    }


def _server(found: dict[str, list[tuple[float, float]]], target: Target) -> Result:
    raw, sent = (_figures(found[view]) for view in ("raw", "sent"))
    adversary, threat_model, reason = VIEWS[target.scenario.privacy.trust]
    return Result(
        kind="reconstruction by the server",
        adversary=adversary,
        threat_model=threat_model,
        observed="one device's message of the first round",
        figures={
            "users": len(found["raw"]),
            "without_privacy": raw,
            "with_privacy": sent,
            "guess_by_popularity": _figures(found["popularity"]),
        },
        seed=target.seed,
        accused=False,
        says=(
            f"{float(sent['history_found']):.0%} of a history is read off one message with privacy on "
            f"({float(raw['history_found']):.0%} off): {reason}"
        ),
    )


def _recipient(found: dict[str, list[tuple[float, float]]], target: Target) -> Result:
    released, guess = _figures(found["released"]), _figures(found["popularity"])
    private = target.scenario.privacy.private
    return Result(
        kind="reconstruction by a model recipient",
        adversary="model_recipients",
        threat_model="knows all other users exactly, and takes them off the noisy sum",
        observed="the noisy sum of the first round",
        figures={"users": len(found["raw"]), "with_privacy": released, "guess_by_popularity": guess},
        seed=target.seed,
        accused=False,
        says=(
            f"{float(released['history_found']):.0%} of a history is found behind the noise of the first round"
            if private
            else f"{float(released['history_found']):.0%} of a history is found: there is no noise"
        )
        + f"; who guesses the most popular items finds {float(guess['history_found']):.0%}",
    )


def _not_tried(seed: int) -> Result:
    return Result(
        kind="reconstruction by the server",
        adversary="server",
        threat_model="sees each device's message before the sum",
        observed="nothing: no query of the first round has a row for each item",
        figures={},
        seed=seed,
        accused=False,
        says="not tried: this attack needs a message with a row for each item; that is no evidence of safety",
    )
