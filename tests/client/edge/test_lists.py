"""The lists of a device: equal to the released model's in PyTorch, and to a full refit after every event."""

import asyncio
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fedrec_client import AsyncEdgeClient, EdgeClient, Event, Filters
from fedrec_client.edge.kinds_of_events import KINDS, Reading
from fedrec_client.store import Recorded

import fedrec
from fedrec.errors import InputError
from fedrec.model import ReleasedModel
from fedrec.ondevice.released import load
from tests.client.edge.devices import IDS, als, device, features, kernel_rank, listed, of_ratings, released
from tests.client.store.stores import child, ended

IDS_AT = {item: place for place, item in enumerate(IDS)}
HISTORY = [3, 17, 4, 11, 28, 5]


@pytest.mark.parametrize("model", [als, kernel_rank])
def test_a_device_lists_what_the_python_api_lists(tmp_path: Path, model: Callable[[], ReleasedModel]) -> None:
    run = released(model(), tmp_path / "run")
    whole = fedrec.load_model(run / "release" / "model")
    with device(tmp_path / "device", run) as client:
        for count in range(len(HISTORY) + 1):
            expected = whole.recommend(history=[IDS[n] for n in HISTORY[:count]], k=12)
            found = client.recommend(12, diversity=0.0)
            assert [each.item for each in found] == expected["item"].to_list()
            assert [each.score for each in found] == pytest.approx(expected["score"].to_list(), rel=1e-5)
            assert {each.why for each in found} == {"exact" if count else "popular"}
            if count < len(HISTORY):
                client.record(IDS[HISTORY[count]], "like" if count % 2 else "view")


@pytest.mark.parametrize("model", [als, kernel_rank, of_ratings])
def test_the_list_after_an_event_is_that_of_a_full_refit(tmp_path: Path, model: Callable[[], ReleasedModel]) -> None:
    """Bit for bit, also for events of the past, opinions that change, repeats, and items that nobody knows."""
    steps = [("view", 3, 10.0), ("rating", 4, 20.0), ("rating", 9, 15.0), ("dislike", 4, 30.0), ("like", 7, None)]
    steps += [("view", 3, 40.0), ("like", 4, 50.0), ("rating", 9, 60.0), ("view", 99, 70.0), ("rating", 8, 80.0)]
    run = released(model(), tmp_path / "run")
    seen = set()
    with device(tmp_path / "device", run) as client:
        before = []
        for number, (kind, item, time) in enumerate(steps):
            before.append(listed(client))
            client.record_all([Event(f"item-{item}", kind, time, 1 + number % 5)])
            with device(tmp_path / "device") as fresh:
                assert listed(client) == listed(fresh)
            seen.add(tuple(listed(client)))
        for expected in reversed(before):
            assert client.undo() is not None
            assert listed(client) == expected
        assert client.undo() is None
    assert len(seen) > 4


@pytest.mark.parametrize("model", [als, kernel_rank, of_ratings])
def test_random_steps_give_the_list_of_a_full_refit(tmp_path: Path, model: Callable[[], ReleasedModel]) -> None:
    """Two clients take turns: each list equals that of a fit of the store's events, made here without any state."""
    steps = random.Random(7)
    run = released(model(), tmp_path / "run")
    form = load(run / "release" / "model")
    with device(tmp_path / "device", run) as one, device(tmp_path / "device") as two:
        for _ in range(60):
            client, other = steps.choice([(one, two), (two, one)])
            act = steps.random()
            if act < 0.1:
                client.undo()
            elif act < 0.13:
                client.forget(f"item-{steps.randrange(30)}")
            elif act < 0.15:
                client.forget(before=steps.uniform(0, 50))
            else:
                kind, time = steps.choice(KINDS), steps.choice([None, steps.uniform(0, 99)])
                client.record_all([Event(f"item-{steps.randrange(32)}", kind, time, steps.randint(1, 5))])
            if steps.random() < 0.5:
                rated = model is of_ratings
                past = Reading(IDS_AT.get, rated=rated, min_rating=None).read(client.events())
                left_out = np.concatenate([past.seen, past.history.disliked])
                items, scores = form.top(form.fit(past.history), 9, left_out)
                expected = [(IDS[item], score) for item, score in zip(items.tolist(), scores.tolist(), strict=True)]
                assert listed(client, 9) == listed(other, 9) == expected


