"""The figures of RecBole and LensKit on a small random question, made by `fixtures/reference_metrics.py`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.evaluation.exposure import exposure
from fedrec.evaluation.metrics import measure
from fedrec.evaluation.ranking import Ranks, ranks
from fedrec.evaluation.ratings import rating_errors
from tests.core.evaluation.table_model import Table, histories

ASKED = json.loads((Path(__file__).parent / "fixtures" / "reference_metrics.json").read_text(encoding="utf-8"))
RECBOLE, LENSKIT = ASKED["recbole"]["figures"], ASKED["lenskit"]["figures"]


class Each(Table):
    """One row of scores and of predicted ratings for each user, in the order of the users."""

    def fit(self, users):
        return {"row": torch.arange(len(users))}

    def predict(self, state, candidates):
        rows = [*ASKED["predicted"]]
        ends = candidates.shape[1]
        return torch.tensor([row + [0.0] * (ends - len(row)) for row in rows])


@pytest.fixture(scope="module")
def question() -> tuple[Split, Each, Ranks]:
    train = histories(ASKED["train"], 40)
    held = histories(ASKED["held"], 40)
    rated = np.array([r for row in ASKED["ratings"] for r in row], dtype=np.float32)
    many = Histories(held.offsets, held.items, 40, ratings=rated)
    split = Split(train, train, many.items[many.offsets[:-1]], train, None, "reference", many)
    model = Each(torch.tensor(ASKED["scores"]).float())
    return split, model, ranks(model, split)


def test_accuracy_is_recboles_and_lenskits(question):
    names = ("hr@10", "mrr@10", "map@10", "recall@10", "ndcg@10", "precision@10", "gauc")
    found = measure(question[2].protocols["full"], names)
    for name in names:
        assert found[name] == pytest.approx(RECBOLE[name.replace("hr", "hit")], abs=1e-9)
    # LensKit divides recall by at most k, and discounts nothing at the second place (Jarvelin and Kekalainen's base 2).
    for name, theirs in {
        "hr@10": "Hit",
        "mrr@10": "RecipRank",
        "map@10": "AveragePrecision",
        "precision@10": "Precision",
    }.items():
        assert found[name] == pytest.approx(LENSKIT[theirs], abs=1e-9)


def test_exposure_is_recboles_and_lenskits(question):
    split, _, found = question
    shown = exposure(found, split)
    assert shown["gini@10"] == pytest.approx(RECBOLE["giniindex@10"], abs=1e-9)
    assert shown["gini@10"] == pytest.approx(LENSKIT["ListGini"], abs=1e-6)
    assert shown["popularity@10"] == pytest.approx(RECBOLE["averagepopularity@10"], abs=1e-9)
    assert shown["tail@10"] == pytest.approx(RECBOLE["tailpercentage@10"], abs=1e-9)
    assert float(found.listed.double().mean()) == pytest.approx(RECBOLE["itemcoverage@10"], abs=1e-9)


def test_errors_of_ratings_are_recboles_and_lenskits(question):
    split, model, _ = question
    found = rating_errors(model, split)
    for name in ("rmse", "mae"):
        assert found[name] == pytest.approx(RECBOLE[name], abs=1e-6)
        assert found[name] == pytest.approx(LENSKIT[name.upper()], abs=1e-6)
    assert found["ratings"] == sum(map(len, ASKED["ratings"]))
    assert "accuracy" not in found  # nobody rated anything in training: there is no scale to round to
