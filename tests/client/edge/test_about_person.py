"""Answers to a questionnaire, private attributes and freshness: they change lists on the device and stay there."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fedrec_client import AsyncEdgeClient, EdgeClient, Freshness

from fedrec.cli import run as fedrec
from fedrec.errors import InputError, VerificationError
from fedrec.ondevice import lists
from fedrec.ondevice.public_items import PublicItems
from tests.client.edge.devices import IDS, als, device, features, kernel_rank, listed, of_ratings, released


@pytest.fixture(params=[als, kernel_rank])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EdgeClient]:
    with device(tmp_path / "device") as found:
        found.install(released(request.param(), tmp_path / "run"), public=features(tmp_path / "public.safetensors"))
        yield found


def test_answers_make_the_first_lists_and_end_with_real_events(client: EdgeClient, tmp_path: Path) -> None:
    new = listed(client)
    asked = client.questionnaire()
    name, labels = next(iter(asked.items()))
    assert set(labels) <= set(PublicItems.read(tmp_path / "public.safetensors", len(IDS)).labels[name])
    client.answer({name: labels[:2]})
    assert client.answers == {name: sorted(labels[:2])}
    chosen = listed(client)
    assert chosen != new
    assert {each.why for each in client.recommend(3)} == {"exact"}
    assert client.events() == []
    assert client.explain(chosen[0][0]).past == (), "labels are no past items"
    with device(tmp_path / "device") as again:
        assert listed(again) == chosen
    with device(tmp_path / "other") as other:
        other.install(tmp_path / "run", public=tmp_path / "public.safetensors")
        for number, item in enumerate(IDS[4:8]):
            client.record(item, time=100.0 + number)
            other.record(item, time=100.0 + number)
            assert (listed(client) == listed(other)) == (number >= 2), "from three events on answers do not count"
            assert {each.name for each in client.explain(IDS[9]).past} <= set(IDS[4:8])
        client.undo(), client.undo(), other.undo(), other.undo()
        assert listed(client) != listed(other)
        client.answer({})
        assert client.answers == {}
        assert listed(client) == listed(other)


def test_forgetting_everything_erases_answers_and_attributes(client: EdgeClient, tmp_path: Path) -> None:
    new = listed(client)
    name, labels = next(iter(client.questionnaire().items()))
    client.answer({name: labels[:1]})
    client.set_attribute("language", "Plattdeutsch")
    client.record(IDS[3])
    client.forget(IDS[3])
    assert client.answers == {name: labels[:1]}, "they are not derived from an event"
    assert client.attributes == {"language": "Plattdeutsch"}
    assert client.export_my_data(tmp_path / "mine.jsonl") >= 2
    files = [file for file in (tmp_path / "device").rglob("*") if file.is_file() and "models" not in file.parts]
    assert not any(word in file.read_bytes() for file in files for word in (b"Plattdeutsch", labels[0].encode()))
    client.forget(everything=True)
    assert (client.answers, client.attributes) == ({}, {})
    assert listed(client) == new


def test_attributes_have_limits(client: EdgeClient) -> None:
    client.set_attribute("age group", "40-49")
    client.set_attribute("language", "de")
    client.set_attribute("language", None)
    assert client.attributes == {"age group": "40-49"}
    for name, value in (("", "x"), ("x", ""), ("x" * 101, "y"), ("x", "y" * 1001)):
        with pytest.raises(InputError, match="give a name of"):
            client.set_attribute(name, value)
    for number in range(99):
        client.set_attribute(f"n{number}", "v")
    with pytest.raises(InputError, match="100 already"):
        client.set_attribute("one more", "v")
    client._store.set_state("answers", b"[1]")
    with pytest.raises(VerificationError, match="not written by fedrec"):
        client.recommend(3)


def test_labels_that_no_model_knows_are_refused_or_left_out(client: EdgeClient, tmp_path: Path) -> None:
    name, labels = next(iter(client.questionnaire().items()))
    with pytest.raises(InputError, match="has no label"):
        client.answer({name: ["nothing"]})
    with pytest.raises(InputError, match="no categories"):
        client.answer({"nothing": labels})
    client.answer({name: labels[:1]})
    before = listed(client)
    client._store.set_state("answers", json.dumps({name: [*labels[:1], "of an older model"], "gone": ["x"]}).encode())
    assert listed(client) == before
    client.install(released(of_ratings(), tmp_path / "rated"), public=tmp_path / "public.safetensors")
    assert client.recommend(3)
    with pytest.raises(InputError, match="learns from ratings alone"):
        client.answer({name: labels[:1]})
    client.install(tmp_path / "run")
    for call in (client.questionnaire, lambda: client.recommend(3, freshness=Freshness("year", 5))):
        with pytest.raises(InputError, match="public=FILE"):
            call()


def test_fresh_items_gain_as_asked(client: EdgeClient, tmp_path: Path) -> None:
    client.record(IDS[2])
    found = client.recommend(5, freshness=Freshness("year", 3.0, weight=2.0))
    model, now = client._state.current()
    years = PublicItems.read(tmp_path / "public.safetensors", len(IDS)).number("year")
    wish = lists.Wishes(
        k=5, exclude=now.past.seen, seen=True, freshness=lists.Freshness(np.nanmax(years) - years, 3.0, 2.0)
    )
    expected = lists.recommend(model.model, now.state, wish, model.rows)
    assert [(each.item, each.why) for each in found] == [(IDS[each.item], each.why) for each in expected]
    assert "fresh" in {each.why for each in found}
    plain = [years[IDS.index(each.item)] for each in client.recommend(5)]
    assert np.nanmean([years[IDS.index(each.item)] for each in found]) > np.nanmean(plain)
    with pytest.raises(InputError, match="no number 'yaer'"):
        client.recommend(5, freshness=Freshness("yaer", 3.0))
    with pytest.raises(InputError, match="half_life must be above 0"):
        client.recommend(5, freshness=Freshness("year", 0.0))


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path / "device")]
    run, public = released(als(), tmp_path / "run"), features(tmp_path / "public.safetensors")
    assert fedrec(["client", "install", str(run), "--public", str(public), *state]) == 0
    capsys.readouterr()
    assert fedrec(["client", "questions", "--json", *state]) == 0
    name, labels = next(iter(json.loads(capsys.readouterr().out).items()))
    assert fedrec(["client", "answer", f"{name}={labels[0]}", *state]) == 0
    assert capsys.readouterr().out == "Labels chosen: 1.\n"
    assert fedrec(["client", "recommend", "--json", "--fresh", "year:2", *state]) == 0
    assert {each["why"] for each in json.loads(capsys.readouterr().out)} <= {"exact", "fresh"}
    assert fedrec(["client", "answer", *state]) == 0
    assert capsys.readouterr().out == "Labels chosen: 0.\n"
    assert fedrec(["client", "recommend", "--fresh", "year", *state]) == 2
    assert "write BLOCK:HALF_LIFE" in capsys.readouterr().err


def test_the_coroutines(client: EdgeClient) -> None:
    async def asked() -> list[str]:
        other = AsyncEdgeClient(client)
        name, labels = next(iter((await other.questionnaire()).items()))
        await other.answer({name: labels[:1]})
        await other.set_attribute("language", "de")
        return [each.item for each in await other.recommend(3, freshness=Freshness("year", 3.0))]

    assert asyncio.run(asked()) == [each.item for each in client.recommend(3, freshness=Freshness("year", 3.0))]