def test_which_event_counts_how() -> None:
    def past(*events: Event, rated: bool = False, least: float | None = None) -> tuple[list, list | None, list, list]:
        made = [Recorded(number, event) for number, event in enumerate(events, 1)]
        find = {str(n): n for n in range(9)}.get
        found = Reading(find, rated=rated, min_rating=least).read(made)
        ratings = None if found.history.ratings is None else found.history.ratings.tolist()
        return found.history.items.tolist(), ratings, found.history.disliked.tolist(), found.seen.tolist()

    view, like, bad, low = Event("1"), Event("2", "like"), Event("3", "dislike"), Event("4", "rating", None, 2.0)
    assert past(view, like, bad, low) == ([1, 2, 4], None, [3], [1, 2, 4])
    assert past(view, like, bad, low, least=3.0) == ([1, 2], None, [3, 4], [1, 2, 4])
    assert past(view, like, bad, low, rated=True, least=3.0) == ([4], [2.0], [3], [1, 2, 4])
    assert past(low, Event("4", "rating", None, 5.0), rated=True)[1] == [5.0]
    assert past(bad, Event("3", "view"))[0] == [], "a view changes no opinion"
    assert past(bad, Event("3", "like"))[0] == [3]
    assert past(like, Event("2", "dislike"))[:3] == ([], None, [2])
    assert past(view, like, view)[0] == [1, 2], "an item counts once, at its first event"
    assert past(Event("1", time=9.0), Event("2"), Event("3", time=1.0))[0] == [3, 1, 2]
    assert past(Event("1", "impression"), Event("elsewhere")) == ([], None, [], [])


def test_events_that_are_added_give_what_all_of_them_give() -> None:
    steps = random.Random(8)
    for rated, least in ((False, None), (False, 3.0), (True, None)):
        for late in (0.0, 0.05, 0.5):
            growing, made = Reading(IDS_AT.get, rated=rated, min_rating=least), []
            for number in range(1, 120):
                time = None if steps.random() < 0.2 else number - (steps.random() < late) * steps.randrange(50)
                made.append(
                    Recorded(number, Event(f"item-{steps.randrange(32)}", steps.choice(KINDS), time, number % 5))
                )
                if steps.random() < 0.05:
                    del made[steps.randrange(len(made))]
                if steps.random() < 0.3:
                    continue
                whole = Reading(IDS_AT.get, rated=rated, min_rating=least).read(made)
                found = growing.read(made)
                for name in ("items", "ratings", "disliked"):
                    assert np.array_equal(getattr(found.history, name), getattr(whole.history, name)), number
                assert np.array_equal(found.seen, whole.seen)


def test_an_unknown_item_counts_when_a_later_model_has_it(tmp_path: Path) -> None:
    old = released(als(), tmp_path / "old", [f"other-{n}" for n in range(len(IDS))])
    new = released(als(1), tmp_path / "new")
    with device(tmp_path / "device", old) as client, device(tmp_path / "known", new) as known:
        cold = listed(client)
        client.record(" item-7 ")
        assert listed(client) == cold
        with pytest.raises(InputError, match="no item with this id"):
            client.explain("item-7")
        client.install(new)
        known.record("item-7")
        assert listed(client) == listed(known)
        assert "item-7" not in [item for item, _ in listed(client)]


def test_a_cold_device_lists_what_is_popular_and_diverse(tmp_path: Path) -> None:
    run = released(als(), tmp_path / "run")
    with device(tmp_path / "device", run) as client:
        found = client.recommend(5)
        assert len(found) == 5
        assert {each.why for each in found} <= {"popular", "diverse"}
        assert client.explain("item-3").past == ()
    with device(tmp_path / "empty") as client:
        assert client.model is None
        client.record("item-1")
        with pytest.raises(InputError, match="no model is installed"):
            client.recommend()


def test_an_id_is_text_or_a_whole_number(tmp_path: Path) -> None:
    with device(tmp_path / "device") as client:
        for wrong in (None, True, 1.5, b"7", ["7"], "", "x" * 2000, "\ud800"):
            with pytest.raises(InputError) as caught:
                client.record(wrong)  # type: ignore[arg-type]
            assert "xxx" not in str(caught.value)
        for same in (7, np.int64(7), "7", " 7 "):
            client.record(same)
        client.record("Cafe\u0301")
        assert [each.event.item for each in client.events()] == ["7"] * 4 + ["Caf\u00e9"]
        assert client.forget(7) == 4
        assert client.forget("Cafe\u0301") == 1


