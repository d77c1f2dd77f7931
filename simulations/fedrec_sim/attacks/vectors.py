"""Read-out: what the published vectors of items reveal of the texts that they were made from.

Vectors contain nothing of users: they are made from the catalogue alone. But a publisher who keeps the texts secret and
ships their vectors reveals much of them. Three attackers, none of whom sees a text that he is asked for:

- one who has labels (genres) or numbers (years) of half the items learns a ridge on the vectors, and guesses those of
  the other half;
- one who has a list of candidate texts, the right one among them, encodes each with the same public encoder, and takes
  the nearest. The candidates are one column (titles), while the vector is of a sentence of several.

A stronger attacker trains a network that writes texts (Morris et al. 2023, "Text Embeddings Reveal (Almost) As Much As
Text"): these figures are lower bounds.
"""

from typing import Any

import numpy as np

from fedrec.data.catalogue import Block, Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.encoders.base import DEFAULTS, encoder
from fedrec_sim.attacks.record import Result
from fedrec_sim.attacks.success import share_figures
from fedrec_sim.attacks.target import Progress, Target, silent

ITEMS = 4000
"""Most items that are asked for or learned from."""
CANDIDATES, ASKED = 1000, 200
"""Texts that the attacker has to choose from, and how many of them are asked for."""
RIDGE = 0.02
"""Ridge, relative to the mean of the kernel's diagonal."""


def attack(target: Target, *, confidence: float = 0.95, progress: Progress = silent) -> list[Result]:
    """Attack each column of vectors of the catalogue. Without one: no results."""
    catalogue = target.dataset.catalogue
    columns = [block for block in catalogue.blocks if isinstance(block, Vectors)]
    found = []
    for place, column in enumerate(columns):
        figures = read_out(catalogue, column, target.seed, confidence)
        found.append(_result(column, figures, target.seed, confidence))
        progress(place + 1, len(columns))
    return found


def read_out(catalogue: Catalogue, column: Vectors, seed: int, confidence: float = 0.95) -> dict[str, Any]:
    """Return the figures of every attacker on one column, by the name of the block that he asks for.

    Args:
        catalogue: the items with the truth.
        column: the published vectors.
        seed: of the halves and the candidates.
        confidence: of the intervals.
    """
    draw = np.random.default_rng([seed, 6])
    rows = draw.permutation(np.flatnonzero(column.values.any(1)))[:ITEMS]
    vectors = _unit(column.values[rows])
    figures: dict[str, Any] = {}
    for block in catalogue.blocks:
        if len(rows) >= 20 and (read := _asked(block, vectors, rows, confidence)) is not None:
            figures[block.name] = read
        elif isinstance(block, Texts) and (nearest := _nearest(block, column, rows, confidence)) is not None:
            figures[block.name] = nearest
    return figures


def _asked(block: Block, vectors: np.ndarray, rows: np.ndarray, confidence: float) -> dict[str, Any] | None:
    """Guess labels or numbers of the second half of the items from those of the first."""
    if isinstance(block, Categories):
        truth = block.membership[rows].astype(float)
        known = truth.any(1)
    elif isinstance(block, Numbers):
        truth = block.values[rows][:, None]
        known = np.isfinite(truth[:, 0])
    else:
        return None
    vectors, truth = vectors[known], truth[known]
    half = len(truth) // 2
    if half < 10:
        return None
    guesses = _ridge(vectors[:half], truth[:half], vectors[half:])
    learned, there = truth[:half], truth[half:]
    if isinstance(block, Categories):
        usual = int(learned.sum(0).argmax())
        right = int(there[np.arange(len(there)), guesses.argmax(1)].sum())
        return {
            "asked": len(there),
            "a_label_right": share_figures(right, len(there), confidence),
            "most_frequent_label": share_figures(int(there[:, usual].sum()), len(there), confidence),
        }
    errors, plain = np.abs(guesses - there), np.abs(np.median(learned) - there)
    return {
        "asked": len(there),
        "mean_error": f"{errors.mean():.4g}",
        "mean_error_of_the_median": f"{plain.mean():.4g}",
    }


def _nearest(block: Texts, column: Vectors, rows: np.ndarray, confidence: float) -> dict[str, Any] | None:
    """Choose the text of each asked item from the candidates; None where the encoder is not one that runs here."""
    name = column.encoder.partition(" ")[0]
    if name not in DEFAULTS["text"] or encoder(name).lacking():
        return None
    held = [int(row) for row in rows if block.texts[row].strip()][:CANDIDATES]
    if len(held) < 2:
        return None
    sentences = [f"{block.name[:1].upper()}{block.name[1:]}: {' '.join(block.texts[row].split())}" for row in held]
    made = encoder(name)()
    made.prepare(sentences)
    candidates = _unit(np.concatenate([made.encode(sentences[at : at + 16], "text") for at in range(0, len(held), 16)]))
    published = _unit(column.values[held[:ASKED]])
    scores = (published - published.mean(0)) @ (candidates - candidates.mean(0)).T  # (asked, candidates)
    own = scores[np.arange(len(scores)), np.arange(len(scores))][:, None]
    places = (scores > own).sum(1)
    return {
        "asked": len(scores),
        "candidates": len(held),
        "right": share_figures(int((places == 0).sum()), len(scores), confidence),
        "among_the_first_10": share_figures(int((places < 10).sum()), len(scores), confidence),
        "guess": f"{1 / len(held):.4f}",
    }


def _ridge(learned: np.ndarray, truth: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return guesses (A, t) for `asked` (A, d) from `learned` (L, d) with `truth` (L, t)."""
    centre, middle = learned.mean(0), truth.mean(0)
    wide = learned - centre
    gram = wide.T @ wide
    ridge = RIDGE * gram.trace() / len(gram)
    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), wide.T @ (truth - middle))
    found: np.ndarray = (asked - centre) @ weights + middle
    return found


def _unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    found: np.ndarray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return found


def _result(column: Vectors, figures: dict[str, Any], seed: int, confidence: float) -> Result:
    told = []
    for name, each in figures.items():
        if "a_label_right" in each:
            right, usual = (float(each[key]["share"]) for key in ("a_label_right", "most_frequent_label"))
            told.append(f"a label of '{name}' {right:.0%} right (most frequent one {usual:.0%})")
        elif "right" in each:
            told.append(f"'{name}' {float(each['right']['share']):.0%} right among {each['candidates']:,}")
        else:
            told.append(f"'{name}' within {each['mean_error']} (median alone {each['mean_error_of_the_median']})")
    return Result(
        kind=f"read-out of the vectors '{column.name}'",
        adversary="model_recipients",
        threat_model="has labels and numbers of half the items; candidate texts, and the public encoder",
        observed="the vectors of the catalogue, which are public and hold nothing of users",
        figures={"encoder": column.encoder or "not named", "width": column.values.shape[1], "read": figures},
        seed=seed,
        accused=False,
        says="; ".join(told) or "nothing to compare with: the catalogue has no labels, numbers or texts",
        confidence=confidence,
    )
