"""The generated log with a planted order: repeatable, within its bounds, and the order is what predicts."""

import numpy as np

from fedrec.data.planted import generate


def test_the_next_item_is_the_turned_one_and_not_a_like_one() -> None:
    log = generate(3, 400, 200, 10)
    assert log.events.equals(generate(3, 400, 200, 10).events)
    assert not log.events.equals(generate(4, 400, 200, 10).events)
    items = log.events["item"].to_numpy().reshape(400, 10)
    assert all(len(set(row)) == 10 for row in items.tolist())
    assert log.items is not None
    vectors = np.array(log.items["vector"].to_list())
    now, then = vectors[items[:, :-1]].reshape(-1, 8), vectors[items[:, 1:]].reshape(-1, 8)
    turn = np.linalg.lstsq(now, then, rcond=None)[0]  # one fixed map explains most of the next vector
    assert np.linalg.norm(then - now @ turn) < 0.9 * np.linalg.norm(then)
    assert abs((now * then).sum(1).mean()) < 0.25
    assert (now @ turn * then).sum(1).mean() > 0.2
    backwards = np.linalg.lstsq(then, now, rcond=None)[0]
    assert np.linalg.norm(turn - backwards) > 0.5 * np.linalg.norm(turn)  # no symmetric relation


def test_any_number_of_users_and_events_can_be_asked_for() -> None:
    assert len(generate(0, 0, 50, 5).events) == 0
    assert len(generate(0, 3, 6, 40).events) == 3 * 2