def test_filters_exclusion_and_exploration(tmp_path: Path) -> None:
    run = released(als(), tmp_path / "run")
    with device(tmp_path / "device", run) as client:
        client.record("item-3")
        client.record("item-5", "dislike")
        names = [each.item for each in client.recommend(30)]
        assert len(names) == 28
        assert not {"item-3", "item-5"} & set(names)
        assert "item-3" in [each.item for each in client.recommend(30, exclude_seen=False)]
        some = client.recommend(30, filters=Filters(only=["item-1", "item-2", "nothing"], exclude=["item-2"]))
        assert [each.item for each in some] == ["item-1"]
        with pytest.raises(InputError, match="public=FILE"):
            client.recommend(filters=Filters(having={"taste": ["taste-1"]}))
        client.install(run, public=features(tmp_path / "public.safetensors"))
        found = client.recommend(30, filters=Filters(having={"taste": ["taste-1"]}, between={"year": (1990, 1993)}))
        assert {int(each.item[5:]) for each in found} == {n for n in range(30) if n % 4 == 1 and n % 7 <= 3} - {5}
        explored = client.recommend(5, explore=0.9, seed=4)
        assert "explored" in {each.why for each in explored}
        assert explored == client.recommend(5, explore=0.9, seed=4)


@pytest.mark.parametrize("model", [als, kernel_rank])
def test_reasons_sum_to_the_score_and_name_own_items(tmp_path: Path, model: Callable[[], ReleasedModel]) -> None:
    with device(tmp_path / "device", released(model(), tmp_path / "run")) as client:
        for item in HISTORY:
            client.record(IDS[item])
        for each in client.recommend(5):
            found = client.explain(each.item)
            assert found.score == pytest.approx(each.score, rel=1e-6)
            assert {share.name for share in found.past} == {IDS[item] for item in HISTORY}
            assert sum(share.value for share in found.groups) == pytest.approx(found.score - found.baseline, rel=1e-9)
            for shares in (found.past, found.groups):
                assert sum(abs(part.share) for part in shares) <= 1 + 1e-9
                assert [part.value for part in shares] == sorted((part.value for part in shares), reverse=True)
            assert {"popularity", "numbers"} <= {share.name for share in found.groups} or model is als
            assert sum(reason.value for reason in found.reasons) == pytest.approx(found.score - found.baseline)
            assert found.words.startswith("Because ")
        alike = client.similar("item-3", 4)
        assert len(alike) == 4
        assert all(-1.001 <= one.likeness <= 1.001 for one in alike)


def test_two_processes_see_each_others_events(tmp_path: Path) -> None:
    run = released(als(), tmp_path / "run")
    with device(tmp_path / "device", run) as client:
        cold = listed(client)

        def work(writing: int) -> None:
            with device(tmp_path / "device") as other:
                other.record("item-3")
                os.write(writing, b"x")

        number, reading = child(work)
        assert os.read(reading, 1) == b"x"
        ended(number)
        os.close(reading)
        assert listed(client) != cold
        with device(tmp_path / "alone", run) as alone:
            alone.record("item-3")
            assert listed(client) == listed(alone)
        with device(tmp_path / "device") as other:
            other.install(released(als(5), tmp_path / "new"))
            assert listed(client) == listed(other)
            other.forget(everything=True)
            assert client.events() == []
            assert listed(client) == listed(other)


def test_threads_share_a_client(tmp_path: Path) -> None:
    wrong: list[BaseException] = []
    with device(tmp_path / "device", released(als(), tmp_path / "run")) as client:

        def work(start: int) -> None:
            try:
                for n in range(start, start + 5):
                    client.record(f"item-{n}")
                    assert f"item-{n}" not in [each.item for each in client.recommend(5)]
                    client.explain("item-29")
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(5 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(client.events()) == 20
        with device(tmp_path / "device") as fresh:
            assert listed(client) == listed(fresh)


def test_the_same_in_asyncio(tmp_path: Path) -> None:
    """Every public method has its coroutine."""

    async def work() -> list[str]:
        async with await AsyncEdgeClient.open(tmp_path / "device", model=released(als(), tmp_path / "run")) as client:
            await asyncio.gather(*(client.record(f"item-{n}") for n in range(5)))
            return [each.item for each in await client.recommend(25)]

    found = asyncio.run(work())
    assert {f"item-{n}" for n in range(5)} | set(found) == set(IDS)
    methods = {name for name, value in vars(EdgeClient).items() if callable(value) and not name.startswith("_")}
    assert methods <= set(vars(AsyncEdgeClient)) | {"open"}
