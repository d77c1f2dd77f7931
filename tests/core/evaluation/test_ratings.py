"""Errors of predicted ratings against loops, whatever the chunk."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.errors import FedrecError, InputError
from fedrec.evaluation.ratings import RatingModel, mean_errors, rating_errors
from fedrec.evaluation.report import evaluate
from tests.core.evaluation.table_model import Table, histories


class Rater(Table):
    """Predicts the looked-up score as the rating."""

    def predict(self, state, candidates):
        return self.score(state, candidates)


def case(seed: int) -> tuple[Split, Rater]:
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(20) for _ in range(17)]
    known = histories([row[: row[0] % 5].tolist() for row in rows], 20)
    held = histories([row[5 : 5 + row[1] % 6].tolist() for row in rows], 20)
    known, held = (
        Histories(h.offsets, h.items, 20, ratings=rng.integers(1, 11, size=len(h.items)).astype(np.float32) / 2)
        for h in (known, held)
    )
    targets = np.array([held.row(user)[0] if len(held.row(user)) else -1 for user in range(17)])
    return Split(known, known, targets, known, None, "toy", held), Rater(torch.from_numpy(rng.normal(3, 1.5, (5, 20))))


@pytest.mark.parametrize("max_predictions", [1, 30, 10**6])
@pytest.mark.parametrize("order_free", [False, True])
def test_errors_equal_loops(max_predictions, order_free):
    split, model = case(0)
    errors, right = [], []
    levels = sorted(set(split.train.ratings.tolist()))
    for user in range(17):
        row = (int(split.device.row(user).sum()) + (not order_free)) % 5
        start = split.many.offsets[user]
        for place, item in enumerate(split.many.row(user)):
            said, true = float(model.table[row, item]), float(split.many.ratings[start + place])
            errors.append(said - true)
            right.append(min(levels, key=lambda level: (abs(level - said), -level)) == true)
    found = rating_errors(model, split, order_free=order_free, max_predictions=max_predictions)
    assert found == pytest.approx(
        {
            "rmse": math.sqrt(np.mean(np.square(errors))),
            "mae": np.mean(np.abs(errors)),
            "accuracy": np.mean(right),
            "ratings": len(errors),
        }
    )


def test_only_some_users():
    split, model = case(1)
    users = np.flatnonzero(split.many.lengths > 0)[:3]
    assert rating_errors(model, split, users)["ratings"] == split.many.lengths[users].sum()


def test_the_report_has_them_where_the_model_predicts_and_the_events_are_rated():
    split, model = case(2)
    assert isinstance(model, RatingModel)
    assert evaluate(model, split)["ratings"] == rating_errors(model, split)
    assert "ratings" not in evaluate(Table(model.table), split, extended=True)
    unrated = replace(split, many=replace(split.many, ratings=None))
    assert "ratings" not in evaluate(model, unrated, extended=True)
    assert "more" not in evaluate(model, split)


def test_what_cannot_be_measured_is_an_error():
    split, model = case(3)
    with pytest.raises(InputError, match="rated"):
        rating_errors(model, replace(split, many=None))
    with pytest.raises(InputError, match="held-out"):
        rating_errors(model, split, np.flatnonzero(split.many.lengths == 0))
    model.table[:] = torch.nan
    with pytest.raises(FedrecError, match="NaN"):
        rating_errors(model, split)


def test_the_means_equal_loops_over_training_ratings():
    split, _ = case(4)
    split.train.ratings[3] = split.many.ratings[2] = np.nan
    known = [
        (user, int(split.train.items[event]), float(split.train.ratings[event]))
        for user in range(17)
        for event in range(split.train.offsets[user], split.train.offsets[user + 1])
        if not math.isnan(split.train.ratings[event])
    ]
    whole = np.mean([stars for _, _, stars in known])
    low, high = min(stars for *_, stars in known), max(stars for *_, stars in known)
    errors = {name: [] for name in ("global mean", "user mean", "item mean", "user and item means")}
    for user in range(17):
        for event in range(split.many.offsets[user], split.many.offsets[user + 1]):
            item, true = int(split.many.items[event]), float(split.many.ratings[event])
            own = [stars for who, _, stars in known if who == user]
            others = [stars for _, what, stars in known if what == item]
            mine, theirs = np.mean(own) if own else whole, np.mean(others) if others else whole
            if not math.isnan(true):
                for name, said in zip(errors, (whole, mine, theirs, mine + theirs - whole), strict=True):
                    errors[name].append(min(max(said, low), high) - true)
    found = mean_errors(split)
    assert found.keys() == errors.keys()
    for name, values in errors.items():
        assert found[name] == pytest.approx({"rmse": np.sqrt(np.mean(np.square(values))), "mae": np.abs(values).mean()})
    with pytest.raises(InputError, match="holds out no rated events"):
        mean_errors(replace(split, many=replace(split.many, ratings=None)))
